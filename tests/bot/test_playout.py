"""What counts as heard."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.carriers.playout import MARK_EVERY_MS, Playout, Returned

FRAME = 3200  # 400 ms of mu-law: a mark stands behind each


def speak(playout: Playout, turn: int, milliseconds: int, now_ms: float = 0.0) -> list[str]:
    sizes = [FRAME] * (milliseconds // 400) + ([milliseconds % 400 * 8] if milliseconds % 400 else [])
    marks = [playout.play(size, turn, now_ms) for size in sizes]
    return [mark for mark in marks if mark]


def marked_at(playout: Playout, turn: int, milliseconds: int, now_ms: float = 0.0) -> list[int]:
    """Behind how many ms of the audio that is sent now marks stand."""
    return [ms for ms in range(20, milliseconds + 20, 20) if playout.play(160, turn, now_ms)]


FIRST_MARKS = [20, 40, 60, 100, 160, 240, 360, 540]


def test_marks_are_dense_where_audio_finds_the_queue_empty_and_400_ms_apart_later() -> None:
    playout = Playout()
    assert marked_at(playout, 3, 2000) == [*FIRST_MARKS, 820, 1220, 1620]
    assert playout.end_turn() == "turn:3:end"
    # All of this waits: the next turn goes on where nothing can run dry.
    assert marked_at(playout, 4, 1000) == [400, 800]
    assert marked_at(playout, 5, 400, now_ms=2999) == [400]
    assert marked_at(playout, 6, 400, now_ms=5000) == [ms for ms in FIRST_MARKS if ms <= 400]


def test_marks_are_dense_again_where_a_turn_goes_on_after_a_pause() -> None:
    playout = Playout()
    marked_at(playout, 1, 500)
    assert marked_at(playout, 1, 500, now_ms=501) == [20, 40, 60, 100, 160, 240, 360]


def test_marks_are_dense_behind_a_clear() -> None:
    playout = Playout()
    marked_at(playout, 1, 2000)
    playout.clear(100)
    assert marked_at(playout, 1, 240, now_ms=101) == [20, 40, 60, 100, 160, 240]


def test_marks_are_named_after_their_turn() -> None:
    playout = Playout()
    assert speak(playout, 3, 1000) == ["turn:3:1", "turn:3:2"]
    assert playout.end_turn() == "turn:3:end"
    assert speak(playout, 4, 400) == ["turn:4:1"]


def test_no_turn_no_end() -> None:
    playout = Playout()
    assert playout.end_turn() is None
    speak(playout, 1, 80)
    playout.end_turn()
    assert playout.end_turn() is None


def test_only_returned_marks_prove_that_audio_was_heard() -> None:
    playout = Playout()
    speak(playout, 1, 920)
    playout.end_turn()
    assert playout.heard_ms == 0
    assert playout.returned("turn:1:1", 400) == Returned("played", 1, 400.0, False)
    assert playout.heard_ms == 400
    assert playout.returned("turn:1:2", 800) == Returned("played", 1, 800.0, False)
    assert playout.returned("turn:1:end", 920) == Returned("played", 1, 920.0, True)
    assert playout.heard_ms == playout.sent_ms == 920
    assert playout.pending == 0


def test_a_mark_that_a_clear_returned_proves_nothing() -> None:
    playout = Playout()
    speak(playout, 1, 1200)
    assert playout.returned("turn:1:1", 400) == Returned("played", 1, 400.0, False)
    assert playout.clear(500) == 700
    assert playout.returned("turn:1:2", 510) == Returned("cleared", 1, 0.0, False)
    assert playout.returned("turn:1:3", 510) == Returned("cleared", 1, 0.0, False)
    assert playout.heard_ms == 400
    assert playout.waiting_ms(500) == 0


def test_marks_sent_after_a_clear_count_again() -> None:
    playout = Playout()
    speak(playout, 1, 800)
    playout.clear(100)
    speak(playout, 2, 400, now_ms=1000)
    playout.returned("turn:1:1", 1000)
    playout.returned("turn:1:2", 1000)
    assert playout.returned("turn:2:1", 1400) == Returned("played", 2, 400.0, False)
    assert playout.heard_ms == 400


def test_unknown_and_repeated_marks_are_nobodys() -> None:
    playout = Playout()
    speak(playout, 1, 400)
    assert playout.returned("turn:9:1", 0) is None
    assert playout.returned("turn:1:1", 0) is not None
    assert playout.returned("turn:1:1", 0) is None
    assert playout.heard_ms == 400


def test_a_turn_that_goes_on_after_a_clear_gets_names_of_its_own() -> None:
    playout = Playout()
    first = speak(playout, 1, 400)
    playout.clear(0)
    second = speak(playout, 1, 400)
    assert len({*first, *second}) == 2
    assert playout.returned(first[0], 0) == Returned("cleared", 1, 0.0, False)
    assert playout.returned(second[0], 0) == Returned("played", 1, 400.0, False)


def test_what_waits_is_estimated_and_set_right_by_marks() -> None:
    playout = Playout()
    speak(playout, 1, 600, now_ms=1000)
    assert playout.waiting_ms(1000) == 600
    assert playout.waiting_ms(1250) == 350
    # The carrier plays 100 ms later than thought: after the mark at 400 ms there are 200 ms to go.
    playout.returned("turn:1:1", 1500)
    assert playout.waiting_ms(1500) == 200
    assert playout.waiting_ms(9999) == 0


def test_a_lost_stream_takes_its_marks_along() -> None:
    playout = Playout()
    speak(playout, 1, 800)
    playout.lost(100)
    assert playout.pending == 0
    assert playout.waiting_ms(100) == 0
    assert playout.returned("turn:1:1", 100) is None
    assert speak(playout, 2, 400, now_ms=200) == ["turn:2:1"]


STEPS = st.one_of(
    st.tuples(st.just("play"), st.integers(1, 2000)),
    st.tuples(st.just("end"), st.just(0)),
    st.tuples(st.just("clear"), st.just(0)),
    st.tuples(st.just("return"), st.integers(0, 5)),
    st.tuples(st.just("wait"), st.integers(1, 500)),
)


@given(st.lists(STEPS, max_size=80))
def test_marks_add_up_whatever_happens(steps: list[tuple[str, int]]) -> None:
    playout = Playout()
    outstanding: list[str] = []
    sent, returned, turn, now = 0, 0, 1, 0.0
    for step, amount in steps:
        before = playout.heard_ms
        if step == "play":
            mark = playout.play(amount, turn, now)
            if mark:
                outstanding.append(mark)
                sent += 1
        elif step == "end":
            mark = playout.end_turn()
            if mark:
                outstanding.append(mark)
                sent += 1
            turn += 1
        elif step == "clear":
            playout.clear(now)
            turn += 1
        elif step == "return" and outstanding:
            result = playout.returned(outstanding.pop(min(amount, len(outstanding) - 1)), now)
            assert result is not None
            returned += 1
            if result.how == "cleared":
                assert playout.heard_ms == before
        else:
            now += amount
        assert playout.pending == sent - returned == len(set(outstanding))
        assert before <= playout.heard_ms <= playout.sent_ms + 1e-6
        assert playout.waiting_ms(now) >= 0


def test_the_spacing_of_marks_is_what_the_docs_say() -> None:
    assert pytest.approx(400) == MARK_EVERY_MS


def test_a_stop_is_marked_where_audio_stands_behind_the_last_mark() -> None:
    playout = Playout()
    assert playout.stopped() is None
    speak(playout, 1, 520)
    assert playout.stopped() == "turn:1:2"
    assert playout.stopped() is None
    assert playout.returned("turn:1:2", 600) == Returned("played", 1, 520.0, False)
    assert speak(playout, 1, 400) == ["turn:1:3"]
