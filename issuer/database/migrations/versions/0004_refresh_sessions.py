"""What recognises an old refresh token without its row, paces rotations, and counts the events of sessions."""

import sqlalchemy as sa
from alembic import op

from issuer.database.rows import Instant

revision: str = "0004"
down_revision: str | None = "0003"


def upgrade() -> None:
    """Go forward."""
    op.add_column("refresh_tokens", sa.Column("proof_digest", sa.LargeBinary()))
    op.add_column("refresh_tokens", sa.Column("site", sa.Text()))
    op.add_column("refresh_tokens", sa.Column("paced_until", Instant()))
    op.add_column("refresh_tokens", sa.Column("issued_tick", sa.BigInteger()))
    op.add_column("refresh_tokens", sa.Column("repeated_at", Instant()))
    op.create_table(
        "session_events",
        sa.Column("user_id", sa.String(length=36), nullable=False),
        sa.Column("event", sa.String(length=64), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("first_at", Instant(), nullable=False),
        sa.Column("last_at", Instant(), nullable=False),
        sa.Column("session", sa.String(length=36), nullable=False),
        sa.Column("client_id", sa.String(length=36), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "event"),
    )
    op.create_index("ix_session_events_last_at", "session_events", ["last_at"])
