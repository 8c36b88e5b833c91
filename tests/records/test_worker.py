"""The worker process: from a tape in the inbox to records, once, whatever dies in between."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import psycopg
from fakes.worker import ROOT, WorkerProcess, leave_tape, parts_of, wait_until
from sqlalchemy.engine import make_url

from bot.tape import TapeReader
from records.inbox import tape_key
from records.retention import Retention
from records.steps import PLAN

_numbers = itertools.count()


def test_a_finished_call_gets_its_records_and_leaves_the_inbox(tmp_path: Path) -> None:
    tape = leave_tape(tmp_path, "CA1")
    whole = tape.read_bytes()
    parts = parts_of(data_dir=tmp_path)
    with WorkerProcess(data_dir=tmp_path):
        wait_until(lambda: set(parts.log.steps("CA1").values()) == {"done"} and not tape.exists())
    record = parts.store.call("CA1")
    assert record is not None
    assert (record.call_sid, record.outcome.end_reason) == ("CA1", "goodbye")
    assert record.tape_sha256 == parts.log.sha256_of("CA1")
    assert parts.recordings.read(tape_key("CA1")) == whole
    assert not list(tmp_path.glob("tapes/*/*"))
    assert parts.log.counts() == {"pending": 0, "running": 0, "failed": 0}


def test_what_a_killed_server_left_is_closed_as_interrupted_and_gets_its_records(tmp_path: Path) -> None:
    leave_tape(tmp_path, "CA1", finished=False)
    parts = parts_of(data_dir=tmp_path)
    with WorkerProcess(data_dir=tmp_path):
        wait_until(lambda: parts.store.call("CA1"))
    record = parts.store.call("CA1")
    assert record is not None
    assert record.outcome.end_reason == "interrupted"
    assert [flag.kind for flag in record.flags] == ["interrupted"]


def test_a_call_that_came_twice_has_two_records(tmp_path: Path) -> None:
    parts = parts_of(data_dir=tmp_path)
    first = leave_tape(tmp_path, "CA1")
    with WorkerProcess(data_dir=tmp_path):
        wait_until(lambda: not first.exists() and parts.store.call("CA1"))
        again = leave_tape(tmp_path, "CA1")
        assert again.name == "CA1.mcap", "the first one is archived, and its name free"
        wait_until(lambda: parts.store.call("CA1.2"))
        wait_until(lambda: not list(tmp_path.glob("tapes/*/*")))
    one, two = parts.store.call("CA1"), parts.store.call("CA1.2")
    assert one is not None
    assert two is not None
    assert one.tape_sha256 != two.tape_sha256
    assert (one.call_sid, two.call_sid) == ("CA1", "CA1")


def test_a_damaged_copy_in_the_store_is_replaced_by_the_tape(tmp_path: Path) -> None:
    parts = parts_of(data_dir=tmp_path)
    tape = leave_tape(tmp_path, "CA1")
    whole = tape.read_bytes()
    parts.recordings.put(whole[:-30] + bytes([whole[-30] ^ 0xFF]) + whole[-29:], tape_key("CA1"), "")
    with WorkerProcess(data_dir=tmp_path):
        wait_until(lambda: not tape.exists(), 90)
    assert parts.recordings.read(tape_key("CA1")) == whole
    assert parts.store.call("CA1") is not None


def test_a_call_that_is_erased_while_its_tape_waits_on_this_machine_does_not_come_back(tmp_path: Path) -> None:
    data = tmp_path / "a"
    shared = {"database_url": f"sqlite:///{tmp_path / 'calls.db'}", "recordings_url": str(tmp_path / "recordings")}
    parts, elsewhere = parts_of(data_dir=data, **shared), parts_of(data_dir=tmp_path / "b", **shared)
    keep = {"audio": None, "transcript": None, "number": None}
    retention = Retention(
        elsewhere.database, elsewhere.recordings, elsewhere.inbox, keep, elsewhere.clock, lambda _: None
    )
    with WorkerProcess(data_dir=data, **shared):
        wait_until(parts.log.beats, 90)
        (tmp_path / "recordings").rmdir()
        (tmp_path / "recordings").write_text("in the way")
        tape = leave_tape(data, "CA1")
        wait_until(lambda: parts.log.steps("CA1").get("archive") == "failed", 90)
        (tmp_path / "recordings").unlink()
        assert retention.erase_number("+15550100", "ana") == 1
        wait_until(lambda: not tape.exists(), 90)
        wait_until(lambda: not any(parts.log.counts().values()), 90)
    retention.sweep()
    assert parts.store.calls().items == ()
    assert parts.log.call_ids() == []
    assert list(parts.recordings.list()) == []


def test_of_two_workers_for_one_folder_one_waits_for_the_other(tmp_path: Path) -> None:
    parts = parts_of(data_dir=tmp_path)
    with WorkerProcess(data_dir=tmp_path) as first:
        wait_until(parts.log.beats)
        with WorkerProcess(data_dir=tmp_path):
            leave_tape(tmp_path, "CA1")
            wait_until(lambda: parts.store.call("CA1"))
            assert len(parts.log.beats()) == 1
            first.kill()
            leave_tape(tmp_path, "CA2")
            wait_until(lambda: parts.store.call("CA2"))
            wait_until(lambda: len(parts.log.beats()) == 1)


def test_a_worker_whose_server_is_gone_ends(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    worker = subprocess.Popen(
        [sys.executable, "-m", "records", "work", "--parent", str(gone.pid)],
        cwd=ROOT, env={**os.environ, "DATA_DIR": str(tmp_path)}, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    assert worker.wait(30) == 0


# The real worker, with steps that tell when they run, in one of which it stays for good.
TELLING = """
import time
from bot.ports import SystemClock
from bot.settings import load_settings
from records import worker

worker.PLAN = {plan!r}

class Steps:
    def __init__(self, parts): pass
    def all(self):
        return {{name: lambda call_id, name=name: self.run(name) for name in worker.PLAN}}
    def run(self, name):
        with (load_settings().data_dir.parent / "steps.txt").open("a") as file:
            file.write("{name} " + name + "\\n")
        if name == {hangs_in!r}:
            time.sleep(600)
        return ""

worker.CallSteps = Steps
life = worker.Life(None)
settings = load_settings()
before = worker.hold_folder(settings.data_dir, {name!r}, life)
worker.open_worker(settings, SystemClock(), {name!r}, life).run(before=before)
"""


def telling(name: str, plan: tuple[str, ...] = PLAN, hangs_in: str = "") -> str:
    return TELLING.format(name=name, plan=plan, hangs_in=hangs_in)


def test_a_newer_version_finishes_old_work_by_its_old_plan(tmp_path: Path) -> None:
    data, said = tmp_path / "data", tmp_path / "steps.txt"
    parts = parts_of(data_dir=data)
    tape = leave_tape(data, "CA1")
    old, new = ("derive", "recording", "polish", "score"), ("derive", "recording", "translate", "score")
    # By this DBOS would tell the versions apart, and leave the work of the old one lying.
    other_code = "from dbos import DBOS\nDBOS.workflow(name='older')(lambda: None)\n"
    with WorkerProcess(script=other_code + telling("old", old, hangs_in="polish"), data_dir=data):
        wait_until(lambda: "polish" in (said.read_text() if said.exists() else ""), 90)
        wait_until(lambda: not tape.exists(), 90)
    with WorkerProcess(script=telling("new", new), data_dir=data):
        wait_until(lambda: set(parts.log.steps("CA1").values()) == {"done"}, 90)
        leave_tape(data, "CA2")
        wait_until(lambda: set(parts.log.steps("CA2").values()) == {"done"}, 90)
    assert said.read_text().splitlines() == [
        "old derive", "old recording", "old polish", "new score",
        "new derive", "new recording", "new translate", "new score",
    ]  # fmt: skip
    notes = {job.step: job.note for job in parts.log.jobs("CA1") if job.note}
    assert notes == {"polish": "This version has no such step."}


def test_a_dead_workers_job_is_finished_on_another_machine(tmp_path: Path, postgres_url: str) -> None:
    name = f"jobs_test_{next(_numbers)}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    database_url = make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    shared = {"database_url": database_url, "recordings_url": str(tmp_path / "recordings")}
    said = tmp_path / "steps.txt"
    parts = parts_of(data_dir=tmp_path / "b", **shared)
    leave_tape(tmp_path / "a", "CA1")
    with WorkerProcess(script=telling("a", hangs_in="summarise"), data_dir=tmp_path / "a", **shared) as doomed:
        wait_until(lambda: "summarise" in (said.read_text() if said.exists() else ""))
        with WorkerProcess(script=telling("b"), data_dir=tmp_path / "b", **shared):
            wait_until(lambda: len(parts.log.beats()) == 2)
            doomed.kill()
            wait_until(lambda: set(parts.log.steps("CA1").values()) == {"done"}, 60)
    parts.store.close()
    parts.database.close()
    assert said.read_text().splitlines() == [
        "a derive", "a recording", "a summarise", "b summarise", "b score", "b webhooks",
    ]  # fmt: skip


def test_tapes_of_the_recordings_store_can_be_read_by_their_calls_id(tmp_path: Path) -> None:
    leave_tape(tmp_path, "CA1")
    parts = parts_of(data_dir=tmp_path)
    with WorkerProcess(data_dir=tmp_path):
        wait_until(lambda: not list(tmp_path.glob("tapes/*/*")))
    from qa.tapes import open_tape

    with open_tape("CA1", parts.settings) as path:
        assert TapeReader(path).meta["call"] == "CA1"
