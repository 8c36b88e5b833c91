"""``python -m records delete`` and ``backup``, as an operator runs them."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from dbos import DBOS
from fakes.worker import EVENTS, WorkerProcess, parts_of, wait_until
from sqlalchemy.engine import make_url

from bot.events import CallEnded, CallerSaid
from bot.ports import SystemClock
from bot.settings import Settings
from bot.tape import TapeDeck
from records.__main__ import main
from records.inbox import Inbox
from records.jobs import Jobs, jobs_database
from records.recordings import Recordings
from records.retention import Retention
from records.store import Store, migrate


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    settings = Settings(_env_file=None)
    migrate(settings.database)
    return settings


@pytest.fixture
def open_store(settings, clock):
    """Opens stores on the settings' database; a test that replaces the database closes them itself."""

    @contextmanager
    def open_one():
        store = Store(settings.database, clock)
        store.open()
        try:
            yield store
        finally:
            store.close()

    return open_one


@pytest.fixture
def store(open_store):
    with open_store() as store:
        yield store


def test_a_backup_holds_what_was_there_and_can_be_put_back(settings, open_store, make_record, tmp_path, capsys):
    stop, saved = threading.Event(), []
    with open_store() as store:
        store.save(make_record("CA1"))
        store.save(make_record("CA2", 1))

        def write():
            while not stop.is_set():
                saved.append(store.save(make_record("CA2", 1, duration_ms=float(len(saved)))))

        writer = threading.Thread(target=write)
        writer.start()
        try:
            assert main(["backup", str(tmp_path / "copy.db")]) == 0
        finally:
            stop.set()
            writer.join()
        assert "copy.db: 2 calls" in capsys.readouterr().out
        assert all(saved)
        store.save(make_record("CA3", 2))
    # As docs/runbook.md says: the server is stopped, the copy takes the database's place, without a log.
    data = tmp_path / "data"
    for name in ("switchboard.db-wal", "switchboard.db-shm"):
        (data / name).unlink(missing_ok=True)
    (tmp_path / "copy.db").rename(data / "switchboard.db")
    migrate(settings.database)
    with open_store() as store:
        assert store.call("CA1") == make_record("CA1")
        assert [hit.call.call_id for hit in store.search("cleaning").items] == ["CA2", "CA1"]
        assert store.save(make_record("CA4", 3))


def leave_growing_tape(data, call_sid, copies=None, **flow):
    """A finished tape in the inbox; into `copies` goes what lay there while the call was up."""

    async def write():
        deck = TapeDeck(data, SystemClock(), lambda trouble: pytest.fail(str(trouble)))
        tape = deck.open(call_sid, {"flow": {"id": "dental", **flow}, "account": "AC1"})
        for event in EVENTS:
            tape.put("event", event.to_json())
        tape.flush()
        if copies:
            part = next(data.glob(f"tapes/*/{call_sid}.mcap.part"))
            (copies / part.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(part, copies / part.parent.name)
        tape.put("event", CallerSaid("On Tuesday, please.").to_json())
        tape.put("event", CallEnded("goodbye", 1000.0).to_json())
        path = await tape.close({"seed": 7})
        await deck.close()
        return path

    return asyncio.run(write())


def test_a_restored_backup_invents_no_call_and_loses_none(empty_url, tmp_path, monkeypatch):
    """As docs/runbook.md says, with tapes of calls in progress in the copy, as backups without ``--exclude`` have."""
    data, backups = tmp_path / "data", tmp_path / "backups"
    postgres = empty_url.startswith("postgres")
    url = empty_url if postgres else f"sqlite:///{data / 'switchboard.db'}"
    settings = {"data_dir": data, "database_url": url}
    monkeypatch.chdir(tmp_path)
    for name, value in settings.items():
        monkeypatch.setenv(name.upper(), str(value))
    parts = parts_of(**settings)
    for call_sid, flow in (("CA1", {}), ("CAexpired", {"content": {"retention": {"audio_days": 0}}})):
        leave_growing_tape(data, call_sid, backups / "tapes", **flow)
    with WorkerProcess(**settings):
        wait_until(lambda: len(parts.store.calls().items) == 2 and not list(data.glob("tapes/*/*")), 90)
        wait_until(lambda: not any(parts.log.counts().values()), 90)
    keep = {"audio": None, "transcript": None, "number": None}
    Retention(parts.database, parts.recordings, parts.inbox, keep, parts.clock, lambda _: None).sweep()
    before = {call_id: parts.store.page(call_id) for call_id in ("CA1", "CAexpired")}
    assert before["CAexpired"].expired == ("audio",)

    if postgres:
        subprocess.run(["pg_dump", "--format=custom", f"--file={backups / 'calls.dump'}", url], check=True)
    else:
        assert main(["backup", str(backups / "calls.db")]) == 0
    # A call that was up when the database was copied, and archived when the files were.
    later = leave_growing_tape(data, "CAlater", backups / "tapes")
    whole = later.read_bytes()
    parts.recordings.put(later, "CAlater/tape.mcap", "application/vnd.mcap")
    later.unlink()
    (data / "recordings" / "CAlater" / "stereo.flac.1.2.part").write_bytes(b"half")
    for name in ("recordings", "tapes"):
        shutil.copytree(data / name, backups / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.part"))
    parts.store.close()
    parts.database.close()

    shutil.rmtree(data)
    if postgres:
        server = make_url(url)
        with psycopg.connect(server.set(database="postgres").render_as_string(False), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {server.database} WITH (FORCE)")
            connection.execute(f"CREATE DATABASE {server.database}")
        dump = str(backups / "calls.dump")
        subprocess.run(["pg_restore", "--exit-on-error", "--no-owner", f"--dbname={url}", dump], check=True)
    else:
        data.mkdir()
        shutil.copy(backups / "calls.db", data / "switchboard.db")
    for name in ("recordings", "tapes"):
        shutil.copytree(backups / name, data / name)
    assert len(list(data.glob("tapes/*/*.part"))) == 3

    parts = parts_of(**settings)
    with WorkerProcess(**settings):
        wait_until(lambda: not list(data.glob("tapes/*/*")), 90)
    assert parts.log.call_ids() == ["CA1", "CAexpired"]
    assert {call.call_id: parts.store.page(call.call_id) for call in parts.store.calls().items} == before
    assert parts.recordings.read("CAlater/tape.mcap") == whole
    assert not list((data / "recordings").rglob("*.part"))
    assert main(["rebuild", "CAlater"]) == 0
    assert [turn.text for turn in parts.store.call("CAlater").turns][-1] == "On Tuesday, please."
    parts.store.close()
    parts.database.close()


def test_a_backup_replaces_nothing_and_leaves_nothing_half(settings, tmp_path, capsys, monkeypatch):
    (tmp_path / "copy.db").write_text("precious")
    assert main(["backup", str(tmp_path / "copy.db")]) == 2
    assert (tmp_path / "copy.db").read_text() == "precious"
    assert main(["backup", str(tmp_path / "nowhere" / "copy.db")]) == 2
    database = tmp_path / "data" / "switchboard.db"
    database.write_bytes(b"x" * 100_000)
    assert main(["backup", str(tmp_path / "other.db")]) == 2
    assert not list(tmp_path.glob("other*"))
    monkeypatch.setenv("DATABASE_URL", "postgresql://me@127.0.0.1/calls")
    assert main(["backup", str(tmp_path / "other.db")]) == 2
    errors = capsys.readouterr().err
    for words in ("replace nothing", "unable to open", "not a database", "pg_dump"):
        assert words in errors


def test_tables_go_one_step_back_and_forth(settings, capsys):
    for to, words in (("0002", "records are at 0002"), ("0003", "records are at 0003")):
        assert main(["migrate", "--to", to]) == 0
        assert words in capsys.readouterr().out
    assert main(["migrate", "--to", "0099"]) == 2
    assert "There are 0001, 0002, 0003 and base." in capsys.readouterr().err
    assert main(["migrate", "--tables", "desk"]) == 0
    assert capsys.readouterr().out == "The tables of desk are at 0001.\n"


def test_jobs_tell_when_retention_last_ran(settings, store, clock, tmp_path, capsys):
    keep = {"audio": 0, "transcript": None, "number": None}
    recordings, inbox = Recordings(str(tmp_path / "recordings")), Inbox(tmp_path, SystemClock())
    Retention(store._database, recordings, inbox, keep, SystemClock(), lambda _: None).sweep()
    assert main(["jobs"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == "Nothing is left to do."
    assert second.startswith("Retention last ran 2")
    assert second.endswith("; within a day it removed something from 0 calls.")


def test_deleting_tells_how_many_calls_are_gone(empty_url, settings, clock, make_record, capsys, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", empty_url)
    migrate(empty_url)
    store = Store(empty_url, clock)
    for number in range(3):
        store.save(make_record(f"CA{number}", number))
    assert main(["delete", "--call", "CA0", "--who", "ana"]) == 0
    assert main(["delete", "--call", "CA0"]) == 1
    assert main(["delete", "--number", "+12125550101"]) == 0
    assert capsys.readouterr().out.splitlines() == ["1 call is erased.", "0 calls are erased.", "2 calls are erased."]
    assert store.calls().items == ()
    assert {entry.who for entry in store.audit_log().items} == {"ana", "command line"}
    store.close()


def test_what_is_no_calls_id_is_told(capsys):
    for words in (["delete", "--call", "../../x"], ["rebuild", "*"]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2
        assert "is no call's id" in capsys.readouterr().err


def test_a_deleted_call_is_gone_from_the_job_queue(empty_url, clock, make_record, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", empty_url)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    settings = Settings(_env_file=None)
    migrate(empty_url)
    store = Store(empty_url, clock)
    store.save(make_record("CAsecret"))
    store.close()
    jobs = Jobs(None, {}, lambda _: None, jobs_database(settings), "worker")
    jobs.open()
    try:
        for call_id in ("CAsecret", "CAother"):
            jobs.submit(call_id, [])
            DBOS.retrieve_workflow(call_id).get_result()
        assert main(["delete", "--call", "CAsecret"]) == 0
        assert [workflow.workflow_id for workflow in DBOS.list_workflows()] == ["CAother"]
    finally:
        jobs.close()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.name for path in files if b"CAsecret" in path.read_bytes()] == []


def test_of_what_is_done_the_job_queue_keeps_nothing_for_long(settings, store):
    jobs = Jobs(None, {}, lambda _: None, jobs_database(settings), "worker")
    jobs.open()
    try:
        jobs.submit("CA1", [])
        DBOS.retrieve_workflow("CA1").get_result()
        jobs.tidy(datetime.now(UTC) - timedelta(hours=1))
        assert len(DBOS.list_workflows()) == 1
        jobs.tidy(datetime.now(UTC) + timedelta(hours=1))
        assert DBOS.list_workflows() == []
    finally:
        jobs.close()
