"""The tables of the records. They may share a database with the desk's, hence the prefix ``records_``.

A call's row holds what lists show and filters ask for, and nothing else, so that many rows fit into a page of the
database. What is only read with its call lies in `DetailRow.rest` as JSON; what is searched or counted on its own has
rows. Nothing is loaded lazily: there are no relationships, each query names what it reads.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Double, ForeignKey, Index, Integer, MetaData, String, Text, UniqueConstraint
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from desk.database import CONSTRAINT_NAMES, UtcDateTime

Key = BigInteger().with_variant(Integer, "sqlite")
"""64 bits on both engines; SQLite's rowid is an INTEGER."""
Number = String().with_variant(String(collation="C"), "postgresql")
"""A telephone number; compared byte by byte, so that an index finds prefixes."""
Words = Text().with_variant(TSVECTOR, "postgresql")


class Base(DeclarativeBase):
    """What the records' tables have in common."""

    metadata = MetaData(naming_convention=CONSTRAINT_NAMES)
    type_annotation_map = {datetime: UtcDateTime, dict[str, Any]: JSON, float: Double}  # noqa: RUF012 (SQLAlchemy's own form)


def of_call(**options: Any) -> Mapped[int]:
    """The call that a row belongs to; the row goes when the call goes."""
    return mapped_column(Key, ForeignKey("records_calls.id", ondelete="CASCADE"), autoincrement=False, **options)


class CallRow(Base):
    """A finished call as lists show it.

    ``id`` is the moment the call began in Unix milliseconds, or the next free one: its order is the order of time.
    ``flags`` counts those that nobody has acknowledged. ``…_expired_at`` tells when retention removed that kind,
    ``retain_…`` the days that the call's flow asked for.
    """

    __tablename__ = "records_calls"
    __table_args__ = (
        Index(None, "from_number", "id"),
        Index(None, "flow", "id"),
        Index(None, "disposition", "id"),
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True, autoincrement=False)
    call_id: Mapped[str] = mapped_column(unique=True)
    call_sid: Mapped[str] = mapped_column(index=True)
    flow: Mapped[str]
    from_number: Mapped[str] = mapped_column(Number)
    to_number: Mapped[str]
    began_at: Mapped[datetime]
    duration_ms: Mapped[float]
    disposition: Mapped[str]
    end_reason: Mapped[str]
    language: Mapped[str]
    turns: Mapped[int]
    flags: Mapped[int]
    voice_to_voice_p95_ms: Mapped[float | None]
    cost_usd: Mapped[float]
    cost_complete: Mapped[bool]
    score: Mapped[float | None]
    retain_audio_days: Mapped[int | None]
    retain_transcript_days: Mapped[int | None]
    retain_number_days: Mapped[int | None]
    audio_expired_at: Mapped[datetime | None]
    transcript_expired_at: Mapped[datetime | None]
    number_expired_at: Mapped[datetime | None]


class DetailRow(Base):
    """The rest of a call's record: the fields of `records.record.CallRecord` that have no table, as JSON."""

    __tablename__ = "records_details"

    call: Mapped[int] = of_call(primary_key=True)
    summary: Mapped[str]
    rest: Mapped[dict[str, Any]]
    saved_at: Mapped[datetime]


class TurnRow(Base):
    """A turn. ``rest`` has its words as ``[text, start_ms, end_ms]``."""

    __tablename__ = "records_turns"
    __table_args__ = ({"sqlite_with_rowid": False},)

    call: Mapped[int] = of_call(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    speaker: Mapped[str]
    start_ms: Mapped[float]
    end_ms: Mapped[float]
    text: Mapped[str]
    unheard: Mapped[str]
    rest: Mapped[dict[str, Any]]


class SearchRow(Base):
    """All words of a call's turns, folded (`records.words`): what full-text search finds.

    SQLite indexes them with FTS5 in ``records_search_index``, kept by triggers; in Postgres they are a ``tsvector``
    with a GIN index.
    """

    __tablename__ = "records_search"

    call: Mapped[int] = of_call(primary_key=True)
    words: Mapped[str] = mapped_column(Words)


class ToolCallRow(Base):
    """A function call."""

    __tablename__ = "records_tool_calls"
    __table_args__ = (Index(None, "name", "call"),)

    call: Mapped[int] = of_call(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    call_id: Mapped[str]
    name: Mapped[str]
    status: Mapped[str]
    at_ms: Mapped[float]
    duration_ms: Mapped[float]
    rest: Mapped[dict[str, Any]]


class FlagRow(Base):
    """Something an operator should look at, and whether one has."""

    __tablename__ = "records_flags"
    __table_args__ = (Index(None, "kind", "call"),)

    call: Mapped[int] = of_call(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str]
    turn: Mapped[int | None]
    detail: Mapped[str]
    acknowledged_by: Mapped[str | None]
    acknowledged_at: Mapped[datetime | None]


class ChangeRow(Base):
    """Something that the call wrote in the business's books; found by what was written too."""

    __tablename__ = "records_changes"
    __table_args__ = (Index(None, "kind", "id"),)

    call: Mapped[int] = of_call(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str]
    id: Mapped[str]
    tool_call_id: Mapped[str]
    text: Mapped[str]


class ScoreRow(Base):
    """One judgement of a call by one scorecard and one judge, 0 to 100; the newest replaces the older."""

    __tablename__ = "records_scores"
    __table_args__ = (UniqueConstraint("call", "scorecard", "judge"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    call: Mapped[int] = of_call()
    scorecard: Mapped[str]
    judge: Mapped[str]
    score: Mapped[float]
    answers: Mapped[dict[str, Any]]
    scored_at: Mapped[datetime]


class RecordingRow(Base):
    """A recording that lies in the store of recordings."""

    __tablename__ = "records_recordings"

    call: Mapped[int] = of_call(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    content_type: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    stored_at: Mapped[datetime]


class TapeRow(Base):
    """A finished tape and the id that its call was given.

    ``from_number`` finds a call by its caller that has no record yet; retention empties it with the record's.
    """

    __tablename__ = "records_tapes"

    call_id: Mapped[str] = mapped_column(primary_key=True)
    call_sid: Mapped[str]
    sha256: Mapped[str] = mapped_column(unique=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
    found_at: Mapped[datetime]
    from_number: Mapped[str] = mapped_column(Number, index=True, server_default="")


class JobRow(Base):
    """One step of a call's job. ``next_try_at`` is set where the step failed and is tried again by itself."""

    __tablename__ = "records_jobs"

    call_id: Mapped[str] = mapped_column(ForeignKey("records_tapes.call_id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[str] = mapped_column(primary_key=True)
    place: Mapped[int]
    status: Mapped[str] = mapped_column(index=True)
    tries: Mapped[int]
    note: Mapped[str]
    next_try_at: Mapped[datetime | None]
    changed_at: Mapped[datetime]


class WorkerRow(Base):
    """A worker process, and its last heartbeat on its own clock."""

    __tablename__ = "records_workers"

    name: Mapped[str] = mapped_column(primary_key=True)
    heard_at: Mapped[datetime]


class DeliveryRow(Base):
    """A webhook to one of the operator's systems and how far it has come.

    ``target`` is its address without what may be secret in it, ``target_key`` stands for the whole address.
    """

    __tablename__ = "records_deliveries"

    id: Mapped[str] = mapped_column(primary_key=True)
    call_id: Mapped[str] = mapped_column(index=True)
    event: Mapped[str]
    target: Mapped[str]
    target_key: Mapped[str]
    state: Mapped[str] = mapped_column(index=True)
    tries: Mapped[int]
    next_try_at: Mapped[datetime | None]
    created_at: Mapped[datetime]


class AttemptRow(Base):
    """One attempt to deliver. ``status`` is None where the receiver gave none."""

    __tablename__ = "records_attempts"

    delivery: Mapped[str] = mapped_column(ForeignKey("records_deliveries.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    status: Mapped[int | None]
    duration_ms: Mapped[float]
    error: Mapped[str]
    body_sha256: Mapped[str]


class SweepRow(Base):
    """When something that is done again and again was last done; ``note`` tells what was wrong, if anything."""

    __tablename__ = "records_sweeps"

    name: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    note: Mapped[str]


class AuditRow(Base):
    """Who did what, when. ``call_id`` is empty where no call is meant, and a digest once the call was erased."""

    __tablename__ = "records_audit_log"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    who: Mapped[str]
    what: Mapped[str]
    call_id: Mapped[str] = mapped_column(index=True)
    detail: Mapped[dict[str, Any]]


class ErasedRow(Base):
    """A call that was erased and must not come back, by the digest of its id. ``call_id`` only until all is removed."""

    __tablename__ = "records_erased"

    digest: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    who: Mapped[str]
    call_id: Mapped[str | None]
