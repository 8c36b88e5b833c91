"""Which tape is meant: a file, or a call's id; then it lies in the inbox or is fetched from the recordings' store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bot.errors import TapeError
from bot.ports import SystemClock
from bot.settings import Settings, load_settings
from records.inbox import Inbox, tape_of
from records.recordings import Recordings


@contextmanager
def open_tape(named: str, settings: Settings | None = None) -> Iterator[Path]:
    """The tape that `named` means, for as long as it is needed.

    Raises `bot.errors.TapeError` where there is no such tape, `bot.errors.RecordingsError` where it cannot be fetched.
    """
    path = Path(named)
    if path.is_file():
        yield path
        return
    if path.suffix in (".mcap", ".part") or len(path.parts) != 1:
        raise TapeError(f"{named}: there is no such file.")
    settings = settings or load_settings()
    recordings = Recordings(settings.recordings, settings.s3)
    with tape_of(named, Inbox(settings.data_dir, SystemClock()), recordings) as found:
        yield found
