"""What retention and erasure leave behind: in the tables, in the files' bytes, in the stores."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import orjson
import pytest

from bot.errors import RecordingsError
from bot.events import CallReceived
from bot.tape_file import HEAD, Record, encode_chunk, finish_tape
from records.inbox import Inbox, Tape
from records.job_log import MOST_TRIES, JobLog
from records.record import Turn
from records.recordings import Recordings
from records.retention import Retention, Swept, last_sweep
from records.search import CallFilter
from records.store import Store, digest

NUMBER = "+12125550101"
OTHER = "+12125550102"
WORDS = "zanzibar quokkas"
KEEP = {"audio": None, "transcript": None, "number": None}


@pytest.fixture
def recordings(tmp_path):
    return Recordings(str(tmp_path / "recordings"))


@pytest.fixture
def inbox(tmp_path, clock):
    return Inbox(tmp_path, clock)


@pytest.fixture
def forgotten():
    return []


@pytest.fixture
def retention(store, recordings, inbox, clock, forgotten):
    def make(**days):
        return Retention(store._database, recordings, inbox, {**KEEP, **days}, clock, forgotten.extend)

    return make


@pytest.fixture
def kept(store, make_record, recordings):
    """Saves calls with their recordings and tapes."""

    def keep(call_id, minutes=0, **changes):
        record = make_record(call_id, minutes, **{"retention": {}, **changes})
        assert store.save(record)
        for name in ("stereo.flac", "tape.mcap"):
            recordings.put(b"sound", f"{call_id}/{name}", "audio/flac")
        store.add_recording(call_id, f"{call_id}/stereo.flac", "audio/flac", 5)
        store.add_score(call_id, "manners", "ana", 80, {"why": "said so"})
        return record

    return keep


def keys(recordings):
    return sorted(stored.key for stored in recordings.list())


def days(count):
    return timedelta(days=count)


def lay_tape(folder: Path, call_id: str, number: str, *, finished: bool = True) -> Path:
    """A tape with nothing on it but who called."""
    event = CallReceived(call_id, number, "+12125550199", "dental").to_json()
    meta = orjson.dumps({"layout": 1, "call": call_id})
    path = folder / "tapes" / "2026-05-01" / f"{call_id}.mcap.part"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(HEAD + encode_chunk([Record("meta", 1, 1, meta, 0), Record("event", 2, 2, event, 1)]))
    return finish_tape(path) if finished else path


def test_nothing_is_removed_without_a_setting(kept, retention, store, clock, recordings):
    record = kept("CA1")
    clock.now += days(40_000)
    assert retention().sweep() == 0
    assert store.call("CA1") == record
    assert keys(recordings) == ["CA1/stereo.flac", "CA1/tape.mcap"]


def test_sound_that_is_too_old_goes_and_the_words_stay(kept, retention, store, clock, recordings):
    record = kept("CA1")
    kept("CA2", minutes=1)
    clock.now += days(30)
    assert retention(audio=30).sweep() == 0
    clock.now += timedelta(seconds=1)
    assert retention(audio=30).sweep() == 1
    page = store.page("CA1")
    assert (page.record, page.recordings, page.expired) == (record, (), ("audio",))
    assert page.scores[0].answers == {"why": "said so"}
    assert keys(recordings) == ["CA2/stereo.flac", "CA2/tape.mcap"]
    assert [call.expired for call in store.calls().items] == [(), ("audio",)]
    (entry,) = store.audit_log("CA1").items
    assert (entry.who, entry.what, entry.detail) == ("retention", "expired", {"kinds": ["audio"]})
    assert retention(audio=30).sweep() == 0


def test_words_that_are_too_old_go_with_the_tape_and_the_recording_stays(kept, retention, store, clock, recordings):
    record = kept("CA1")
    clock.now += days(31)
    assert retention(transcript=30).sweep() == 1
    page = store.page("CA1")
    assert [(turn.speaker, turn.start_ms, turn.text, turn.words) for turn in page.record.turns] == [
        (turn.speaker, turn.start_ms, "", ()) for turn in record.turns
    ]
    assert (page.record.keys, page.record.outcome.summary, page.record.outcome.fields) == ((), "", {})
    assert all(tool.arguments == {} and tool.result == {} for tool in page.record.tools)
    assert [change.id for change in page.record.outcome.changes] == ["12"]
    assert (page.record.from_number, page.record.figures, page.record.cost) == (NUMBER, record.figures, record.cost)
    assert (page.scores[0].score, page.scores[0].answers) == (80, {})
    assert page.expired == ("transcript",)
    assert store.search("cleaning").items == ()
    assert keys(recordings) == ["CA1/stereo.flac"]


def test_a_number_that_is_too_old_goes_wherever_it_stands(kept, retention, store, clock, make_record):
    full = make_record()
    tool = replace(full.tools[1], arguments={"phone": NUMBER, "all": [{"digits": "12125550101"}]}, result={"n": 1})
    outcome = replace(full.outcome, fields={"phone": NUMBER}, summary=f"Call back {NUMBER}.")
    kept("CA1", tools=(tool,), outcome=outcome)
    clock.now += days(31)
    assert retention(number=30).sweep() == 1
    record = store.call("CA1")
    assert record.from_number == ""
    assert record.tools[0].arguments == {"phone": "+", "all": [{"digits": ""}]}
    assert record.outcome.fields == {"phone": "+"}
    assert record.outcome.summary == "Call back +."
    assert [turn.text for turn in record.turns] == [turn.text for turn in full.turns]
    assert store.calls(CallFilter(number=NUMBER)).items == ()


def test_a_flow_may_keep_longer_or_shorter_than_the_settings(kept, retention, store, clock):
    kept("CA1", retention={"audio": 10})
    kept("CA2", minutes=1, retention={"audio": 100})
    kept("CA3", minutes=2)
    expired = []
    for _ in range(4):
        clock.now += days(11)
        retention(audio=30).sweep()
        expired.append([call.call_id for call in store.calls().items if call.expired])
    assert expired == [["CA1"], ["CA1"], ["CA3", "CA1"], ["CA3", "CA1"]]
    clock.now += days(100)
    retention().sweep()
    assert [call.call_id for call in store.calls().items if call.expired] == ["CA3", "CA2", "CA1"]


def test_zero_days_keep_nothing(kept, retention, store, clock, recordings):
    kept("CA1")
    clock.now += timedelta(seconds=1)
    assert retention(audio=0, transcript=0, number=0).sweep() == 1
    assert store.page("CA1").expired == ("audio", "transcript", "number")
    assert keys(recordings) == []


def test_a_call_that_is_being_worked_on_expires_when_its_job_is_done(kept, retention, store, clock, tmp_path):
    log = JobLog(store._database, clock)
    assert log.claim("CA1", Tape(tmp_path / "CA1.mcap", "CA1", "sha", 5), ["derive", "recording"])
    kept("CA1")
    clock.now += timedelta(seconds=1)
    log.done("CA1", "derive")
    log.begin("CA1", "recording")
    assert retention(audio=0).sweep() == 0
    log.done("CA1", "recording")
    assert retention(audio=0).sweep() == 1


def test_a_call_whose_job_has_failed_for_good_expires_and_one_that_is_tried_again_waits(
    kept, retention, store, clock, tmp_path
):
    log = JobLog(store._database, clock)
    assert log.claim("CA1", Tape(tmp_path / "CA1.mcap", "CA1", "sha", 5), ["derive", "recording", "webhooks"])
    kept("CA1")
    clock.now += timedelta(seconds=1)
    log.done("CA1", "derive")
    for _ in range(MOST_TRIES - 1):
        log.failed("CA1", "recording", "OSError: full")
        assert retention(audio=0).sweep() == 0
    log.failed("CA1", "recording", "OSError: full")
    assert log.steps("CA1")["webhooks"] == "pending"
    assert retention(audio=0).sweep() == 1
    log.retry("CA1")
    assert retention(audio=0, number=0).sweep() == 0, "somebody has asked for another try"


def test_what_has_expired_stays_so_when_the_record_is_saved_again(kept, retention, store, clock):
    record = kept("CA1")
    clock.now += days(31)
    retention(transcript=30, number=30).sweep()
    before = store.call("CA1")
    assert store.save(record)
    assert store.call("CA1") == before
    assert store.search("cleaning").items == ()


def test_an_erased_call_is_gone_and_does_not_come_back(kept, retention, store, recordings, forgotten):
    record = kept("CA1")
    other = kept("CA2", minutes=1)
    store.audit("ana", "listened", "CA1", {"key": "CA1/stereo.flac"})
    assert retention().erase_call("CA1", "ana")
    assert not retention().erase_call("CA1", "ana")
    assert not retention().erase_call("CA9", "ana")
    assert store.call("CA1") is None
    assert store.call("CA2") == other
    assert [hit.call.call_id for hit in store.search("cleaning").items] == ["CA2"]
    assert keys(recordings) == ["CA2/stereo.flac", "CA2/tape.mcap"]
    assert forgotten == ["CA1"]
    assert [(entry.who, entry.what, entry.call_id, entry.detail) for entry in store.audit_log("CA1").items] == [
        ("ana", "erased", digest("CA1"), {}),
        ("ana", "listened", digest("CA1"), {}),
    ]
    assert not store.save(record)
    assert not store.add_recording("CA1", "CA1/stereo.flac", "audio/flac", 5)
    assert store.call("CA1") is None


def test_all_calls_of_a_number_are_erased_derived_or_not(kept, retention, store, tmp_path, inbox):
    kept("CA1")
    kept("CA2", minutes=1)
    kept("CA3", minutes=2, from_number="+12125550102")
    lay_tape(tmp_path, "CA4", NUMBER)
    lay_tape(tmp_path, "CA5", "+12125550102")
    up = lay_tape(tmp_path, "CA6", NUMBER, finished=False)
    assert retention().erase_number(NUMBER, "ana") == 3
    assert retention().erase_number(NUMBER, "ana") == 0
    assert [call.call_id for call in store.calls().items] == ["CA3"]
    assert [file.path.stem for file in inbox.finished()] == ["CA5"]
    assert up.exists()


def test_calls_without_a_record_are_erased_by_their_number_wherever_their_tapes_lie(
    kept, retention, store, clock, tmp_path, inbox, recordings
):
    log = JobLog(store._database, clock)
    # CA1 and CA2 are claimed and archived; CA3 is claimed on a machine whose archive has failed; CA4 and CA5 are
    # archived and unknown to the database.
    for call_id, number in {"CA1": NUMBER, "CA2": OTHER, "CA3": NUMBER, "CA4": NUMBER, "CA5": OTHER}.items():
        path = lay_tape(tmp_path, call_id, number)
        if call_id in ("CA1", "CA2", "CA3"):
            assert log.claim(call_id, inbox.open(path), ["archive", "derive"])
        if call_id != "CA3":
            recordings.put(path, f"{call_id}/tape.mcap", "application/vnd.mcap")
        path.unlink()
    assert retention().erase_number(NUMBER, "ana") == 3
    assert keys(recordings) == ["CA2/tape.mcap", "CA5/tape.mcap"]
    assert log.call_ids() == ["CA2"]
    assert retention().erase_number(NUMBER, "ana") == 0


def test_a_number_that_is_too_old_goes_from_beside_the_tape(kept, retention, store, clock, tmp_path, sql):
    log = JobLog(store._database, clock)
    assert log.claim("CA1", Tape(tmp_path / "CA1.mcap", "CA1", "sha", 5, NUMBER), [])
    kept("CA1")
    clock.now += days(31)
    assert retention(audio=30).sweep() == 1
    assert sql("SELECT from_number FROM records_tapes") == [(NUMBER,)]
    assert retention(number=30).sweep() == 1
    assert sql("SELECT from_number FROM records_tapes") == [("",)]


def test_when_retention_last_ran_and_what_it_removed_is_known(kept, retention, store, clock, monkeypatch):
    database = store._database
    assert last_sweep(database, clock) is None
    retention().sweep()
    assert last_sweep(database, clock) == Swept(clock.now, "", 0)
    for number in range(3):
        kept(f"CA{number}", minutes=number)
    clock.now += days(31)
    retention(audio=30).sweep()
    retention(transcript=30).sweep()
    assert last_sweep(database, clock) == Swept(clock.now, "", 3)
    clock.now += days(1)
    with monkeypatch.context() as patch:
        patch.setattr(Retention, "_sweep", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            retention().sweep()
    assert last_sweep(database, clock) == Swept(clock.now, "ZeroDivisionError", 0)


def test_erasing_clears_what_killed_processes_left_and_leaves_what_is_in_use(kept, retention, tmp_path, inbox):
    kept("CA1")
    left = tmp_path / "work" / "left"
    left.mkdir(parents=True)
    (left / "stereo.flac").write_bytes(b"sound")
    (left / "lock").touch()
    with inbox.scratch() as used:
        (used / "stereo.flac").write_bytes(b"sound")
        assert retention().erase_call("CA1", "ana")
        assert [path.name for path in (tmp_path / "work").iterdir()] == [used.name]
        assert (used / "stereo.flac").exists()
    assert list((tmp_path / "work").iterdir()) == []


def test_an_erasure_that_was_interrupted_is_finished_by_the_sweep(kept, retention, store, recordings, monkeypatch):
    kept("CA1")
    for place in (Recordings, Store):
        broken = retention()
        with monkeypatch.context() as patch:
            if place is Recordings:
                patch.setattr(Recordings, "delete_all", lambda *_: 1 / 0)
            else:
                patch.setattr(broken, "_forget_jobs", lambda _: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                broken.erase_call("CA1", "ana")
    assert not store.save(store.call("CA1"))
    assert retention().sweep() == 1
    assert store.call("CA1") is None
    assert keys(recordings) == []
    assert store.audit_log("CA1").items[0].who == "ana"


def test_an_expiry_that_was_interrupted_is_repeated(kept, retention, store, clock, recordings, monkeypatch):
    kept("CA1")
    clock.now += days(31)
    with monkeypatch.context() as patch:
        patch.setattr("records.rows.replace_record", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            retention(audio=30).sweep()
    assert store.page("CA1").expired == ()
    assert retention(audio=30).sweep() == 1
    assert keys(recordings) == []


def test_one_call_that_cannot_be_worked_on_keeps_no_other_from_its_end(kept, retention, store, clock, sql):
    for number in range(3):
        kept(f"CA{number}", minutes=number)
    sql("UPDATE records_details SET rest = '{}' WHERE call = (SELECT id FROM records_calls WHERE call_id = 'CA1')")
    clock.now += days(31)
    for _ in range(2):
        with pytest.raises(KeyError):
            retention(audio=30).sweep()
    assert [(call.call_id, call.expired) for call in store.calls().items] == [
        ("CA2", ("audio",)),
        ("CA1", ()),
        ("CA0", ("audio",)),
    ]


def test_a_store_of_recordings_that_is_away_ends_the_sweep(kept, retention, store, clock, recordings, monkeypatch):
    for number in range(3):
        kept(f"CA{number}", minutes=number)
    clock.now += days(31)
    asked = []

    def away(_, call_id):
        asked.append(call_id)
        raise RecordingsError("away")

    with monkeypatch.context() as patch:
        patch.setattr(Recordings, "delete_all", away)
        with pytest.raises(RecordingsError):
            retention(audio=30).sweep()
    assert asked == ["CA0"]
    assert [call.expired for call in store.calls().items] == [(), (), ()]
    assert retention(audio=30).sweep() == 3


def test_a_tape_that_gave_no_record_goes_too(kept, retention, store, clock, recordings, tmp_path):
    log = JobLog(store._database, clock)
    kept("CA1", retention={"audio": 1000})
    for call_id in ("CA1", "CA2"):
        assert log.claim(call_id, Tape(tmp_path / f"{call_id}.mcap", call_id, call_id, 5), ["archive"])
    recordings.put(b"sound", "CA2/tape.mcap", "application/vnd.mcap")
    clock.now += days(31)
    assert retention(audio=30, number=400).sweep() == 0
    clock.now += days(1)
    assert retention().sweep() == 0
    assert retention(audio=30, number=400).sweep() == 1
    assert keys(recordings) == ["CA1/stereo.flac", "CA1/tape.mcap"]
    assert (log.steps("CA1"), log.steps("CA2")) == ({"archive": "pending"}, {})


def test_a_tape_of_an_erased_call_that_turns_up_again_goes_with_the_next_sweep(kept, retention, store, recordings):
    record = kept("CA1")
    retention().erase_call("CA1", "ana")
    recordings.put(b"sound", "CA1/tape.mcap", "application/vnd.mcap")
    assert not store.save(record)
    assert retention().sweep() == 1
    assert keys(recordings) == []
    assert retention().sweep() == 0


def test_an_erased_number_leaves_nothing_behind(kept, retention, store, database_url, tmp_path, make_record):
    """Words, number and ids are in no byte of the database's files, in no row, and in no file of the stores."""
    traces = [NUMBER.encode(), b"12125550101", b"CAsecret", *(word.encode() for word in WORDS.split()), b"Ulysses"]
    full = make_record()
    tool = replace(full.tools[1], arguments={"name": "Ulysses", "phone": NUMBER})
    for number in range(40):
        # Enough around them to fill many pages and several segments of the index.
        kept(f"CAother{number}", minutes=number, from_number="+12125550102")
        if number % 4 == 0:
            long = Turn(1, "caller", 0.0, 1.0, f"{WORDS} " * 200)
            turns = (Turn(0, "caller", 0.0, 1.0, f"I met {WORDS} there"), long)
            record = kept(f"CAsecret{number}", minutes=number + 0.5, turns=turns, tools=(tool,))
            store.save(record)
            store.audit("ana", "listened", record.call_id, {"key": f"{record.call_id}/stereo.flac"})
            lay_tape(tmp_path, f"CAsecret{number}t", NUMBER)
    if database_url.startswith("sqlite"):
        assert all(trace in contents(tmp_path) for trace in traces)
    assert retention().erase_number(NUMBER, "ana") == 20
    found = contents(tmp_path) + (dump(database_url) if database_url.startswith("postgres") else b"")
    assert b"CAother1" in found
    assert [trace for trace in traces if trace in found] == []


def test_an_expired_transcript_leaves_no_word_behind(kept, retention, clock, database_url, tmp_path):
    for number in range(20):
        kept(f"CA{number}", minutes=number, turns=(Turn(0, "caller", 0.0, 1.0, f"I met {WORDS} there"),))
    kept("CAkept", minutes=60, retention={"transcript": 400})
    clock.now += days(31)
    assert retention(transcript=30).sweep() == 20
    found = contents(tmp_path) + (dump(database_url) if database_url.startswith("postgres") else b"")
    assert b"por favor" in found
    assert [word for word in WORDS.split() if word.encode() in found] == []


def contents(folder: Path) -> bytes:
    """All bytes and all names of the files in a folder."""
    return b"\0".join(
        part
        for path in folder.rglob("*")
        for part in (str(path).encode(), path.read_bytes() if path.is_file() else b"")
    )


def dump(url: str) -> bytes:
    """What pg_dump writes of a database, indexes' contents apart."""
    return subprocess.run(["pg_dump", "--inserts", url], capture_output=True, check=True).stdout
