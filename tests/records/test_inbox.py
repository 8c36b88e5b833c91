"""Which of two tapes is the beginning of the other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bot.ports import SystemClock
from bot.tape import recover_tape
from bot.tape_file import HEAD, Record, encode_chunk, finish_tape
from records.inbox import is_beginning

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

    def make(name: str, count: int = len(RECORDS), *, recovered: bool = False, other: bytes = b"") -> Path:
        path = tmp_path / f"{name}.mcap.part"
        records = [*RECORDS[:1], Record("event", 2, 2, other, 1), *RECORDS[2:]] if other else RECORDS
        path.write_bytes(HEAD + b"".join(encode_chunk([record]) for record in records[:count]))
        found = recover_tape(path, SystemClock()) if recovered else finish_tape(path)
        assert found is not None
        return found

    return make


@pytest.mark.parametrize("count", range(1, len(RECORDS)))
def test_what_was_copied_while_the_call_was_up_is_the_beginning_of_its_tape(lay: Lay, count: int) -> None:
    whole, part = lay("whole"), lay("part", count, recovered=True)
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
