"""What the business's books have of a call whose server died, and its tape has not.

A write is committed first and told on the tape afterwards, milliseconds later: a kill in between, or a disk that had
not taken the tape for a while, leaves a booking that no record knows. Recovery asks the books.
"""

from __future__ import annotations

from datetime import UTC, datetime

import orjson

from bot.events import ToolReturned, WriteFound
from bot.tape import TapeReader
from desk.commands import commands_of
from desk.database import Database


def missing_writes(tape: TapeReader, database: Database) -> list[WriteFound]:
    """The writes of a tape's call that the tape does not tell of, oldest first.

    Only from the tape's beginning on: where the carrier sent the call before, that part has a tape of its own.
    Blocking. Raises `bot.errors.TapeError`, and SQLAlchemy's errors where the database does not answer.
    """
    records = iter(tape)
    began = datetime.fromtimestamp(next(records).wall_ns / 1e9, UTC)
    events = (orjson.loads(record.data) for record in records if record.channel == "event")
    told = {event.get("key") for event in events if event.get("kind") == ToolReturned.kind}
    flow, call_sid = tape.meta.get("flow"), tape.meta.get("call")
    if not isinstance(flow, dict) or not isinstance(call_sid, str):
        return []
    return [
        WriteFound(command.kind, command.key, dict(command.result))
        for command in commands_of(database, str(flow.get("id")), call_sid, began)
        if command.key not in told
    ]
