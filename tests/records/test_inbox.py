"""Which of two tapes is the beginning of the other, and when a dead server's is taken up."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.clock import StillClock

from bot.events import WriteFound
from bot.ports import SystemClock
from bot.tape import recover_tape
from bot.tape_file import HEAD, Record, encode_chunk, finish_tape
from records.inbox import SETTLE_SECONDS, Inbox, is_beginning

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
