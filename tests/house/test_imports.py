"""The house rules of docs/architecture.md, walked over the code: who may import whom, and where time comes from."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = {"bot", "desk", "records", "console", "qa", "sandbox", "benchmarks", "server"}

MAY_IMPORT = {
    "bot": {"bot", "desk"},
    "desk": {"desk", "bot.errors", "bot.settings", "bot.ports"},
    "records": {
        "records",
        "desk.commands",
        "desk.database",
        "bot.events",
        "bot.tape",
        "bot.settings",
        "bot.errors",
        "bot.logs",
        "bot.ports",
        "bot.audio",
    },
    "console": {
        "console",
        "records",
        "bot.events",
        "bot.settings",
        "bot.errors",
        "bot.logs",
        "bot.ports",
        "bot.metrics",
    },
    "qa": {"qa", "bot", "records", "sandbox"},
    "sandbox": {"sandbox"},
}
LEAVES = {"bot/events.py", "bot/errors.py", "bot/steps.py", "bot/audio.py"}
# bot/app.py is the composition root; bot/serve.py and bot/doctor.py stand outside it and only start things.
EXCUSED = {"bot/app.py"}

ONLY = {
    "twilio": {"bot/carriers/twilio.py"},
    "pipecat.services.google": {"bot/gemini.py"},
    "sqlalchemy": {"desk", "records"},
    "alembic": {"desk", "records"},
}


def _files() -> Iterator[str]:
    for package in [*MAY_IMPORT, "server.py"]:
        root = ROOT / package
        for path in [root] if root.is_file() else sorted(root.rglob("*.py")):
            yield path.relative_to(ROOT).as_posix()


FILES = list(_files())


@cache
def _tree(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(), file)


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _within(module: str, allowed: set[str]) -> bool:
    return any(module == name or module.startswith(name + ".") for name in allowed)


def _is_ours(module: str) -> bool:
    return module.split(".")[0] in OURS


@pytest.mark.parametrize("file", FILES)
def test_a_package_imports_only_what_it_may(file: str) -> None:
    package = file.split("/")[0]
    if package == "server.py" or file in EXCUSED:
        return
    allowed = MAY_IMPORT[package]
    wrong = {
        module
        for module in _imports(_tree(file))
        # "from bot import errors" yields "bot" as well; the full name decides.
        if _is_ours(module) and "." in module and not _within(module, allowed)
    }
    assert not wrong, f"{file} may import {sorted(allowed)}, not {sorted(wrong)}"


@pytest.mark.parametrize("file", sorted(LEAVES))
def test_a_leaf_imports_nothing_of_ours(file: str) -> None:
    assert [module for module in _imports(_tree(file)) if _is_ours(module)] == []


@pytest.mark.parametrize("library", sorted(ONLY))
def test_a_library_is_known_in_one_place(library: str) -> None:
    users = {
        file
        for file in FILES
        if any(_within(module, {library}) for module in _imports(_tree(file))) and "sandbox" not in file
    }
    strays = {
        file for file in users if not any(file == place or file.startswith(place + "/") for place in ONLY[library])
    }
    assert users, f"nothing uses {library}: drop the rule"
    assert not strays, f"{library} belongs into {sorted(ONLY[library])}, not {sorted(strays)}"


TIME_AND_CHANCE = {
    ("time", None),
    ("datetime", "now"),
    ("datetime", "today"),
    ("datetime", "utcnow"),
    ("date", "today"),
    ("uuid", None),
    ("random", None),
    ("secrets", None),
    ("os", "urandom"),
}


@pytest.mark.parametrize(
    "file",
    [file for file in FILES if file.split("/")[0] in {"bot", "desk", "records", "console"} and file != "bot/ports.py"],
)
def test_time_and_chance_come_from_the_ports(file: str) -> None:
    tree = _tree(file)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            pair = (node.value.id, node.attr)
            if pair in TIME_AND_CHANCE or (node.value.id, None) in TIME_AND_CHANCE:
                found.append(f"line {node.lineno}: {node.value.id}.{node.attr}")
    imported = {module for module in _imports(tree)} & {"time", "uuid", "random", "secrets"}
    names_used = {name for name in imported if name != "time" or "from time" in ast.unparse(tree)}
    assert not found, f"{file}: use the clock and the ids of bot/ports.py ({found})"
    assert not (names_used - {"time"}), f"{file}: use the ids of bot/ports.py, not {sorted(names_used)}"


def test_the_environment_is_read_in_one_place() -> None:
    readers = {
        file
        for file in FILES
        for node in ast.walk(_tree(file))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr) in {("os", "environ"), ("os", "getenv")}
    }
    assert {file for file in readers if not file.startswith("sandbox/")} <= {"bot/settings.py"}


def test_no_module_has_grown_past_its_idea() -> None:
    long = {file: lines for file in FILES if (lines := len((ROOT / file).read_text().splitlines())) > 550}
    assert not long, f"more than one idea in {long}?"
