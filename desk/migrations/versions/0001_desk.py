"""Customers, appointments and the time they occupy, notes, messages, commands, answers with full text search."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from desk.database import UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = ("booked_cells", "notes", "messages", "appointments", "faq", "customers", "commands")

# The FTS5 table keeps only its index; the triggers hold it in step with desk_faq.
SQLITE_SEARCH = (
    """CREATE VIRTUAL TABLE desk_faq_search USING fts5(
        question, answer, content='desk_faq', content_rowid='id', tokenize='porter unicode61 remove_diacritics 2')""",
    """CREATE TRIGGER desk_faq_search_insert AFTER INSERT ON desk_faq BEGIN
        INSERT INTO desk_faq_search (rowid, question, answer) VALUES (new.id, new.question, new.answer);
    END""",
    """CREATE TRIGGER desk_faq_search_delete AFTER DELETE ON desk_faq BEGIN
        INSERT INTO desk_faq_search (desk_faq_search, rowid, question, answer)
        VALUES ('delete', old.id, old.question, old.answer);
    END""",
    """CREATE TRIGGER desk_faq_search_update AFTER UPDATE ON desk_faq BEGIN
        INSERT INTO desk_faq_search (desk_faq_search, rowid, question, answer)
        VALUES ('delete', old.id, old.question, old.answer);
        INSERT INTO desk_faq_search (rowid, question, answer) VALUES (new.id, new.question, new.answer);
    END""",
)
POSTGRES_SEARCH = (
    """CREATE INDEX desk_faq_search ON desk_faq USING gin (
        (setweight(to_tsvector('english', question), 'A') || setweight(to_tsvector('english', answer), 'B')))""",
)


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "desk_commands",
        *(business(), sa.Column("key", sa.String(), nullable=False), words("kind")),
        sa.Column("result", sa.JSON(), nullable=True),
        moment("created_at"),
        sa.PrimaryKeyConstraint("business_id", "key", name=op.f("pk_desk_commands")),
    )
    op.create_table(
        "desk_customers",
        *(identity(), business(), words("phone"), words("name"), words("name_key"), words("email")),
        *(moment("created_at"), moment("last_active_at")),
        sa.UniqueConstraint(
            "business_id", "phone", "name_key", name=op.f("uq_desk_customers_business_id_phone_name_key")
        ),
    )
    op.create_table(
        "desk_faq",
        *(identity(), business(), sa.Column("position", sa.Integer(), nullable=False)),
        *(words("question"), words("answer"), moment("created_at")),
        sa.UniqueConstraint("business_id", "position", name=op.f("uq_desk_faq_business_id_position")),
    )
    op.create_table(
        "desk_appointments",
        *(identity(), business(), reference("appointments", "customer")),
        *(words("service_id"), words("staff_id"), moment("starts_at"), moment("ends_at")),
        *(words("status"), words("note"), words("cancel_reason"), moment("created_at")),
        moment("cancelled_at", nullable=True),
        sa.CheckConstraint("status IN ('booked', 'cancelled')", name=op.f("ck_desk_appointments_status")),
        sa.CheckConstraint("ends_at > starts_at", name=op.f("ck_desk_appointments_ends_after_start")),
    )
    index("appointments", "customer_id", "starts_at")
    op.create_table(
        "desk_booked_cells",
        *(business(), sa.Column("staff_id", sa.String(), nullable=False)),
        sa.Column("cell", sa.Integer(), autoincrement=False, nullable=False),
        *(reference("booked_cells", "appointment"), moment("created_at")),
        sa.PrimaryKeyConstraint("business_id", "staff_id", "cell", name=op.f("pk_desk_booked_cells")),
        sqlite_with_rowid=False,
    )
    index("booked_cells", "appointment_id")
    op.create_table(
        "desk_notes",
        *(identity(), business(), reference("notes", "customer"), words("call_id"), words("text")),
        moment("created_at"),
    )
    index("notes", "customer_id")
    op.create_table(
        "desk_messages",
        *(identity(), business(), reference("messages", "customer", nullable=True)),
        *(words("caller_phone"), words("name"), words("text")),
        *(sa.Column("urgent", sa.Boolean(), nullable=False), moment("created_at")),
    )
    index("messages", "business_id")
    index("messages", "customer_id")
    for statement in SQLITE_SEARCH if op.get_context().dialect.name == "sqlite" else POSTGRES_SEARCH:
        op.execute(statement)


def downgrade() -> None:
    """Undo."""
    if op.get_context().dialect.name == "sqlite":
        op.execute("DROP TABLE desk_faq_search")
    for table in TABLES:
        op.drop_table(f"desk_{table}")


def identity() -> sa.Column[int]:
    """The column ``id``."""
    return sa.Column("id", sa.Integer(), primary_key=True)


def business() -> sa.Column[str]:
    """The column every row has."""
    return words("business_id")


def words(name: str) -> sa.Column[str]:
    """A column of text, never null."""
    return sa.Column(name, sa.String(), nullable=False)


def moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    """A column with a moment in UTC."""
    return sa.Column(name, UtcDateTime(), nullable=nullable)


def reference(table: str, to: str, *, nullable: bool = False) -> sa.Column[int]:
    """A column ``<to>_id`` with its foreign key."""
    key = sa.ForeignKey(f"desk_{to}s.id", name=op.f(f"fk_desk_{table}_{to}_id"))
    return sa.Column(f"{to}_id", sa.Integer(), key, nullable=nullable)


def index(table: str, *columns: str) -> None:
    """An index with the models' name for it."""
    op.create_index(op.f(f"ix_desk_{table}_{'_'.join(columns)}"), f"desk_{table}", list(columns))
