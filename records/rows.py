"""How a `CallRecord` is laid into rows and read back: what has no column of its own goes whole into a row's JSON.

A field that `records.record` gains needs no migration: it travels in the JSON, and a call that was stored before has
the field's default.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.orm import Session

from records.models import Base, CallRow, ChangeRow, DetailRow, FlagRow, SearchRow, ToolCallRow, TurnRow
from records.record import CallRecord, ToolUse, Turn
from records.words import fold

KINDS = ("audio", "transcript", "number")
"""What can be kept for a time of its own."""
PARTS: tuple[type[Base], ...] = (DetailRow, TurnRow, SearchRow, ToolCallRow, FlagRow, ChangeRow)
"""The tables that hold a record besides its `CallRow`; a new record of the call replaces them whole."""
_RECORD = TypeAdapter(CallRecord)
_IN_CALL = ("call_id", "call_sid", "flow", "from_number", "to_number", "began_at", "duration_ms", "language")
_IN_OUTCOME = ("disposition", "end_reason")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

Values = dict[str, Any]
Acknowledged = Mapping[tuple[str, int | None, int], tuple[str | None, datetime | None]]
"""Who has acknowledged a flag and when, by its kind, its turn and its place among the same ones."""


@dataclass(frozen=True)
class Laid:
    """A record as rows: the call's own, without its id, and the others' by table, without the call's id."""

    call: Values
    parts: Mapping[type[Base], list[Values]]


def lay(record: CallRecord, acknowledged: Acknowledged, saved_at: datetime) -> Laid:
    """The rows of a record. Characters that no database takes (NUL, half a surrogate pair) become U+FFFD."""
    values = _RECORD.dump_python(record)
    outcome, figures, cost = values["outcome"], values["figures"], values["cost"]
    turns = [_turn(turn) for turn in values.pop("turns")]
    flags = _flags(values.pop("flags"), acknowledged)
    call = {
        **{name: values.pop(name) for name in _IN_CALL},
        **{name: outcome.pop(name) for name in _IN_OUTCOME},
        **{f"retain_{kind}_days": record.retention.get(kind) for kind in KINDS},
        "turns": len(turns),
        "flags": sum(flag["acknowledged_at"] is None for flag in flags),
        "voice_to_voice_p95_ms": figures["voice_to_voice_p95_ms"],
        "cost_usd": cost["usd"],
        "cost_complete": cost["complete"],
    }
    words = fold("\n".join(f"{turn.text} {turn.unheard}" for turn in record.turns))
    parts: dict[type[Base], list[Values]] = {
        TurnRow: turns,
        ToolCallRow: [_split(tool, ToolUse, ToolCallRow) for tool in values.pop("tools")],
        FlagRow: flags,
        ChangeRow: _numbered(outcome.pop("changes")),
        SearchRow: [{"words": words}],
        DetailRow: [{"summary": outcome.pop("summary"), "rest": values, "saved_at": saved_at}],
    }
    return Laid(_storable(call), {table: [_storable(row) for row in rows] for table, rows in parts.items()})


def insert_parts(session: Session, call: int, laid: Laid) -> None:
    """Insert the rows of a call whose own row is there."""
    for table, rows in laid.parts.items():
        if not rows:
            continue
        statement = insert(table)
        if table is SearchRow and session.get_bind().dialect.name == "postgresql":
            statement = statement.values(call=call, words=func.to_tsvector("simple", rows[0]["words"]))
            session.execute(statement)
        else:
            session.execute(statement, [{"call": call, **row} for row in rows])


def replace_record(session: Session, call: int, record: CallRecord, saved_at: datetime) -> None:
    """Put a record in the place of the call's former one; acknowledgements of flags stay."""
    laid = lay(record, acknowledged(session, call), saved_at)
    session.execute(update(CallRow).where(CallRow.id == call).values(laid.call))
    for table in PARTS:
        session.execute(delete(table).where(table.__table__.c.call == call))
    insert_parts(session, call, laid)


def read(session: Session, call_id: str) -> CallRecord | None:
    """The record of a call, as it was saved."""
    columns = [getattr(CallRow, name) for name in (*_IN_CALL, *_IN_OUTCOME)]
    call = session.execute(
        select(CallRow.id, *columns, DetailRow.summary, DetailRow.rest)
        .join(DetailRow)
        .where(CallRow.call_id == call_id)
    ).one_or_none()
    if call is None:
        return None
    values: Values = dict(call.rest)
    values.update((name, getattr(call, name)) for name in _IN_CALL)
    values["outcome"] = {
        **values["outcome"],
        **{name: getattr(call, name) for name in (*_IN_OUTCOME, "summary")},
        "changes": _rows(session, ChangeRow, call.id),
    }
    values["turns"] = [_turn_back(turn) for turn in _rows(session, TurnRow, call.id)]
    values["tools"] = _rows(session, ToolCallRow, call.id)
    values["flags"] = _rows(session, FlagRow, call.id)
    return _RECORD.validate_python(values)


def without(record: CallRecord, kinds: Iterable[str]) -> CallRecord:
    """A record without what these kinds hold: who spoke when, figures, cost and disposition stay."""
    if "transcript" in kinds:
        record = replace(
            record,
            turns=tuple(replace(turn, text="", unheard="", words=()) for turn in record.turns),
            tools=tuple(replace(tool, arguments={}, result={}) for tool in record.tools),
            keys=(),
            flags=tuple(replace(flag, detail="") for flag in record.flags),
            outcome=replace(
                record.outcome,
                changes=tuple(replace(change, text="") for change in record.outcome.changes),
                summary="",
                fields={},
            ),
        )
    if "number" in kinds and record.from_number:
        number = re.compile(re.escape(record.from_number.lstrip("+")))
        record = replace(
            record,
            from_number="",
            tools=tuple(
                replace(tool, arguments=_blanked(tool.arguments, number), result=_blanked(tool.result, number))
                for tool in record.tools
            ),
            outcome=replace(
                record.outcome,
                summary=number.sub("", record.outcome.summary),
                fields=_blanked(record.outcome.fields, number),
            ),
        )
    return record


def _blanked(value: Any, number: re.Pattern[str]) -> Any:
    """JSON without a number."""
    if isinstance(value, str):
        return number.sub("", value)
    if isinstance(value, Mapping):
        return {key: _blanked(inner, number) for key, inner in value.items()}
    return [_blanked(inner, number) for inner in value] if isinstance(value, list | tuple) else value


def acknowledged(session: Session, call: int) -> Acknowledged:
    """Who has acknowledged which of a call's flags."""
    seen: Counter[tuple[str, int | None]] = Counter()
    found = {}
    for flag in _rows(session, FlagRow, call):
        same = flag["kind"], flag["turn"]
        found[(*same, seen[same])] = flag["acknowledged_by"], flag["acknowledged_at"]
        seen[same] += 1
    return found


def _rows(session: Session, table: type[Base], call: int) -> list[Values]:
    columns = table.__table__.c
    rows = session.execute(select(*columns).where(columns.call == call).order_by(columns.number))
    return [{**row, **row.get("rest", {})} for row in map(_mapping, rows)]


def _mapping(row: Row[Any]) -> Values:
    return dict(row._mapping)


def _turn(turn: Values) -> Values:
    turn["words"] = [[word["text"], word["start_ms"], word["end_ms"]] for word in turn["words"]]
    return _split(turn, Turn, TurnRow)


def _turn_back(turn: Values) -> Values:
    words = [{"text": text, "start_ms": start, "end_ms": end} for text, start, end in turn.get("words", ())]
    return {**turn, "words": words}


def _split(values: Values, of: type, table: type[Base]) -> Values:
    """A row's columns, and as its ``rest`` what has no column and is not its default."""
    columns = table.__table__.c
    defaults = {field.name: field.default for field in fields(of) if field.default is not MISSING}
    rest = {
        name: value
        for name, value in values.items()
        if name not in columns and (tuple(value) if isinstance(value, list) else value) != defaults.get(name, MISSING)
    }
    return {**{name: value for name, value in values.items() if name in columns}, "rest": rest}


def _numbered(rows: Iterable[Values]) -> list[Values]:
    return [{"number": number, **row} for number, row in enumerate(rows)]


def _flags(flags: Sequence[Values], acknowledged: Acknowledged) -> list[Values]:
    seen: Counter[tuple[str, int | None]] = Counter()
    rows = _numbered(flags)
    for flag in rows:
        same = flag["kind"], flag["turn"]
        by, at = acknowledged.get((*same, seen[same]), (None, None))
        flag.update(acknowledged_by=by, acknowledged_at=at)
        seen[same] += 1
    return rows


def _storable(row: Values) -> Values:
    return {name: _UNSTORABLE.sub("\ufffd", value) if isinstance(value, str) else value for name, value in row.items()}
