"""The table of failures in docs/runbook.md, and the watch that holds each row to what happens in the test it names.

`tests/conftest.py` keeps this watch over every test. What a row says of the tape is read from the tapes that the test
left, what it says of a counter from the figures of the servers that it started, and the ready-made words from the tape
and from what the stand-in carrier said to its callers: a test need not assert any of it, and cannot pass without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest

from bot.events import CallEvent
from bot.flow import load_flow
from bot.metrics import Metrics
from bot.phrases import default_handover_words
from bot.tape import TapeDeck, TapeReader
from sandbox.twilio.record import CallRecord

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
NOTHING_LOST = "none: nothing is lost"


@dataclass(frozen=True)
class Figure:
    """A figure as a row names it: ``failures_total{kind="stream_lost"}``. A histogram counts what it observed."""

    name: str
    labels: frozenset[tuple[str, str]] = frozenset()

    @classmethod
    def of(cls, cell: str) -> Figure:
        """Raises ``ValueError`` for what is no name of a figure."""
        found = re.fullmatch(r'`(\w+)(?:\{(\w+)="(\w+)"\})?`', cell)
        if found is None:
            raise ValueError(f"{cell} is no name of a figure")
        name, label, value = found.groups()
        return cls(name, frozenset({(label, value)} if label else ()))

    def read(self, *metrics: Metrics) -> float:
        """Its value, over all labels that are not named."""
        names = {f"switchboard_{self.name}", f"switchboard_{self.name}_count"}
        samples = [sample for each in metrics for family in each.registry.collect() for sample in family.samples]
        return sum(sample.value for sample in samples if sample.name in names and self.labels <= sample.labels.items())

    def rises_with(self, event: CallEvent) -> bool:
        """Whether this event alone makes it rise."""
        metrics = Metrics()
        metrics.observe(event)
        return self.read(metrics) > 0


@dataclass
class Seen:
    """What a test left behind."""

    metrics: list[Metrics]
    decks: list[TapeDeck]
    calls: list[CallRecord]

    def on_tape(self, name: str) -> list[CallEvent | bytes]:
        """The events of this kind, or the records of this channel, on all tapes."""
        return [found for kind, found in self._records() if kind == name]

    def words(self) -> set[str]:
        """What callers were told, by the bot or by the carrier."""
        by_carrier = {text for call in self.calls for _, text in call.announcements}
        return by_carrier | {event.text for event in self.on_tape("bot_said")}  # type: ignore[union-attr]

    def _records(self) -> Iterator[tuple[str, Any]]:
        for folder in {deck._root for deck in self.decks}:
            for path in sorted(folder.rglob("*.mcap*")):
                for record in TapeReader(path):
                    kind = orjson.loads(record.data).get("kind") if record.channel == "event" else record.channel
                    known = kind in CallEvent._by_kind
                    yield kind, CallEvent.from_json(record.data) if known else record.data


@dataclass(frozen=True)
class Row:
    """One failure, as the runbook tells it."""

    what: str
    heard: str
    kept: str
    event: str
    counter: str
    test: str

    def untruths(self, seen: Seen) -> list[str]:
        """What this row says and what is not so in what was seen."""
        return [*self._of_event(seen), *self._of_counter(seen), *self._of_words(seen)]

    @property
    def phrases(self) -> list[str]:
        """The ready-made words that the caller hears, by their names in the flow."""
        return re.findall(r"`(\w+)`", self.heard)

    def _of_event(self, seen: Seen) -> Iterator[str]:
        if self.event.startswith("none:"):
            return
        found = seen.on_tape(self.event.strip("`"))
        if not found:
            yield f"no {self.event} on a tape"
        elif self.counter != NOTHING_LOST:
            # Where such events are what the figure counts, one of them must be the one that is meant here.
            figure = Figure.of(self.counter)
            events = [event for event in found if isinstance(event, CallEvent)]
            counted = any(Figure(figure.name).rises_with(event) for event in events)
            if counted and not any(figure.rises_with(event) for event in events):
                yield f"no {self.event} on a tape that {self.counter} counts, but {events}"

    def _of_counter(self, seen: Seen) -> Iterator[str]:
        if self.counter == NOTHING_LOST:
            if lost := Figure("failures_total").read(*seen.metrics):
                yield f"{lost:g} failures are counted"
        elif not Figure.of(self.counter).read(*seen.metrics):
            yield f"{self.counter} did not rise"

    def _of_words(self, seen: Seen) -> Iterator[str]:
        if self.phrases:
            told = seen.words()
            yield from (f"nobody heard `{name}`" for name in self.phrases if words_of_flow()[name] not in told)


def read_rows(text: str) -> list[Row]:
    """The rows of all tables with these six columns."""
    lines = [line for line in text.splitlines() if line.startswith("| ") and line.count("|") == 7]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rows = [Row(*row[:5], row[5].strip("`")) for row in cells]
    return [row for row in rows if row.test and row.test != "test"]


ROWS = read_rows(RUNBOOK)


@cache
def words_of_flow() -> dict[str, str]:
    """The ready-made words that tests are made with, by name."""
    flow = load_flow(ROOT / "flows" / "dental.yaml")
    return {**flow.phrases.model_dump(), **default_handover_words(flow.language)}


@contextmanager
def rows_held(rows: list[Row]) -> Iterator[None]:
    """What is run herein fails unless these rows are true of it."""
    with pytest.MonkeyPatch.context() as patch:
        seen = Seen(_made(patch, Metrics), _made(patch, TapeDeck), _made(patch, CallRecord))
        yield
    untruths = [f"- {row.what}: {untruth}" for row in rows for untruth in row.untruths(seen)]
    if untruths:
        pytest.fail("\n".join(["docs/runbook.md is not true of this test:", *untruths]), pytrace=False)


def _made(patch: pytest.MonkeyPatch, cls: type) -> list[Any]:
    """All that are made of this class from now on."""
    made: list[Any] = []
    begin: Any = cls.__init__  # type: ignore[misc]

    def note(self: Any, *args: Any, **options: Any) -> None:
        begin(self, *args, **options)
        made.append(self)

    patch.setattr(cls, "__init__", note)
    return made
