"""One source of time, one of chance; the seed gives the same ids again."""

from __future__ import annotations

from bot.events import BargeIn, CallEvent, ToolCalled
from bot.ports import Ids, SystemClock, utc


def test_the_same_seed_gives_the_same_ids() -> None:
    one, two = Ids(b"seed"), Ids(b"seed")
    assert [one.hex(), one.token(), one.fraction()] == [two.hex(), two.token(), two.fraction()]
    assert one.child().token() == two.child().token()


def test_ids_do_not_repeat_and_tokens_are_long_enough_to_be_secrets() -> None:
    ids = Ids()
    tokens = {ids.token() for _ in range(1000)}
    assert len(tokens) == 1000
    assert all(len(token) == 43 for token in tokens)
    assert Ids().token() != Ids().token()


def test_a_child_tells_nothing_about_its_siblings() -> None:
    ids = Ids(b"seed")
    assert ids.child().seed != ids.child().seed


def test_fractions_cover_the_unit_interval() -> None:
    ids = Ids(b"seed")
    values = [ids.fraction() for _ in range(2000)]
    assert 0 <= min(values) < 0.01
    assert 0.99 < max(values) < 1


def test_the_clock_goes_forward_and_knows_the_year() -> None:
    clock = SystemClock()
    assert clock.now_ns() <= clock.now_ns()
    assert utc(clock).year >= 2026
    assert utc(clock).tzinfo is not None


def test_events_survive_the_tape_and_newer_fields_are_dropped() -> None:
    event = ToolCalled("fc_1", "find_slots", {"day": "2026-12-01"}, "booking")
    assert CallEvent.from_json(event.to_json()) == event
    assert CallEvent.from_json(b'{"kind":"barge_in","turn":1,"cleared_ms":2.0,"since":"a later version"}') == BargeIn(
        1, 2.0
    )
