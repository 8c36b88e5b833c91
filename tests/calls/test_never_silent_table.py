"""The failure table in docs/runbook.md is true: its tests, events and counters exist. And the log stays calm."""

from __future__ import annotations

import ast
import asyncio
import io
import json
import logging
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
from fakes.gemini import ListedMind
from loguru import logger

from bot.errors import ModelFailure
from bot.events import CallEvent, EndReason
from bot.logs import configure_logging
from bot.metrics import Metrics
from bot.tape import CHANNELS
from sandbox.conversation import Habits, Turn
from sandbox.gemini.faults import Faults

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in RUNBOOK.splitlines()
    if line.startswith("| ") and line.count("|") == 7 and not line.startswith(("| what breaks", "| **"))
]
Say = Callable[..., Turn]


@cache
def names_of_tests() -> set[str]:
    return {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


@cache
def words_of_the_code() -> set[str]:
    """Every string in bot/, and what is put together from parts."""
    words = {
        node.value
        for path in (ROOT / "bot").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    made = {f"model_{kind}" for kind in get_args(ModelFailure)}
    made |= {f"tape_{kind}" for kind in ("queue_full", "write_failed", "write_resumed")}
    return words | made | {"tool_error", "tool_timeout"}


def test_there_is_a_row_for_every_failure() -> None:
    assert len(ROWS) >= 50


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_what_a_row_names_exists(row: list[str]) -> None:
    _, heard, kept, event, counter, test = row
    assert heard
    assert kept
    assert test.strip("`") in names_of_tests()
    if event.startswith("`"):
        assert event.strip("`") in {*CallEvent._by_kind, *CHANNELS}
    else:
        assert event.startswith(("none:", "as above"))
    if not counter.startswith("`"):
        assert counter.startswith(("none:", "as above"))
        return
    found = re.fullmatch(r'`(\w+)(?:\{(\w+)="(\w+)"\})?`', counter)
    assert found, counter
    name, _label, value = found.groups()
    metrics = {family.name for family in Metrics().registry.collect()}
    assert f"switchboard_{name.removesuffix('_total')}" in metrics
    assert value is None or value in words_of_the_code()


def test_every_reason_to_end_is_explained() -> None:
    told = RUNBOOK.split("## How a call can end")[1].split("## ")[0]
    assert {reason for reason in get_args(EndReason) if f"`{reason}`" not in told} == set()


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
    assert failures["model_dropped"] == 36
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


async def test_a_stream_that_never_opens_ends_in_words(open_site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.call.ANSWER_SECONDS", 0.3)
    async with open_site() as site:
        same = {"call_sid": "CA" + "1" * 32, "account_sid": "AC1", "from_number": "+12075550100", "to_number": "+1"}
        call = site.app.state.calls.receive(**same)
        while call.reason is None:
            await asyncio.sleep(0.02)
        step = call.after_stream()
        await call.over()
        failures = site.failures()
    assert (step.say, step.then) == (site.flow.phrases.sorry_unreachable, "hang_up")
    assert call.reason == "never_connected"
    assert failures["never_connected"] == 1
