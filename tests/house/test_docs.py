"""The documentation is true: routes, commands and links, walked from the code."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from pydantic import SecretStr

from bot.app import create_app
from bot.settings import Settings
from bot.tape import TapeReader

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
README = (ROOT / "README.md").read_text()


def _routes(tmp_path: Path) -> set[str]:
    settings = Settings(
        _env_file=None,
        google_api_key=SecretStr("key"),
        twilio_account_sid="AC" + "0" * 32,
        twilio_auth_token=SecretStr("token"),
        data_dir=tmp_path,
    )
    paths: set[str] = set()
    pending = list(create_app(settings).routes)
    while pending:
        route = pending.pop()
        pending += getattr(getattr(route, "original_router", None), "routes", [])
        if path := getattr(route, "path", ""):
            paths.add(path)
    return paths - {"/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc"}


def test_every_route_is_documented_and_every_documented_route_exists(tmp_path: Path) -> None:
    written = set(re.findall(r"^\| `(?:GET|POST|WS) (/[^`]+)`", ARCHITECTURE, re.MULTILINE))
    assert _routes(tmp_path) == written


@pytest.mark.parametrize(
    "command",
    [
        "uv run server.py",
        "uv run pytest",
        "uv run server.py check",
        "-m sandbox call",
        "-m qa show",
        "-m qa verify",
        "-m records show",
        "-m records list",
        "-m records search",
    ],
)
def test_the_readme_shows_the_commands(command: str) -> None:
    assert command in README


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)(?:#[^)]*)?\)", page.read_text())
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_that_are_named_exist(page: Path) -> None:
    named = set(
        re.findall(
            r"`((?:bot|desk|qa|sandbox|tests|flows|benchmarks)/[\w./-]+\.(?:py|yaml|json|md))`", page.read_text()
        )
    )
    missing = {name for name in named if not (ROOT / name).exists()}
    assert missing == set()


def test_every_decision_is_listed() -> None:
    listed = (ROOT / "docs" / "decisions" / "README.md").read_text()
    files = {path.name for path in (ROOT / "docs" / "decisions").glob("0*.md")}
    assert files == set(re.findall(r"\((0[^)]+\.md)\)", listed))


def _lines(path: Path) -> list[str]:
    """A file as lines of text; a tape as its records."""
    if path.suffix == ".mcap":
        return [record.data.decode() for record in TapeReader(path)]
    return path.read_text().splitlines()


def test_nothing_names_a_machine_or_a_registry() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    pattern = re.compile(r"(^|[^\w/.-])/(tmp|work|root|home)/|index-url|files\.pythonhosted|pypi\.org/simple")
    bad = []
    for name in tracked:
        path = ROOT / name
        if name == "tests/house/test_docs.py" or path.suffix in {".png", ".npz"} or not path.is_file():
            continue
        bad += [f"{name}:{n}" for n, line in enumerate(_lines(path), 1) if pattern.search(line)]
    assert bad == []


def test_no_lock_file_is_tracked() -> None:
    tracked = subprocess.run(["git", "ls-files", "uv.lock"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert tracked.stdout == ""
