"""A tape of every layout ever written, read by today's code: its record must stay the same."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from golden.make import layout_of, tapes, told
from mcap.reader import make_reader

from bot.tape import TapeReader
from bot.tape_file import LAYOUT

NEAR_MS = 20.0
"""How exact times on the playout clock are claimed to be (docs/records.md)."""


def same(found: Any, expected: Any, where: str = "") -> None:
    """Two values are the same; what is called ``…_ms`` as nearly as times are told."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key, value in expected.items():
            same(found[key], value, f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for number, pair in enumerate(zip(found, expected, strict=True)):
            same(*pair, f"{where}[{number}]")
    elif where.endswith("_ms") and isinstance(expected, float):
        assert found == pytest.approx(expected, abs=NEAR_MS), where
    elif where.endswith("_ratio"):
        assert found == pytest.approx(expected, abs=0.01), where
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=1e-9), where
    else:
        assert found == expected, where


def test_there_is_a_tape_of_every_layout() -> None:
    assert [layout_of(tape) for tape in tapes()] == list(range(1, LAYOUT + 1)), "uv run -m tests.golden.make"


@pytest.mark.parametrize("tape", tapes(), ids=lambda tape: tape.stem)
def test_a_golden_tape_gives_its_record(tape: Path) -> None:
    assert TapeReader(tape).meta["layout"] == layout_of(tape)
    assert not TapeReader(tape).truncated
    same(told(tape), json.loads(tape.with_suffix(".json").read_text()))


@pytest.mark.parametrize("tape", tapes(), ids=lambda tape: tape.stem)
def test_a_golden_tape_opens_in_standard_tools(tape: Path) -> None:
    ours = [(each.channel, each.wall_ns, each.mono_ns, each.data) for each in TapeReader(tape)]
    with tape.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        summary = reader.get_summary()
        theirs = [
            (channel.topic, message.log_time, message.publish_time, message.data)
            for _, channel, message in reader.iter_messages(log_time_order=False)
        ]
    assert theirs == ours
    assert summary is not None
    assert summary.statistics is not None
    assert summary.statistics.message_count == len(ours)
    topics = {channel.id: channel.topic for channel in summary.channels.values()}
    counts = {topics[number]: count for number, count in summary.statistics.channel_message_counts.items()}
    assert counts == Counter(channel for channel, *_ in ours)


def test_another_record_is_noticed() -> None:
    expected = {"turns": [{"start_ms": 100.0, "text": "hello"}], "usd": 0.5}
    same({"turns": [{"start_ms": 115.0, "text": "hello"}], "usd": 0.5}, expected)
    for wrong in (
        {"turns": [{"start_ms": 130.0, "text": "hello"}], "usd": 0.5},
        {"turns": [{"start_ms": 100.0, "text": "hullo"}], "usd": 0.5},
        {"turns": [], "usd": 0.5},
        {"turns": [{"start_ms": 100.0, "text": "hello"}], "usd": 0.6},
    ):
        with pytest.raises(AssertionError):
            same(wrong, expected)
