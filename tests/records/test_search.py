"""Lists, filters and full-text search, the same on both engines."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from records.record import Flag, Turn
from records.search import CallFilter


def turn(number: int, text: str, speaker: str = "caller", **more) -> Turn:
    return Turn(number, speaker, number * 1000.0, number * 1000.0 + 900, text, **more)


def names(page) -> list[str]:
    return [getattr(item, "call", item).call_id for item in page.items]


@pytest.fixture
def calls(store, make_record):
    """Four calls, an hour apart, that differ in everything a filter asks for."""
    full = make_record()
    cheap = replace(full.cost, usd=0.001)
    slow = replace(full.figures, voice_to_voice_p95_ms=2500.0)
    unmeasured = replace(full.figures, voice_to_voice_p95_ms=None)
    message = replace(full.outcome, disposition="message_taken", changes=())
    for record in (
        make_record("CA1", 0),
        make_record("CA2", 60, from_number="+12125550177", flow="salon", cost=cheap, flags=()),
        make_record("CA3", 120, from_number="+4930123456", figures=slow, outcome=message, tools=full.tools[:1]),
        make_record("CA4", 180, from_number="", figures=unmeasured, duration_ms=5.0, flags=full.flags[2:], tools=()),
    ):
        store.save(record)
    store.add_score("CA2", "manners", "ana", 80, {})
    store.add_score("CA3", "manners", "ana", 20, {})
    return store


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({}, "CA4 CA3 CA2 CA1"),
        ({"number": "+12125550101"}, "CA1"),
        ({"number": "+1212"}, "CA2 CA1"),
        ({"number": "+49"}, "CA3"),
        ({"number": "%"}, ""),
        ({"flow": "salon"}, "CA2"),
        ({"disposition": "message_taken"}, "CA3"),
        ({"tool": "find_slots"}, "CA3 CA2 CA1"),
        ({"tool": "book_appointment"}, "CA2 CA1"),
        ({"flag": "unheard_result"}, "CA3 CA1"),
        ({"flag": "unknown_price"}, "CA4 CA3 CA1"),
        ({"duration_ms": (None, 10.0)}, "CA4"),
        ({"duration_ms": (61_000.5, 61_000.5)}, "CA3 CA2 CA1"),
        ({"latency_ms": (2000.0, None)}, "CA3"),
        ({"latency_ms": (None, 2000.0)}, "CA2 CA1"),
        ({"cost_usd": (0.01, 1.0)}, "CA4 CA3 CA1"),
        ({"score": (50.0, None)}, "CA2"),
        ({"score": (0.0, 100.0)}, "CA3 CA2"),
        ({"flow": "dental", "tool": "find_slots", "flag": "unheard_result", "number": "+49"}, "CA3"),
        ({"flow": "salon", "flag": "unheard_result"}, ""),
    ],
)
def test_a_filter_keeps_what_it_names(calls, filter, expected):
    assert names(calls.calls(CallFilter(**filter))) == expected.split()
    assert names(calls.search("cleaning", CallFilter(**filter))) == expected.split()


def test_a_stretch_of_time_includes_its_beginning_and_not_its_end(calls, make_record):
    began = make_record().began_at
    hour = timedelta(hours=1)
    assert names(calls.calls(CallFilter(began=(began, began + hour)))) == ["CA1"]
    assert names(calls.calls(CallFilter(began=(began + hour, None)))) == ["CA4", "CA3", "CA2"]
    assert names(calls.calls(CallFilter(began=(None, began + hour)))) == ["CA1"]
    tick = timedelta(microseconds=1)
    assert names(calls.calls(CallFilter(began=(began + tick, began + hour + tick)))) == ["CA2"]


def test_pages_go_through_all_calls_once_while_new_ones_come(store, make_record):
    for number in range(7):
        store.save(make_record(f"CA{number}", number))
    seen, after = [], ""
    while True:
        page = store.calls(after=after, size=3)
        seen += names(page)
        store.save(make_record(f"CAnew{len(seen)}", 100 + len(seen)))
        if not (after := page.next):
            break
    assert seen == ["CA6", "CA5", "CA4", "CA3", "CA2", "CA1", "CA0"]
    with pytest.raises(ValueError, match="`next`"):
        store.calls(after="1; DROP TABLE records_calls")


@pytest.fixture
def spoken(store, make_record):
    texts = {
        "CA1": ("Hello, how can I help?", "I need a root canal, señor Ångström!"),
        "CA2": ("Canal street, near the root of the hill.", "Straße? Yes. 'Tis 3:30."),
        "CA3": ("Nothing to find", "at all; 予約をお願いします"),
    }
    for minutes, (call, said) in enumerate(texts.items()):
        turns = tuple(turn(number, text) for number, text in enumerate(said))
        store.save(make_record(call, minutes, turns=turns))
    return store


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("root canal", "CA2 CA1"),
        ("canal ROOT", "CA2 CA1"),
        ('"root canal"', "CA1"),
        ("root-canal", "CA1"),
        ('"root canal', "CA1"),
        ("help canal", "CA1"),
        ("senor angstrom", "CA1"),
        ("SEÑOR", "CA1"),
        ("Sen\u0303or", "CA1"),
        ("strasse", "CA2"),
        ("stra*", "CA2"),
        ("stra", ""),
        ("3:30", "CA2"),
        ("予約", "CA3"),
        ("約予", ""),
        ("AND", ""),
        ("root AND canal", ""),
        ("NOT", ""),
        ("nothing OR find", ""),
        ("words:nothing", ""),
        ("nothing -find", "CA3"),
        ("missing", ""),
        ("", ""),
        ("   ", ""),
        ("\U0001f600", ""),
        ("' OR 1=1 --", ""),
        ('"""', ""),
        ("*", ""),
        ("nothing\x00", "CA3"),
    ],
)
def test_words_are_found_wherever_they_were_said(spoken, query, expected):
    assert names(spoken.search(query)) == expected.split()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("\"'*():&|!<->\\^-+{}\x00 aNOT")), max_size=40))
def test_no_query_is_an_error(spoken, query):
    for hit in spoken.search(query).items:
        assert hit.call.call_id in {"CA1", "CA2", "CA3"}


def test_every_word_that_was_said_is_found_again_on_both_engines(store, make_record):
    odd = "½ x² 1e5 0x1f 3d -7 a_b c.d@e.f http://g.h/i ΩΜΈΓΑ Привет γειά İstanbul ŉ ﷺ ١٢٣ नमस्ते ไทย 한국어 it’s"
    store.save(make_record("CA1", turns=(turn(0, odd),)))
    missed = [word for word in odd.split() if names(store.search(word)) != ["CA1"]]
    assert missed == []
    assert names(store.search(odd)) == ["CA1"]


def test_a_hit_shows_the_turn_that_has_most_of_the_words(store, make_record):
    turns = (turn(0, "A cleaning?"), turn(1, "The Cleaning is on Tuesday.", "bot"), turn(2, "Tuesday, fine."))
    store.save(make_record("CA1", turns=turns))
    (hit,) = store.search("tuesday cleaning").items
    assert (hit.turn, hit.speaker, hit.start_ms) == (1, "bot", 1000.0)
    assert [hit.excerpt.text[start:end] for start, end in hit.excerpt.marks] == ["Cleaning", "Tuesday"]


def test_what_was_not_heard_is_found_too(store, make_record):
    store.save(make_record("CA1", turns=(turn(0, "You are booked", "bot", unheard=" for Saturday"),)))
    (hit,) = store.search("saturday").items
    assert hit.turn == 0
    assert hit.excerpt.text == "You are booked for Saturday"


def test_the_index_follows_a_record_that_is_saved_again(store, make_record, sql, database_url):
    store.save(make_record("CA1", turns=(turn(0, "before"),)))
    store.save(make_record("CA1", turns=(turn(0, "afterwards"),)))
    assert names(store.search("before")) == []
    assert names(store.search("afterwards")) == ["CA1"]
    if database_url.startswith("sqlite"):
        sql("INSERT INTO records_search_index (records_search_index, rank) VALUES ('integrity-check', 1)")


def test_pages_of_a_search_follow_each_other(store, make_record):
    for number in range(5):
        store.save(make_record(f"CA{number}", number))
    first = store.search("cleaning", size=3)
    assert names(first) == ["CA4", "CA3", "CA2"]
    second = store.search("cleaning", after=first.next, size=3)
    assert names(second) == ["CA1", "CA0"]
    assert second.next == ""


def test_a_flag_that_was_seen_leaves_the_list_and_stays_on_the_call(store, make_record):
    store.save(make_record("CA1"))
    assert store.acknowledge("CA1", 0, "ana")
    assert not store.acknowledge("CA1", 9, "ana")
    assert not store.acknowledge("CA2", 0, "ana")
    (call,) = store.calls().items
    assert call.flags == ("voice_without_words", "unknown_price")
    assert names(store.calls(CallFilter(flag="unheard_result"))) == ["CA1"]
    flags = make_record().flags
    # The same call derived anew: one flag in other words, one gone, one more of a kind that was there.
    store.save(
        make_record("CA1", flags=(flags[2], replace(flags[0], detail="in other words"), Flag(*flag_of(flags[0]))))
    )
    assert [seen and seen[0] for seen in store.page("CA1").acknowledged] == [None, "ana", None]


def flag_of(flag):
    return flag.kind, "a second one", flag.turn
