"""The caller's number beside a tape whose call has no record yet; when retention last ran."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from desk.database import UtcDateTime
from records.models import Number

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("records_tapes", sa.Column("from_number", Number, nullable=False, server_default=""))
    op.execute(
        """UPDATE records_tapes SET from_number = records_calls.from_number
        FROM records_calls WHERE records_calls.call_id = records_tapes.call_id"""
    )
    op.create_index(op.f("ix_records_tapes_from_number"), "records_tapes", ["from_number"])
    op.create_table(
        "records_sweeps",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("records_sweeps")
    op.drop_index(op.f("ix_records_tapes_from_number"), "records_tapes")
    op.drop_column("records_tapes", "from_number")
