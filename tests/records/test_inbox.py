"""Tapes taken away from under their readers, beginnings of others, and when a dead server's is taken up."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.clock import StillClock
from fakes.worker import leave_tape

from bot.events import WriteFound
from bot.ports import SystemClock
from bot.tape import TapeReader, recover_tape
from bot.tape_file import HEAD, Record, encode_chunk, finish_tape
from records.inbox import SETTLE_SECONDS, Inbox, archive, file_sha256, is_beginning, tape_of
from records.recordings import Recordings

RECORDS = [
    Record("meta", 1, 1, b'{"layout":1,"call":"CA1"}', 0),
    Record("event", 2, 2, b'{"kind":"caller_said","text":"Hello."}', 1),
    Record("event", 3, 3, b'{"kind":"caller_said","text":"Tuesday."}', 2),
    Record("event", 4, 4, b'{"kind":"call_ended","reason":"goodbye","seconds":1.0}', 3),
    Record("meta", 5, 5, b'{"seed":7}', 4),
]
Lay = Callable[..., Path]


@pytest.fixture
def lay(tmp_path: Path) -> Lay:
    """Lays a tape with so many of `RECORDS`, each in a chunk of its own, finished or as a killed server leaves it."""

    def make(
        name: str, count: int = len(RECORDS), *, recovered: bool = False, other: bytes = b"", found: int = 0
    ) -> Path:
        path = tmp_path / f"{name}.mcap.part"
        records = [*RECORDS[:1], Record("event", 2, 2, other, 1), *RECORDS[2:]] if other else RECORDS
        path.write_bytes(HEAD + b"".join(encode_chunk([record]) for record in records[:count]))
        books = [WriteFound("book", f"key {number}", {}) for number in range(found)]
        tape = recover_tape(path, SystemClock(), lambda _: books) if recovered else finish_tape(path)
        assert tape is not None
        return tape

    return make


@pytest.mark.parametrize("found", [0, 2])
@pytest.mark.parametrize("count", range(1, len(RECORDS)))
def test_what_was_copied_while_the_call_was_up_is_the_beginning_of_its_tape(lay: Lay, count: int, found: int) -> None:
    whole, part = lay("whole"), lay("part", count, recovered=True, found=found)
    assert is_beginning(part, whole)
    assert not is_beginning(whole, part)


def test_the_whole_tape_and_another_call_are_no_beginning(lay: Lay) -> None:
    whole = lay("whole")
    assert not is_beginning(lay("same"), whole)
    other = lay("other", 3, recovered=True, other=b'{"kind":"caller_said","text":"Friday."}')
    assert not is_beginning(other, whole)


def test_of_a_damaged_tape_nothing_is_known_to_be_the_beginning(lay: Lay) -> None:
    whole, part = lay("whole"), lay("part", 3, recovered=True)
    data = whole.read_bytes()
    at = len(HEAD) + 60
    whole.write_bytes(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
    assert not is_beginning(part, whole)


def test_a_dead_servers_tape_is_left_alone_until_its_last_commit_must_have_ended(tmp_path: Path) -> None:
    clock = StillClock()
    part = tmp_path / "tapes" / "2026-05-01" / "CA1.mcap.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(HEAD + encode_chunk(RECORDS[:3]))
    os.utime(part, ns=(clock.wall_ns(), clock.wall_ns()))
    inbox = Inbox(tmp_path, clock)
    clock.forward(SETTLE_SECONDS - 0.1)
    assert inbox.recover(lambda _: ()) == []
    clock.forward(0.2)
    assert inbox.recover(lambda _: ()) == [part.with_name("CA1.mcap")]


def test_a_tape_that_is_removed_while_others_are_listed_is_left_out(tmp_path: Path) -> None:
    tapes = {leave_tape(tmp_path, call_id) for call_id in ("CA1", "CA2", "CA3")}
    listed = Inbox(tmp_path, SystemClock()).finished()
    first = next(listed).path
    for removed in tapes - {first}:
        removed.unlink()
    assert list(listed) == []


# -- reading beside the worker ----------------------------------------------------------------------------------------


class Site:
    """An inbox with the tape of call CA1, `records` in all, and what the worker does with it."""

    def __init__(self, data_dir: Path, *, finished: bool) -> None:
        self.inbox = Inbox(data_dir, SystemClock())
        self.recordings = Recordings(str(data_dir / "recordings"))
        self.tape = leave_tape(data_dir, "CA1", finished=finished)
        self.records = list(TapeReader(self.tape))

    def finish(self) -> None:
        """The tape of a dead process is finished."""
        os.utime(self.tape, (1, 1))
        [self.tape] = self.inbox.recover(lambda _: ())
        self.records = list(TapeReader(self.tape))

    def archive_and_remove(self) -> None:
        tape = self.inbox.open(self.tape)
        assert tape is not None
        archive(tape, "CA1", self.recordings)
        self.inbox.remove(self.inbox.file(self.tape))

    def finish_archive_and_remove(self) -> None:
        self.finish()
        self.archive_and_remove()

    def rename(self) -> None:
        """Another call has this id."""
        tape = self.inbox.open(self.tape)
        assert tape is not None
        self.tape = self.inbox.rename(tape, "CA1.2").path


@pytest.mark.parametrize(
    ("finished", "moves"),
    [
        (True, Site.archive_and_remove),
        (False, Site.finish),
        (False, Site.finish_archive_and_remove),
    ],
)
def test_a_tape_that_is_moved_after_it_was_found_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: bool, moves: Callable[[Site], None]
) -> None:
    site = Site(tmp_path, finished=finished)
    link, found = os.link, []

    def too_late(path: Path, held: Path) -> None:
        if not found:
            moves(site)
        found.append(path)
        link(path, held)

    monkeypatch.setattr(os, "link", too_late)
    with tape_of("CA1", site.inbox, site.recordings) as path:
        reader = TapeReader(path)
        assert list(reader) == site.records
        assert not reader.truncated
    assert not found[0].exists()


def test_a_tape_that_is_finished_between_two_looks_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(tmp_path, finished=False)
    glob = Path.glob

    def finished_meanwhile(folder: Path, pattern: str) -> list[Path]:
        seen = list(glob(folder, pattern))
        if pattern == "*/CA1.mcap" and site.tape.suffix == ".part":
            site.tape = finish_tape(site.tape)
        return seen

    monkeypatch.setattr(Path, "glob", finished_meanwhile)
    assert site.inbox.find("CA1") == site.tape
    assert site.tape.name == "CA1.mcap"


@pytest.mark.parametrize(
    ("finished", "moves"),
    [
        (True, Site.archive_and_remove),
        (True, Site.rename),
        (False, Site.finish),
        (False, Site.finish_archive_and_remove),
    ],
)
def test_a_tape_that_is_moved_while_it_is_read_is_read_whole(
    tmp_path: Path, finished: bool, moves: Callable[[Site], None]
) -> None:
    site = Site(tmp_path, finished=finished)
    before = site.records
    with tape_of("CA1", site.inbox, site.recordings) as path:
        reader = TapeReader(path)
        records = iter(reader)
        read = [next(records)]
        where = site.tape
        moves(site)
        assert not where.exists()
        assert [*read, *records] == before
        # And whoever reads it once more, as deriving does.
        assert list(reader) == list(TapeReader(path)) == site.records
        assert not TapeReader(path).truncated
        assert path.name == "CA1.mcap"
        if site.tape.exists():
            assert file_sha256(path) == file_sha256(site.tape)
    assert list((tmp_path / "work").iterdir()) == []
    assert not site.tape.exists() or list(TapeReader(site.tape)) == site.records
