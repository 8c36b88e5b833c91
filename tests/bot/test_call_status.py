"""Status callbacks in any order lead to the same end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bot.carriers.call_status import FINAL, CallStatus

ALL = ("queued", "initiated", "ringing", "in-progress", *sorted(FINAL))


def test_a_call_goes_forward_step_by_step() -> None:
    status = CallStatus()
    verdicts = [status.advance(each, n) for n, each in enumerate(("ringing", "in-progress", "completed"))]
    assert verdicts == ["moved", "moved", "moved"]
    assert status.status == "completed"
    assert status.is_over


def test_callbacks_that_come_late_change_nothing() -> None:
    status = CallStatus()
    assert status.advance("completed", 3) == "moved"
    assert status.advance("in-progress", 2) == "late"
    assert status.advance("ringing", 1) == "late"
    assert status.status == "completed"


def test_a_repeated_callback_is_told_by_its_number_or_its_status() -> None:
    status = CallStatus()
    status.advance("ringing", 1)
    assert status.advance("ringing", 1) == "repeated"
    assert status.advance("ringing") == "repeated"
    assert status.advance("in-progress", 1) == "repeated"
    assert status.status == "ringing"


def test_the_first_final_status_stays() -> None:
    status = CallStatus()
    status.advance("no-answer")
    assert status.advance("completed") == "contradiction"
    assert status.status == "no-answer"


def test_what_is_no_status_is_ignored() -> None:
    status = CallStatus()
    assert status.advance("on-fire", 1) == "unknown"
    assert status.advance("", 2) == "unknown"
    assert status.status == ""
    assert not status.is_over


@given(st.permutations(["queued", "initiated", "ringing", "in-progress", "completed"]), st.randoms())
def test_any_order_with_repetitions_ends_where_the_call_ended(order: list[str], random: object) -> None:
    status = CallStatus()
    for each in [*order, *order]:
        status.advance(each, ALL.index(each))
    assert status.status == "completed"


@given(st.lists(st.sampled_from(ALL)))
def test_it_never_goes_back(statuses: list[str]) -> None:
    status = CallStatus()
    rank = {each: min(n, 4) for n, each in enumerate(ALL)}
    highest = -1
    for each in statuses:
        status.advance(each)
        assert rank[status.status] >= highest
        highest = rank[status.status]
    finals = [each for each in statuses if each in FINAL]
    if finals:
        assert status.status == finals[0]
