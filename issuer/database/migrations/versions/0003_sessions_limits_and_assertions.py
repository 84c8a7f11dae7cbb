"""What sessions, limits on guessing and clients that sign assertions need."""

import sqlalchemy as sa
from alembic import op

from issuer.database.rows import Instant

revision: str = "0003"
down_revision: str | None = "0002"


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "throttle",
        sa.Column("bucket", sa.LargeBinary(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("since", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("bucket"),
    )
    op.create_table(
        "devices",
        sa.Column("device", sa.LargeBinary(), nullable=False),
        sa.Column("seen_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("device"),
    )
    op.create_table(
        "assertions",
        sa.Column("assertion", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("assertion"),
    )
    op.add_column("clients", sa.Column("old_secret_digest", sa.LargeBinary()))
    op.add_column("clients", sa.Column("old_secret_until", Instant()))
    op.add_column("clients", sa.Column("jwks", sa.Text()))
    op.add_column("clients", sa.Column("jwks_uri", sa.Text()))
    for table, column in (
        ("throttle", "since"),
        ("devices", "seen_at"),
        ("assertions", "expires_at"),
        ("families", "ended_at"),
        ("refresh_tokens", "expires_at"),
    ):
        op.create_index(f"ix_{table}_{column}", table, [column])
