"""What people and jobs add to a call: scores, recordings, acknowledged flags, the audit log."""

from __future__ import annotations

from datetime import timedelta

import pytest

from records.store import AuditEntry, KeptRecording, Score


def test_scores_of_several_judges_make_the_calls_score(store, make_record, clock):
    store.save(make_record())
    assert store.add_score("CA1", "manners", "ana", 80, {"polite": True})
    clock.now += timedelta(minutes=1)
    assert store.add_score("CA1", "manners", "gemini-3.8-flash", 50, {})
    assert store.add_score("CA1", "manners", "ana", 90, {"polite": False})
    assert not store.add_score("CA2", "manners", "ana", 80, {})
    assert store.calls().items[0].score == 70
    assert store.page("CA1").scores == (
        Score("manners", "gemini-3.8-flash", 50, {}, clock.now),
        Score("manners", "ana", 90, {"polite": False}, clock.now),
    )
    for wrong in (-1, 101):
        with pytest.raises(ValueError, match="between 0 and 100"):
            store.add_score("CA1", "manners", "ana", wrong, {})


def test_recordings_are_known_by_their_key(store, make_record, clock):
    store.save(make_record())
    assert store.add_recording("CA1", "CA1/stereo.flac", "audio/flac", 5_000_000_000)
    assert store.add_recording("CA1", "CA1/listen.opus", "audio/ogg", 10)
    assert store.add_recording("CA1", "CA1/listen.opus", "audio/ogg", 20)
    assert not store.add_recording("CA2", "CA2/listen.opus", "audio/ogg", 20)
    assert store.page("CA1").recordings == (
        KeptRecording("CA1/listen.opus", "audio/ogg", 20, clock.now),
        KeptRecording("CA1/stereo.flac", "audio/flac", 5_000_000_000, clock.now),
    )


def test_what_was_added_outlives_a_new_record(store, make_record, clock):
    store.save(make_record())
    store.add_score("CA1", "manners", "ana", 80, {})
    store.add_recording("CA1", "CA1/stereo.flac", "audio/flac", 5)
    store.acknowledge("CA1", 1, "ana")
    before = store.page("CA1")
    clock.now += timedelta(minutes=1)
    store.save(make_record())
    after = store.page("CA1")
    assert after.saved_at == before.saved_at + timedelta(minutes=1)
    assert (after.record, after.scores, after.recordings) == (before.record, before.scores, before.recordings)
    assert after.acknowledged == (None, ("ana", before.saved_at), None)
    assert store.calls().items[0].score == 80


def test_a_page_of_no_call_is_none(store, make_record):
    assert store.page("CA1") is None
    assert store.expired("CA1") is None
    store.save(make_record())
    assert store.expired("CA1") == ()


def test_the_audit_log_tells_who_did_what_newest_first(store, clock):
    store.audit("ana", "logged in")
    store.audit("ana", "listened", "CA1", {"key": "CA1/listen.opus"})
    clock.now += timedelta(minutes=1)
    store.audit("ben", "listened", "CA2")
    last = AuditEntry(clock.now, "ben", "listened", "CA2", {})
    assert store.audit_log(size=1).items == (last,)
    rest = store.audit_log(after=store.audit_log(size=1).next)
    assert [(entry.who, entry.what, entry.call_id) for entry in rest.items] == [
        ("ana", "listened", "CA1"),
        ("ana", "logged in", ""),
    ]
    assert [entry.detail for entry in store.audit_log("CA1").items] == [{"key": "CA1/listen.opus"}]
    assert rest.next == ""
