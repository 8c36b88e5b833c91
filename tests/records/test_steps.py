"""The steps of a job, and what becomes of them when something they need is away."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from fakes.worker import WorkerProcess, leave_tape, parts_of, wait_until

from bot.errors import ModelError
from bot.events import BotSaid
from records.__main__ import main
from records.inbox import archive, file_sha256, tape_key
from records.job_log import ARCHIVE
from records.record import CostLine, TextUsage
from records.scorecard import score
from records.steps import CallSteps
from records.text_model import Summary

PAID = Summary(
    "They asked for a check-up.", {"name": "Emma"}, "gemini-x", TextUsage("summary", "gemini-x", {"text_in": 9})
)


class Model:
    """A text model that says what the test wants, or fails."""

    def __init__(self, *answers: Summary | ModelError) -> None:
        self.answers = list(answers)

    def summarise(self, _record: object) -> Summary:
        answer = self.answers.pop(0)
        if isinstance(answer, ModelError):
            raise answer
        return answer


def steps_with(tmp_path: Path, model: Model) -> tuple[CallSteps, Any]:
    from dataclasses import replace

    parts = replace(parts_of(data_dir=tmp_path), text_model=model)  # type: ignore[arg-type]
    return CallSteps(parts), parts


def test_a_summary_is_paid_for_once(tmp_path: Path, make_record: Any) -> None:
    steps, parts = steps_with(tmp_path, Model(PAID))
    tape = leave_tape(tmp_path, "CA1", BotSaid("Which day suits you?", 1.0, False))
    parts.store.save(make_record("CA1", tape_sha256=file_sha256(tape)))
    steps.derive("CA1")
    rules = parts.store.call("CA1").outcome
    assert rules.summarised_by == "gemini-3.8-flash", "what was there before is kept"
    parts.store.save(make_record("CA2", turns=make_record().turns, outcome=_by_rules(make_record())))
    assert steps.summarise("CA2") == ""
    outcome = parts.store.call("CA2").outcome
    assert (outcome.summary, outcome.summarised_by) == ("They asked for a check-up.", "gemini-x")
    assert outcome.fields == {"service": "cleaning", "wishes": ["window seat"], "name": "Emma"}
    assert steps.summarise("CA2") == "", "asked again, it would have failed"
    assert parts.store.call("CA2").text_usage == (PAID.usage,)
    assert parts.store.call("CA2").cost.lines[-1] == CostLine("text_in", "gemini-x", 9, None)


def test_what_a_summary_cost_stays_when_the_call_is_derived_again(tmp_path: Path, make_record: Any) -> None:
    steps, parts = steps_with(tmp_path, Model())
    tape = leave_tape(tmp_path, "CA1", BotSaid("Which day suits you?", 1.0, False))
    parts.store.save(make_record("CA1", tape_sha256=file_sha256(tape), text_usage=(PAID.usage,)))
    steps.derive("CA1")
    record = parts.store.call("CA1")
    assert record.text_usage == (PAID.usage,)
    assert CostLine("text_in", "gemini-x", 9, None) in record.cost.lines
    assert "gemini-x: no price for text_in" in [flag.detail for flag in record.flags]


def test_without_the_text_model_the_rules_summary_stays_and_the_note_tells(tmp_path: Path, make_record: Any) -> None:
    steps, parts = steps_with(tmp_path, Model(ModelError("quota", "gemini-x: the quota is used up.")))
    parts.store.save(make_record("CA1", outcome=_by_rules(make_record())))
    assert steps.summarise("CA1") == "The summary is by rules: gemini-x: the quota is used up."
    assert parts.store.call("CA1").outcome.summarised_by == "rules"


@pytest.mark.parametrize("known_by", ["its claim", "its record"])
def test_a_damaged_tape_replaces_no_good_record(
    known_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    steps, parts = steps_with(tmp_path, Model())
    file = leave_tape(tmp_path, "CA1", BotSaid("Which day suits you?", 1.0, False))
    tape = parts.inbox.open(file)
    archive(tape, "CA1", parts.recordings)
    if known_by == "its claim":
        parts.log.claim("CA1", tape, [ARCHIVE])
    file.unlink()
    steps.derive("CA1")
    before = parts.store.page("CA1")
    kept = tmp_path / "recordings" / tape_key("CA1")
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-400] + bytes([whole[-400] ^ 1]) + whole[-399:])
    assert main(["rebuild", "CA1"]) == 2
    told = capsys.readouterr()
    assert told.out == "0 of 1 rebuilt.\n"
    assert "The tape of call CA1 is damaged" in told.err
    assert "Put CA1/tape.mcap back from a backup" in told.err
    assert parts.store.page("CA1") == before
    kept.write_bytes(whole)
    assert main(["rebuild", "CA1"]) == 0


def _by_rules(record: Any) -> Any:
    from dataclasses import replace

    return replace(record.outcome, summarised_by="rules")


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({}, {"kept_its_word"}),
        ({"flags": ()}, set()),
        ({"flags": (), "turns": ()}, {"greeted_with_notice"}),
    ],
)
def test_the_scorecard_tells_what_was_wrong(make_record: Any, changes: Any, wrong: set[str]) -> None:
    scored = score(make_record(**changes))
    assert scored is not None
    assert {name for name, answer in scored.answers.items() if answer is False} == wrong
    assert scored.score == 100 - 20 * len(wrong)


def test_storage_that_is_away_is_waited_for_and_the_tape_stays(tmp_path: Path) -> None:
    parts = parts_of(data_dir=tmp_path)
    with WorkerProcess(data_dir=tmp_path):
        wait_until(parts.log.beats)
        (tmp_path / "recordings").rmdir()
        (tmp_path / "recordings").write_text("in the way")
        tape = leave_tape(tmp_path, "CA1")
        wait_until(lambda: parts.log.steps("CA1").get(ARCHIVE) == "failed")
        [job] = [job for job in parts.log.jobs() if job.step == ARCHIVE]
        assert "RecordingsError" in job.note
        assert tape.exists()
        (tmp_path / "recordings").unlink()
        parts.log.retry("CA1")
        wait_until(lambda: not tape.exists())
    assert parts.store.call("CA1") is not None


# The real worker, which stays for good in the middle of making a recording.
HANGS = """
import time
from bot.ports import SystemClock
from bot.settings import load_settings
from records import inbox, steps, worker

def write_recording(tape, timeline, folder):
    (folder / "stereo.flac").write_bytes(b"a caller's voice")
    time.sleep(600)

steps.write_recording = write_recording
inbox.Inbox.find = lambda self, call_id: None
settings = load_settings()
worker.hold_folder(settings.data_dir, "one", worker.Life(None))
worker.open_worker(settings, SystemClock(), "one", worker.Life(None)).run()
"""


def test_a_worker_killed_in_a_recording_leaves_nothing_of_it_for_long(tmp_path: Path) -> None:
    data, system = tmp_path / "data", tmp_path / "system"
    system.mkdir()
    parts = parts_of(data_dir=data)
    leave_tape(data, "CA1")

    def left() -> set[str]:
        return {path.name for path in (data / "work").glob("*/*")} - {"lock"}

    with WorkerProcess(script=HANGS, data_dir=data, tmpdir=system):
        wait_until(lambda: left() == {"stereo.flac", "CA1.mcap"}, 90)
    assert left() == {"stereo.flac", "CA1.mcap"}
    with WorkerProcess(data_dir=data, tmpdir=system):
        wait_until(lambda: set(parts.log.steps("CA1").values()) == {"done"} and not left(), 90)
    assert list((data / "work").iterdir()) == []
    assert list(system.iterdir()) == []


def test_a_database_that_is_away_is_waited_for(tmp_path: Path) -> None:
    parts = parts_of(data_dir=tmp_path)
    with WorkerProcess(data_dir=tmp_path):
        wait_until(parts.log.beats)
        holder = sqlite3.connect(tmp_path / "switchboard.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        tape = leave_tape(tmp_path, "CA1")
        time.sleep(8)  # longer than anybody waits for a lock
        assert tape.exists()
        holder.execute("ROLLBACK")
        holder.close()
        wait_until(lambda: not tape.exists())
    assert parts.store.call("CA1") is not None
