"""Roles of users, and names of deleted accounts that nobody may take yet."""

import sqlalchemy as sa
from alembic import op

from issuer.database.types import Instant

revision: str = "0003"
down_revision: str | None = "0002"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "roles",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
    )
    op.create_table(
        "user_roles",
        sa.Column("user_id", sa.String(36), sa.ForeignKey("users.id"), primary_key=True),
        sa.Column("role", sa.String(64), sa.ForeignKey("roles.name"), primary_key=True, index=True),
    )
    op.create_table(
        "freed_names",
        sa.Column("name", sa.LargeBinary(), primary_key=True),
        sa.Column("free_from", Instant(), nullable=False, index=True),
    )
