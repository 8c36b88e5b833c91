"""The carrier's queue played out with every delay known, and what its marks alone tell of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.carriers.playout import Playout
from records.derive.carrier_queue import Array, CarrierQueue, Marks

FRAME_MS = 20.0
LAG_MS = 100.0


@dataclass
class Played:
    """What was sent, what really happened, and the marks as they are known: to within one frame of the caller."""

    sent_ms: Array
    began_ms: Array
    marks: Marks

    def queue(self) -> CarrierQueue:
        return CarrierQueue(self.sent_ms, np.full(len(self.sent_ms), FRAME_MS), [], self.marks)


def play(sent_ms: list[float], late_ms: list[float]) -> Played:
    """Chunks of 20 ms that meet the least lag and a delay of their own each, in order; marks as `Playout` sets them."""
    playout = Playout()
    began: list[float] = []
    marked: list[tuple[int, float]] = []
    arrived = free = -1e9
    for number, (sent, late) in enumerate(zip(sent_ms, late_ms, strict=True)):
        arrived = max(arrived, sent + LAG_MS + late)
        began.append(max(free, arrived))
        free = began[-1] + FRAME_MS
        if playout.play(160, 0, sent) or number == len(sent_ms) - 1:
            marked.append((number, free))
    after = np.array([number for number, _ in marked], np.int64)
    earliest = np.array([np.ceil(due / FRAME_MS) - 1 for _, due in marked]) * FRAME_MS
    sent = np.array(sent_ms)
    marks = Marks(after, sent[after], earliest, earliest + FRAME_MS, np.full(len(after), np.inf))
    return Played(sent, np.array(began), marks)


def paced(count: int, from_ms: float = 0.0) -> list[float]:
    """Short messages, sent when 40 ms wait at the carrier."""
    return [from_ms + max(0.0, FRAME_MS * number - 40) for number in range(count)]


@given(st.lists(st.floats(0, 150), min_size=1, max_size=120), st.floats(0, 20))
@settings(max_examples=200)
def test_what_a_mark_stands_behind_is_within_a_frame_whatever_the_delays(late_ms: list[float], phase: float) -> None:
    call = play(paced(len(late_ms), phase), late_ms)
    starts = call.queue().starts_ms([])
    off = np.abs(starts - call.began_ms)[call.marks.after]
    assert off.max() <= FRAME_MS + 0.1
    # Nothing overlaps.
    assert np.diff(starts).min(initial=FRAME_MS) >= FRAME_MS - 1e-6


@given(st.lists(st.floats(0, 38), min_size=5, max_size=120), st.floats(0, 20))
@settings(max_examples=200)
def test_where_the_queue_holds_out_no_silence_is_made_up(late_ms: list[float], phase: float) -> None:
    call = play(paced(len(late_ms), phase), [late_ms[0]] * 3 + late_ms[3:])
    if np.ptp(np.diff(call.began_ms)) < 1e-6:
        np.testing.assert_allclose(np.diff(call.queue().starts_ms([])), FRAME_MS)


@pytest.mark.parametrize("at", [1, 4, 17, 60])
def test_a_silence_is_found_where_the_audio_came_late(at: int) -> None:
    sent = paced(100)
    sent[at:] = [ms + 300 for ms in sent[at:]]
    call = play(sent, [0.0] * 100)
    starts = call.queue().starts_ms([])
    assert int(np.argmax(np.diff(starts))) + 1 == at
    np.testing.assert_allclose(starts, call.began_ms, atol=FRAME_MS)


def test_without_a_mark_audio_plays_as_soon_as_it_can() -> None:
    nothing = np.array([])
    queue = CarrierQueue(
        np.array([0.0, 0.0, 500.0]),
        np.full(3, FRAME_MS),
        [],
        Marks(np.array([], np.int64), nothing, nothing, nothing, nothing),
    )
    assert (queue.least_lag_ms, queue.usual_lag_ms) == (0.0, 0.0)
    np.testing.assert_allclose(queue.starts_ms([]), [0, 20, 500], atol=0.1)
