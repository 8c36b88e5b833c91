"""What ``python -m qa verify`` finds wrong, and ``python -m records rebuild`` makes well again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.worker import WorkerProcess, leave_tape, parts_of, wait_until
from sqlalchemy import delete

from qa.__main__ import main as qa
from records.__main__ import main as records
from records.inbox import tape_key
from records.models import CallRow, TapeRow
from records.steps import Parts


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Parts]:
    """A site with one call, CA1, whose records are made."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    tape = leave_tape(tmp_path, "CA1")
    parts = parts_of(data_dir=tmp_path)
    with WorkerProcess(data_dir=tmp_path):
        wait_until(lambda: not tape.exists() and set(parts.log.steps("CA1").values()) == {"done"})
    yield parts
    parts.store.close()
    parts.database.close()


def test_a_call_that_is_well(site: Parts, capsys: pytest.CaptureFixture[str]) -> None:
    assert qa(["verify", "CA1"]) == 0
    assert qa(["verify", "--all"]) == 0
    assert capsys.readouterr().out.splitlines() == ["1 of 1 are well."] * 2


def test_a_tape_that_was_changed_is_found(site: Parts, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    other = leave_tape(tmp_path / "elsewhere", "CA1")
    site.recordings.put(other, tape_key("CA1"), "application/vnd.mcap")
    assert qa(["verify", "CA1"]) == 1
    assert "its SHA-256 differs" in capsys.readouterr().out


def test_a_tape_that_was_cut_is_found(site: Parts, capsys: pytest.CaptureFixture[str]) -> None:
    site.recordings.put(site.recordings.read(tape_key("CA1"))[:-100], tape_key("CA1"), "application/vnd.mcap")
    assert qa(["verify", "CA1"]) == 1
    assert "never finished" in capsys.readouterr().out


def test_a_copy_of_a_tape_is_known_whatever_it_is_called(
    site: Parts, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    copy = tmp_path / "copy.mcap"
    copy.write_bytes(site.recordings.read(tape_key("CA1")))
    assert qa(["verify", str(copy)]) == 0
    other = leave_tape(tmp_path / "elsewhere", "CA1").rename(tmp_path / "changed.mcap")
    assert qa(["verify", str(other)]) == 1
    assert f"{other}: the tape is not the one that was found" in capsys.readouterr().out
    stranger = leave_tape(tmp_path / "elsewhere", "CA2")
    assert qa(["verify", str(stranger)]) == 1
    assert f"{stranger}: there is no record of it" in capsys.readouterr().out


def test_a_record_that_is_not_what_its_tape_says_is_named_and_rebuilt(
    site: Parts, capsys: pytest.CaptureFixture[str]
) -> None:
    record = site.store.call("CA1")
    assert record is not None
    site.store.save(replace(record, language="de-DE", keys=()))
    assert qa(["verify", "CA1"]) == 1
    assert "something else: language" in capsys.readouterr().out
    assert records(["rebuild", "CA1"]) == 0
    assert qa(["verify", "CA1"]) == 0


def test_a_database_without_the_call_gets_it_back_from_the_archive(site: Parts) -> None:
    with site.database.writing() as session:
        session.execute(delete(CallRow))
        session.execute(delete(TapeRow))
    assert records(["show", "CA1"]) == 2
    assert records(["rebuild", "--all"]) == 0
    assert records(["show", "CA1"]) == 0


def test_a_call_that_is_unknown(site: Parts, capsys: pytest.CaptureFixture[str]) -> None:
    assert qa(["verify", "CA9"]) == 1
    assert qa(["show", "CA9"]) == 2
    assert "no tape of call CA9" in capsys.readouterr().err
