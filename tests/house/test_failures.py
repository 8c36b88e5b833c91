"""The runbook's table of failures is complete: every kind that the code can count is in a row of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from fakes.runbook import ROWS, Figure

from bot.carriers.media_stream import ProblemKind
from bot.errors import ModelFailure, StreamRefusal
from bot.events import ToolReturned
from bot.tape import TapeTrouble

ROOT = Path(__file__).parents[2]
SOURCES = [path for package in ("bot", "console", "desk", "records") for path in sorted((ROOT / package).rglob("*.py"))]
ANY_CODE = "12100"


def counted_of_tools() -> list[str]:
    """The results of a function that count as failures."""
    return [
        status
        for status in get_args(get_type_hints(ToolReturned)["status"])
        if Figure("failures_total").rises_with(ToolReturned("1", "book", status, {}, 1.0))
    ]


FAMILIES: dict[str, Sequence[str]] = {
    "carrier_": get_args(ProblemKind),
    "model_": get_args(ModelFailure),
    "stream_": get_args(StreamRefusal),
    "tape_": get_args(get_type_hints(TapeTrouble)["kind"]),
    "tool_": counted_of_tools(),
    "twilio_": [ANY_CODE],
}
"""What follows where the code writes only the beginning of a kind. Twilio's codes are many; one stands for all."""


class Kinds(ast.NodeVisitor):
    """The kinds of failure that a module records: as a `Trouble`, on the counter, or through a function for these.

    `unknown` are the places where the kind cannot be told from the code.
    """

    def __init__(self, source: str) -> None:
        self.found: set[str] = set()
        self.unknown: list[str] = []
        self._recorders = {"Trouble"}
        self._functions: list[ast.FunctionDef | ast.AsyncFunctionDef] = []
        tree, before = ast.parse(source), 0
        while before != len(self._recorders):
            # A function that hands its own argument on records too: what it is called with is looked at again.
            before = len(self._recorders)
            self.visit(tree)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._functions.append(node)
        self.generic_visit(node)
        self._functions.pop()

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        counts = ast.unparse(node.func).endswith("failures.labels")
        if counts or called in self._recorders:
            given = [*node.args[:1], *(word.value for word in node.keywords if word.arg in ("failure", "kind"))]
            self.found |= {kind for kind in self._read(given[0]) if kind}

    def _read(self, kind: ast.expr) -> Iterator[str]:
        match kind:
            case ast.Constant(value=str(text)):
                yield text
            case ast.IfExp(body=one, orelse=other):
                yield from (*self._read(one), *self._read(other))
            case ast.JoinedStr(values=[ast.Constant(value=str(begin)), ast.FormattedValue()]) if begin in FAMILIES:
                yield from (begin + rest for rest in FAMILIES[begin])
            case ast.Name(id=name) if self._functions and name in {arg.arg for arg in self._functions[-1].args.args}:
                self._recorders.add(self._functions[-1].name)
            case ast.Name(id=name) if self._functions and _is_read_from_trouble(self._functions[-1], name):
                return
            case _:
                self.unknown.append(ast.unparse(kind))


def _is_read_from_trouble(function: ast.AST, name: str) -> bool:
    """``case Trouble(failure=failure)``: it was recorded elsewhere."""
    return any(
        isinstance(pattern, ast.MatchClass)
        and ast.unparse(pattern.cls) == "Trouble"
        and any(isinstance(each, ast.MatchAs) and each.name == name for each in pattern.kwd_patterns)
        for pattern in ast.walk(function)
    )


def named_by(figure: Figure) -> set[str]:
    """The kinds that a row with this figure tells of."""
    if figure.name == "carrier_messages_bad_total":
        # Counted for each such message; the failure is told once for each kind and stream.
        return {f"carrier_{kind}" for kind in get_args(ProblemKind)}
    return {value for label, value in figure.labels if figure.name == "failures_total" and label == "kind"}


NAMED = {kind for row in ROWS if row.counter.startswith("`") for kind in named_by(Figure.of(row.counter))}


@pytest.mark.parametrize("path", SOURCES, ids=[str(path.relative_to(ROOT)) for path in SOURCES])
def test_every_failure_that_can_be_recorded_has_a_row(path: Path) -> None:
    kinds = Kinds(path.read_text())
    assert kinds.unknown == []
    assert kinds.found - NAMED == set()


def test_every_failure_of_a_row_can_be_recorded() -> None:
    found = {kind for path in SOURCES for kind in Kinds(path.read_text()).found}
    assert NAMED - found == set()


def test_of_a_functions_results_two_are_failures() -> None:
    assert FAMILIES["tool_"] == ["timeout", "error"]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("record(Trouble('lost', 'call', 'nothing'))", {"lost"}),
        ("record(Trouble(failure='lost', where='call'))", {"lost"}),
        ("metrics.failures.labels('lost').inc()", {"lost"}),
        ("metrics.failures.labels('lost' if so else 'gone').inc()", {"lost", "gone"}),
        (
            "fail(f'tape_{kind}')\ndef fail(kind): record(Trouble(kind, 'call'))",
            {"tape_" + k for k in FAMILIES["tape_"]},
        ),
        ("a('lost')\ndef a(kind): b(kind)\ndef b(kind): metrics.failures.labels(kind).inc()", {"lost"}),
        ("def see(event):\n match event:\n  case Trouble(failure=it): failures.labels(it).inc()", set()),
        ("metrics.calls.labels('goodbye').inc()", set()),
    ],
)
def test_what_code_records_is_read_from_it(source: str, found: set[str]) -> None:
    kinds = Kinds(source)
    assert (kinds.found, kinds.unknown) == (found, [])


@pytest.mark.parametrize(
    "source", ["Trouble(made_up(), 'call')", "Trouble(f'new_{kind}', 'call')", "Trouble(kind, '')"]
)
def test_a_kind_that_cannot_be_told_from_the_code_is_refused(source: str) -> None:
    assert Kinds(source).unknown
