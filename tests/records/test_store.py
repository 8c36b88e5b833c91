"""What is saved comes back as it was, on both engines."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from bot.errors import ConfigurationError
from records.store import Store

TABLES = ("calls", "details", "turns", "search", "tool_calls", "flags", "changes")


def counts(sql):
    return {table: sql(f"SELECT count(*) FROM records_{table}")[0][0] for table in TABLES}


def test_a_record_comes_back_as_it_was_saved(store, make_record):
    record = make_record()
    assert store.call("CA1") is None
    assert store.save(record)
    assert store.call("CA1") == record


def test_a_record_without_anything_comes_back_too(store, make_record):
    record = make_record(turns=(), tools=(), keys=(), waterfalls=(), flags=(), retention={}, from_number="")
    record = replace(record, outcome=replace(record.outcome, changes=(), steps=(), summary="", fields={}))
    record = replace(record, cost=replace(record.cost, lines=()))
    assert store.save(record)
    assert store.call("CA1") == record


def test_moments_keep_their_microseconds_whatever_their_zone(store, make_record):
    began = datetime(2026, 5, 1, 23, 59, 59, 999_999, tzinfo=timezone(timedelta(hours=-9, minutes=-30)))
    store.save(make_record(began_at=began))
    assert store.call("CA1").began_at == began


def test_saving_again_changes_nothing_and_keeps_the_ids(store, make_record, sql):
    store.save(make_record())
    ids, before = sql("SELECT id FROM records_calls"), counts(sql)
    store.save(make_record())
    assert sql("SELECT id FROM records_calls") == ids
    assert counts(sql) == before


def test_a_new_record_of_a_call_replaces_the_old_one_whole(store, make_record, sql):
    store.save(make_record())
    shorter = make_record(turns=make_record().turns[:1], tools=(), flags=(), duration_ms=5.0)
    store.save(shorter)
    assert store.call("CA1") == shorter
    assert counts(sql) == {**dict.fromkeys(TABLES, 1), "tool_calls": 0, "flags": 0}


def test_calls_of_the_same_millisecond_each_have_their_place(store, make_record):
    for name in ("CA1", "CA2", "CA3"):
        store.save(make_record(name))
    first = store.calls(size=2)
    rest = store.calls(after=first.next, size=2)
    assert [call.call_id for call in (*first.items, *rest.items)] == ["CA3", "CA2", "CA1"]
    assert rest.next == ""


def test_characters_that_no_database_takes_are_replaced(store, make_record):
    odd = make_record(turns=(said_by("nul \x00, half \ud83d, whole \U0001f600"),))
    store.save(odd)
    assert store.call("CA1").turns[0].text == "nul \ufffd, half \ufffd, whole \U0001f600"


def said_by(text):
    from records.record import Turn

    return Turn(0, "caller", 0.0, 1000.0, text)


def test_many_threads_may_save_at_once(store, make_record, sql):
    records = [make_record(f"CA{number % 4}", duration_ms=float(number)) for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(store.save, records))
    assert counts(sql)["calls"] == 4
    assert counts(sql)["turns"] == 16


def test_a_save_that_fails_leaves_the_former_record(store, make_record):
    record = make_record()
    store.save(record)
    with pytest.raises(Exception, match=r"(?i)unique"):
        store.save(make_record(turns=(record.turns[0], record.turns[0])))
    assert store.call("CA1") == record


def test_a_list_shows_what_is_needed_to_choose(store, make_record):
    store.save(make_record())
    (call,) = store.calls().items
    assert (call.call_id, call.flow, call.from_number, call.disposition) == ("CA1", "dental", "+12125550101", "booked")
    assert (call.began_at, call.duration_ms, call.turns, call.latency_ms) == (
        make_record().began_at,
        61_000.5,
        4,
        1200.25,
    )
    assert (call.cost_usd, call.cost_complete, call.score, call.expired) == (0.0123, False, None, ())
    assert call.summary == "The caller booked a cleaning."
    assert call.flags == ("unheard_result", "voice_without_words", "unknown_price")


def test_a_store_without_tables_or_database_is_told(empty_url, clock):
    store = Store(empty_url, clock)
    with pytest.raises(ConfigurationError, match="records_calls"):
        store.open()
    store.close()
