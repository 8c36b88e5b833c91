"""The records and recordings, asked from the event loop.

What is asked blocks, so it runs in a few threads of its own: those that functions of a call run in stay free. Nothing
is opened before somebody asks, and what cannot be reached is tried again with the next question.
"""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from fastapi import HTTPException
from loguru import logger

from bot.metrics import Metrics
from bot.ports import Clock
from bot.settings import Settings
from records.store import Store

if TYPE_CHECKING:
    from records.recordings import Recordings

_THREADS = 4
CONTENT_TYPES = {
    "stereo.ogg": "audio/ogg",
    "stereo.flac": "audio/flac",
    "peaks.json": "application/json",
    "tape.mcap": "application/vnd.mcap",
}
"""What of a call can be fetched."""
Answer = TypeVar("Answer")


class RecordsAway(HTTPException):
    """The database or the store of recordings cannot be reached: 503."""

    def __init__(self) -> None:
        super().__init__(503, "The records cannot be reached at the moment.")


@dataclass(frozen=True)
class Shelf:
    """Where records and recordings lie."""

    store: Store
    recordings: Recordings


@dataclass(frozen=True)
class Found:
    """A recording: its size in bytes, and either the file or an address that works for five minutes."""

    size: int
    file: tuple[Path, os.stat_result] | None
    url: str


class Library:
    """Asks questions of a `Shelf`, each in a thread."""

    def __init__(self, settings: Settings, clock: Clock, metrics: Metrics) -> None:
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="console")
        self._shelf: Shelf | None = None
        self._opening = threading.Lock()

    async def ask(self, question: Callable[[Shelf], Answer]) -> Answer:
        """The answer to a question. Raises `RecordsAway` where it failed, which is logged and counted."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._pool, lambda: question(self._open()))
        except Exception as error:
            self._metrics.console_unavailable.inc()
            logger.opt(exception=error).error("The console cannot read or write the records")
            raise RecordsAway from error

    async def audit(self, who: str, what: str, call_id: str = "", detail: Mapping[str, str] | None = None) -> None:
        """Write down that somebody did something. Raises `RecordsAway`: then it must not be done."""
        await self.ask(lambda shelf: shelf.store.audit(who, what, call_id, detail))

    def close(self) -> None:
        """Let what is being asked end, and give up the database. Blocks."""
        self._pool.shutdown(cancel_futures=True)
        if self._shelf:
            self._shelf.store.close()

    def _open(self) -> Shelf:
        with self._opening:
            if self._shelf is None:
                from records.recordings import Recordings  # 5 MB that a server needs only where somebody listens

                recordings = Recordings(self._settings.recordings, self._settings.s3)
                store = Store(self._settings.database, self._clock)
                self._shelf = Shelf(store, recordings)
            return self._shelf


def find_recording(shelf: Shelf, call_id: str, name: str) -> Found | None:
    """A call's recording; None where there is no such call, no such recording, or retention has removed it."""
    expired = shelf.store.expired(call_id)
    if expired is None or "audio" in expired or (expired and name == "tape.mcap"):
        return None
    key = f"{call_id}/{name}"
    try:
        if url := shelf.recordings.url(key):
            return Found(shelf.recordings.size(key), None, url)
        path = shelf.recordings.path(key)
        if path is None:
            return None
        status = path.stat()
    except (FileNotFoundError, ValueError):
        return None
    return Found(status.st_size, (path, status), "") if stat.S_ISREG(status.st_mode) else None
