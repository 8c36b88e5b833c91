"""Where recordings lie: a folder, or a bucket of an S3-compatible store, behind one blocking interface.

Keys are ``CALL_ID/NAME`` (``CA…/stereo.flac``), so that everything of one call can be found and removed together. All
of it blocks: callers on an event loop use ``asyncio.to_thread``. obstore's own async functions are not used, they abort
the process at its exit (docs/decisions/0008).
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, MemoryStore, S3Store

from bot.errors import ConfigurationError, RecordingsError

URL_LIFETIME = timedelta(minutes=5)
"""How long a presigned address works."""
_CHUNK_BYTES = 256 * 1024
_UNFINISHED = ".part"
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_CURE = "Give a folder, or s3://bucket/prefix with the AWS_… settings."


@dataclass(frozen=True)
class Stored:
    """One object: its key and its size in bytes."""

    key: str
    size: int


@dataclass(frozen=True)
class Piece:
    """The bytes ``start`` to ``end`` (exclusive) of an object of ``size`` bytes, read as `chunks` is iterated."""

    start: int
    end: int
    size: int
    chunks: Iterator[bytes]


class Recordings:
    """The recordings under one address. Safe to use from many threads.

    Every method raises `FileNotFoundError` for a key that is not there, `ValueError` for one that cannot be a key, and
    `bot.errors.RecordingsError` where the store refuses or cannot be reached.
    """

    def __init__(self, url: str, s3: Mapping[str, str] | None = None) -> None:
        """`url`: a folder, ``file:///folder``, ``s3://bucket/prefix``, or ``memory:`` (forgotten at exit).

        `s3` overrides what obstore finds in the environment or from the machine's role: its configuration keys
        (``access_key_id``, ``secret_access_key``, ``session_token``, ``region``, ``endpoint``). Raises
        `ConfigurationError`.
        """
        self._folder: Path | None = None
        scheme = urlsplit(url).scheme
        if scheme == "s3":
            self._store: LocalStore | MemoryStore | S3Store = _bucket(url, dict(s3 or {}))
        elif scheme == "memory":
            self._store = MemoryStore()
        elif scheme in ("", "file"):
            self._folder = _made(Path(url.removeprefix("file://")))
            self._store = LocalStore(self._folder)
        else:
            raise ConfigurationError("RECORDINGS_URL", f"{scheme!r} is not supported.", _CURE)

    def put(self, source: Path | bytes, key: str, content_type: str) -> None:
        """Keep a file or bytes under `key`, whole or not at all; what was there is replaced."""
        if isinstance(source, Path) and not source.is_file():
            raise FileNotFoundError("the file to keep is not there")
        try:
            with _told(key):
                if self._folder:
                    _write(self._folder / key, source)
                else:
                    obstore.put(self._store, key, source, attributes={"Content-Type": content_type})
        except FileNotFoundError as error:
            raise RecordingsError(f"The recordings' store failed at {key}: the bucket or folder is gone.") from error

    def open_range(self, key: str, start: int = 0, end: int | None = None) -> Piece:
        """Read from `start` to `end` (exclusive; None or beyond the object's end: to its end).

        Raises ValueError where `start` is not inside the object.
        """
        with _told(key):
            size = obstore.head(self._store, key)["size"]
            stop = min(size, size if end is None else end)
            if not 0 <= start < stop:
                raise ValueError(f"bytes {start} to {stop} are not inside {key}, which has {size}")
            result = obstore.get(self._store, key, options={"range": (start, stop)})
        return Piece(start, stop, size, _chunks(result, key))

    def read(self, key: str) -> bytes:
        """The whole object."""
        with _told(key):
            return bytes(obstore.get(self._store, key).bytes())

    def size(self, key: str) -> int:
        """Size in bytes."""
        with _told(key):
            return obstore.head(self._store, key)["size"]

    def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        try:
            self.size(key)
        except FileNotFoundError:
            return False
        return True

    def url(self, key: str) -> str | None:
        """An address that anyone can read it from for five minutes; None where the store has none (a folder)."""
        if not isinstance(self._store, S3Store):
            return None
        with _told(key):
            return obstore.sign(self._store, "GET", key, URL_LIFETIME)

    def path(self, key: str) -> Path | None:
        """The file itself, where the store is a folder; None elsewhere."""
        if not self._folder:
            return None
        self.size(key)
        return self._folder / key

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """What lies under `prefix`, a whole number of a key's parts: ``CA…`` lists one call's; empty, everything."""
        for stored in self._all(prefix):
            if not stored.key.endswith(_UNFINISHED):
                yield stored

    def delete(self, key: str) -> None:
        """Remove it; nothing happens where it is not."""
        try:
            with _told(key):
                obstore.delete(self._store, key)
        except FileNotFoundError:
            return
        self._tidy(key)

    def delete_all(self, prefix: str) -> int:
        """Remove all that lies under `prefix`, half-written files too; how many there were."""
        if not prefix:
            raise ValueError("an empty prefix would remove every recording")
        doomed = [stored.key for stored in self._all(prefix)]
        for key in doomed:
            self.delete(key)
        return len(doomed)

    def ping(self) -> None:
        """Write, read and remove a trial object. Raises `RecordingsError` where one of them is refused."""
        self.put(b"trial", "trial/trial", "text/plain")
        self.read("trial/trial")
        self.delete("trial/trial")

    def _all(self, prefix: str) -> Iterator[Stored]:
        with _told(prefix or "everything"):
            for batch in obstore.list(self._store, prefix or None):
                for meta in batch:
                    yield Stored(meta["path"], meta["size"])

    def _tidy(self, key: str) -> None:
        """Remove the folders that became empty."""
        if not self._folder:
            return
        for parent in (self._folder / key).parents:
            if parent == self._folder:
                return
            try:
                parent.rmdir()
            except OSError:
                return


def _bucket(url: str, s3: dict[str, str]) -> S3Store:
    try:
        return S3Store.from_url(
            url,
            config=s3,  # type: ignore[arg-type]
            client_options={"allow_http": s3.get("endpoint", "").startswith("http://"), "connect_timeout": "5s"},
            retry_config={"max_retries": 4, "retry_timeout": timedelta(seconds=30)},
        )
    except (BaseError, ValueError) as error:
        raise ConfigurationError("RECORDINGS_URL", f"This cannot be a bucket ({_first_line(error)}).", _CURE) from None


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = f"The folder cannot be made ({error.strerror})."
        raise ConfigurationError("RECORDINGS_URL", problem, "Choose a folder that this user may write.") from error
    return folder.absolute()


def _write(path: Path, source: Path | bytes) -> None:
    """Write beside, sync, rename, sync the folder: after a kill or a power cut it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}{_UNFINISHED}")
    try:
        with part.open("wb") as out:
            if isinstance(source, bytes):
                out.write(source)
            else:
                with source.open("rb") as data:
                    while chunk := data.read(_CHUNK_BYTES):
                        out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _chunks(result: obstore.GetResult, key: str) -> Iterator[bytes]:
    with _told(key):
        for chunk in result.stream(_CHUNK_BYTES):
            yield bytes(chunk)


@contextmanager
def _told(key: str) -> Iterator[None]:
    if not _KEY.fullmatch(key):
        raise ValueError("a recording's key is parts of letters, digits, - _ and . with / between them")
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no recording {key}") from None
    except (BaseError, OSError) as error:
        raise RecordingsError(f"The recordings' store failed at {key} ({_first_line(error)}).") from error


def _first_line(error: Exception) -> str:
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
