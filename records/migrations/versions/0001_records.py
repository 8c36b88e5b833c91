"""Calls with their turns, functions, flags, changes, scores and recordings; search; audit log."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from desk.database import UtcDateTime
from records.models import Key, Number, Words

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = (
    *("search", "turns", "tool_calls", "flags", "changes", "scores", "recordings", "details", "calls"),
    *("audit_log", "erased"),
)

# The FTS5 table keeps only its index; the triggers hold it in step with records_search.
SQLITE_SEARCH = (
    """CREATE VIRTUAL TABLE records_search_index USING fts5(
        words, content='records_search', content_rowid='call', tokenize='unicode61 remove_diacritics 2')""",
    """CREATE TRIGGER records_search_insert AFTER INSERT ON records_search BEGIN
        INSERT INTO records_search_index (rowid, words) VALUES (new.call, new.words);
    END""",
    """CREATE TRIGGER records_search_delete AFTER DELETE ON records_search BEGIN
        INSERT INTO records_search_index (records_search_index, rowid, words) VALUES ('delete', old.call, old.words);
    END""",
    """CREATE TRIGGER records_search_update AFTER UPDATE ON records_search BEGIN
        INSERT INTO records_search_index (records_search_index, rowid, words) VALUES ('delete', old.call, old.words);
        INSERT INTO records_search_index (rowid, words) VALUES (new.call, new.words);
    END""",
)
# Without fastupdate, or each search would first look through all that was saved since the last vacuum.
POSTGRES_SEARCH = ("CREATE INDEX records_search_index ON records_search USING gin (words) WITH (fastupdate = off)",)


def upgrade() -> None:
    """Apply."""
    table(
        "calls",
        *(sa.Column("id", Key, primary_key=True, autoincrement=False), text("call_id"), text("call_sid")),
        *(
            text("flow"),
            sa.Column("from_number", Number, nullable=False),
            text("to_number"),
            moment("began_at"),
            number("duration_ms"),
        ),
        *(text("disposition"), text("end_reason"), text("language"), count("turns"), count("flags")),
        *(number("voice_to_voice_p95_ms", nullable=True), number("cost_usd")),
        *(sa.Column("cost_complete", sa.Boolean(), nullable=False), number("score", nullable=True)),
        *(count(f"retain_{kind}_days", nullable=True) for kind in ("audio", "transcript", "number")),
        *(moment(f"{kind}_expired_at", nullable=True) for kind in ("audio", "transcript", "number")),
        sa.UniqueConstraint("call_id", name=op.f("uq_records_calls_call_id")),
    )
    for columns in (("call_sid",), ("from_number", "id"), ("flow", "id"), ("disposition", "id")):
        index("calls", *columns)
    table("details", call("details", primary_key=True), text("summary"), json("rest"), moment("saved_at"))
    table(
        "turns",
        *(call("turns"), count("number"), text("speaker"), number("start_ms"), number("end_ms"), text("text")),
        *(text("unheard"), json("rest"), numbered("turns")),
        sqlite_with_rowid=False,
    )
    table("search", call("search", primary_key=True), sa.Column("words", Words, nullable=False))
    table(
        "tool_calls",
        *(call("tool_calls"), count("number"), text("call_id"), text("name"), text("status")),
        *(number("at_ms"), number("duration_ms"), json("rest"), numbered("tool_calls")),
    )
    index("tool_calls", "name", "call")
    table(
        "flags",
        *(call("flags"), count("number"), text("kind"), count("turn", nullable=True), text("detail")),
        *(text("acknowledged_by", nullable=True), moment("acknowledged_at", nullable=True), numbered("flags")),
    )
    index("flags", "kind", "call")
    table(
        "changes",
        *(call("changes"), count("number"), text("kind"), text("id"), text("tool_call_id"), text("text")),
        numbered("changes"),
    )
    index("changes", "kind", "id")
    table(
        "scores",
        *(identity(), call("scores"), text("scorecard"), text("judge"), number("score"), json("answers")),
        moment("scored_at"),
        sa.UniqueConstraint("call", "scorecard", "judge", name=op.f("uq_records_scores_call_scorecard_judge")),
    )
    table(
        "recordings",
        *(call("recordings"), text("key"), text("content_type")),
        *(sa.Column("size", sa.BigInteger(), nullable=False), moment("stored_at")),
        sa.PrimaryKeyConstraint("call", "key", name=op.f("pk_records_recordings")),
    )
    table("audit_log", identity(), moment("at"), text("who"), text("what"), text("call_id"), json("detail"))
    index("audit_log", "at")
    index("audit_log", "call_id")
    table("erased", text("digest", primary_key=True), moment("at"), text("who"), text("call_id", nullable=True))
    for statement in SQLITE_SEARCH if op.get_context().dialect.name == "sqlite" else POSTGRES_SEARCH:
        op.execute(statement)


def downgrade() -> None:
    """Undo."""
    if op.get_context().dialect.name == "sqlite":
        op.execute("DROP TABLE records_search_index")
    for name in TABLES:
        op.drop_table(f"records_{name}")


def table(name: str, *parts: Any, **options: Any) -> None:
    """A table of the records."""
    op.create_table(f"records_{name}", *parts, **options)


def identity() -> sa.Column[int]:
    """The column ``id``, counted up."""
    return sa.Column("id", sa.Integer(), primary_key=True)


def call(of: str, *, primary_key: bool = False) -> sa.Column[int]:
    """The call that a row belongs to."""
    key = sa.ForeignKey("records_calls.id", name=op.f(f"fk_records_{of}_call"), ondelete="CASCADE")
    return sa.Column("call", Key, key, primary_key=primary_key, autoincrement=False, nullable=False)


def numbered(of: str) -> sa.PrimaryKeyConstraint:
    """The primary key of rows that are counted within their call."""
    return sa.PrimaryKeyConstraint("call", "number", name=op.f(f"pk_records_{of}"))


def text(name: str, **options: Any) -> sa.Column[str]:
    """A column of text, not null unless told so."""
    return sa.Column(name, sa.String(), **{"nullable": False, **options})


def count(name: str, *, nullable: bool = False) -> sa.Column[int]:
    """A column of whole numbers."""
    return sa.Column(name, sa.Integer(), nullable=nullable)


def number(name: str, *, nullable: bool = False) -> sa.Column[float]:
    """A column of 64-bit floating point numbers."""
    return sa.Column(name, sa.Double(), nullable=nullable)


def moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    """A column with a moment in UTC."""
    return sa.Column(name, UtcDateTime(), nullable=nullable)


def json(name: str) -> sa.Column[Any]:
    """A column of JSON."""
    return sa.Column(name, sa.JSON(), nullable=False)


def index(of: str, *columns: str) -> None:
    """An index with the models' name for it."""
    op.create_index(op.f(f"ix_records_{of}_{'_'.join(columns)}"), f"records_{of}", list(columns))
