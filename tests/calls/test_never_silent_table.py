"""The table of failures in docs/runbook.md is held to what happens (tests/fakes/runbook.py). And the log stays calm."""

from __future__ import annotations

import ast
import asyncio
import io
import json
import logging
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
from fakes.gemini import ListedMind
from fakes.runbook import NOTHING_LOST, ROWS, RUNBOOK, Figure, Row, read_rows, rows_held, words_of_flow
from loguru import logger

from bot.events import CallEvent, EndReason, Trouble
from bot.logs import configure_logging
from bot.metrics import Metrics
from bot.ports import SystemClock
from bot.tape import CHANNELS, TapeDeck
from sandbox.conversation import Habits, Turn
from sandbox.gemini.faults import Faults
from sandbox.twilio.record import CallRecord

TESTS = Path(__file__).parents[1]
Say = Callable[..., Turn]


@cache
def running_tests() -> Counter[str]:
    """The names of all tests, but for those that may be skipped or fail unnoticed."""
    return Counter(
        node.name
        for path in TESTS.rglob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        if not re.search(r"\b(skip|skipif|xfail|importorskip)\b", ast.unparse(node))
    )


# -- the table --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS, ids=[row.what for row in ROWS])
def test_a_row_can_be_held_to_what_it_says(row: Row, request: pytest.FixtureRequest) -> None:
    """What it says is known by name, and its test is run, by one name only, under the watch of `rows_hold`."""
    assert row.heard
    assert row.kept
    assert running_tests()[row.test] == 1
    assert "rows_hold" in request.fixturenames
    assert row.event.startswith("none: ") or row.event.strip("`") in {*CallEvent._by_kind, *CHANNELS}
    assert row.counter == NOTHING_LOST or Figure.of(row.counter).name in names_of_figures()
    assert set(row.phrases) <= words_of_flow().keys()


@pytest.mark.parametrize("test", sorted(set(re.findall(r"`(test_\w+)`", RUNBOOK))))
def test_every_test_that_is_named_is_run(test: str) -> None:
    assert running_tests()[test] == 1


def names_of_figures() -> set[str]:
    families = list(Metrics().registry.collect())
    names = {f"{family.name}_total" for family in families if family.type == "counter"}
    names |= {family.name for family in families if family.type == "histogram"}
    return {name.removeprefix("switchboard_") for name in names}


def test_every_reason_to_end_is_explained() -> None:
    told = RUNBOOK.split("## How a call can end")[1].split("## ")[0]
    assert {reason for reason in get_args(EndReason) if f"`{reason}`" not in told} == set()


# -- the watch over the table -----------------------------------------------------------------------------------------

TRUE = Row("drop", "`sorry_lost`", "tape", "`trouble`", '`failures_total{kind="stream_lost"}`', "test_drop")
PIPELINE = '`failures_total{kind="pipeline"}`'
LOST = Trouble("stream_lost", "carrier", "sorry_lost")
SORRY = words_of_flow()["sorry_lost"]


async def a_call(folder: Path, *events: CallEvent, counted: bool = True, taped: bool = True, say: str = SORRY) -> None:
    """What a call with these events leaves behind, whose caller is told something."""
    deck, metrics = TapeDeck(folder, SystemClock(), lambda trouble: None), Metrics()
    tape = deck.open("CA1", {})
    for event in events if taped else ():
        tape.put("event", event.to_json())
    for event in events if counted else ():
        metrics.observe(event)
    await deck.close()
    CallRecord("CA1", "+12075550100", "+12075550142", "inbound").announcements.append((0, say))


async def test_a_row_that_is_true_is_let_pass(tmp_path: Path) -> None:
    with rows_held([TRUE, replace(TRUE, event="none: there is no call"), replace(TRUE, counter="`failures_total`")]):
        await a_call(tmp_path, LOST)


@pytest.mark.parametrize(
    ("row", "left", "untruth"),
    [
        (TRUE, {"counted": False}, f"{TRUE.counter} did not rise"),
        (TRUE, {"taped": False}, "no `trouble` on a tape"),
        (TRUE, {"say": "Bye."}, "nobody heard `sorry_lost`"),
        (replace(TRUE, event="`barge_in`"), {}, "no `barge_in` on a tape"),
        (replace(TRUE, event="`tape.gap`"), {}, "no `tape.gap` on a tape"),
        (replace(TRUE, counter=PIPELINE), {}, f"{PIPELINE} did not rise"),
        (replace(TRUE, counter=PIPELINE), {}, f"no `trouble` on a tape that {PIPELINE} counts"),
        (replace(TRUE, counter="`model_setup_seconds`"), {}, "`model_setup_seconds` did not rise"),
        (replace(TRUE, counter=NOTHING_LOST), {}, "1 failures are counted"),
    ],
)
async def test_a_row_that_is_not_true_fails_its_test(
    tmp_path: Path, row: Row, left: dict[str, Any], untruth: str
) -> None:
    with pytest.raises(pytest.fail.Exception, match=re.escape(untruth)), rows_held([row]):
        await a_call(tmp_path, LOST, **left)


async def test_another_failure_on_the_tape_does_not_prove_a_row(tmp_path: Path) -> None:
    async def another() -> None:
        await a_call(tmp_path / "one", LOST, taped=False)
        await a_call(tmp_path / "two", Trouble("never_connected", "carrier", "nothing"))

    with pytest.raises(pytest.fail.Exception, match="no `trouble` on a tape that"), rows_held([TRUE]):
        await another()


def test_the_tables_are_read_row_by_row() -> None:
    head = (
        "| what breaks | heard | kept | event | counter | test |\n|---|---|---|---|---|---|\n| **part** | | | | | |\n"
    )
    row = f"| {TRUE.what} | {TRUE.heard} | {TRUE.kept} | {TRUE.event} | {TRUE.counter} | `{TRUE.test}` |\n"
    assert read_rows(head + row) == [TRUE]


# -- the log ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging("INFO", "json", stream)
    yield stream
    logger.remove()
    logger.add(sys.stderr)
    root.handlers[:] = handlers
    root.setLevel(level)


async def test_a_storm_of_faults_does_not_flood_the_log(open_site: Any, log: io.StringIO) -> None:
    async with open_site(gemini={"faults": Faults(drop_after_ms=50)}) as site:
        records = await asyncio.gather(*(site.ring() for _ in range(6)))
        tapes = [await site.tape_of(record.call_sid) for record in records if site.app.state.calls.get(record.call_sid)]
        failures = site.failures()
    assert len(tapes) == 6
    assert all(events[-1].reason == "model_lost" for events in tapes)
    # Six calls with five drops each, and the end of each: thirty-six failures, few lines.
    assert sum(failures.values()) == 36
    moments = defaultdict(list)
    for line in log.getvalue().splitlines():
        entry = json.loads(line)
        if entry["level"] in ("WARNING", "ERROR"):
            moments[entry["logger"], " ".join(entry["message"].split()[:3])].append(entry["time"])
    assert moments
    for kind, times in moments.items():
        stamps = [datetime.fromisoformat(moment).timestamp() for moment in times]
        assert all(later - earlier >= 0.99 for earlier, later in pairwise(stamps)), kind


async def test_a_question_without_a_transcript_is_answered(open_site: Any, say: Say) -> None:
    faults = Faults(missing_transcript=(1,))
    async with open_site(ListedMind("This is the answer."), gemini={"faults": faults}) as site:
        record = await site.ring(say(), habits=Habits(linger_ms=1500, hello_ms=20_000))
        events = await site.tape_of(record.call_sid)
    assert [event.text for event in events if event.kind == "bot_said"][1:] == ["This is the answer."]
    assert not [event for event in events if event.kind in ("caller_said", "trouble", "silence_filled")]
