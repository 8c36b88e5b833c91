"""Tapes, the jobs of finished calls, workers; webhooks and the attempts to deliver them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from desk.database import UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INDEXES = (("jobs", "status"), ("deliveries", "call_id"), ("deliveries", "state"))
TABLES = ("attempts", "deliveries", "workers", "jobs", "tapes")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "records_tapes",
        sa.Column("call_id", sa.String(), primary_key=True),
        sa.Column("call_sid", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False, unique=True),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("found_at", UtcDateTime(), nullable=False),
    )
    op.create_table(
        "records_jobs",
        sa.Column("call_id", sa.String(), owner("jobs", "call_id", "tapes.call_id"), primary_key=True),
        sa.Column("step", sa.String(), primary_key=True),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("next_try_at", UtcDateTime(), nullable=True),
        sa.Column("changed_at", UtcDateTime(), nullable=False),
    )
    op.create_table(
        "records_workers",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("heard_at", UtcDateTime(), nullable=False),
    )
    op.create_table(
        "records_deliveries",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("call_id", sa.String(), nullable=False),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("target_key", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_try_at", UtcDateTime(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
    )
    op.create_table(
        "records_attempts",
        sa.Column("delivery", sa.String(), owner("attempts", "delivery", "deliveries.id"), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("duration_ms", sa.Double(), nullable=False),
        sa.Column("error", sa.String(), nullable=False),
        sa.Column("body_sha256", sa.String(), nullable=False),
    )
    for table, column in INDEXES:
        op.create_index(op.f(f"ix_records_{table}_{column}"), f"records_{table}", [column])


def downgrade() -> None:
    """Undo."""
    for name in TABLES:
        op.drop_table(f"records_{name}")


def owner(of: str, column: str, key: str) -> sa.ForeignKey:
    """The row that a row belongs to, and goes with."""
    return sa.ForeignKey(f"records_{key}", name=op.f(f"fk_records_{of}_{column}"), ondelete="CASCADE")
