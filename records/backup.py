"""A copy of a SQLite database that is in use, whole and checked.

Postgres has its own (``pg_dump``); tapes and recordings never change once they are there, and are copied as files.
docs/runbook.md has the commands, also for the way back.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import make_url

from bot.errors import BackupError


@dataclass(frozen=True)
class Copied:
    """What a copy holds: its size in bytes and how many calls."""

    bytes: int
    calls: int


def back_up(database_url: str, destination: Path) -> Copied:
    """Copy the database into a new file, as it stood at one moment; writers go on meanwhile.

    The copy is checked before it gets its name. Raises `BackupError`.
    """
    url = make_url(database_url)
    if url.get_backend_name() != "sqlite":
        raise BackupError("This database is Postgres: use pg_dump --format=custom --file=FILE URL.")
    source = Path(str(url.database))
    if not source.is_file():
        raise BackupError(f"There is no database {source}.")
    if destination.exists():
        raise BackupError(f"{destination} exists already, and backups replace nothing.")
    part = destination.with_name(destination.name + ".part")
    try:
        part.unlink(missing_ok=True)
        with closing(sqlite3.connect(source)) as connection:
            connection.execute("VACUUM INTO ?", (str(part),))
        copied = _checked(part)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.rename(destination)
    except (OSError, sqlite3.Error) as error:
        part.unlink(missing_ok=True)
        raise BackupError(f"The database was not copied ({type(error).__name__}: {error}).") from error
    return copied


def _checked(path: Path) -> Copied:
    with closing(sqlite3.connect(path)) as connection:
        (found,) = connection.execute("PRAGMA integrity_check").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        (calls,) = connection.execute("SELECT count(*) FROM records_calls").fetchone()
    return Copied(path.stat().st_size, calls)
