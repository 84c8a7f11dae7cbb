"""Mail: which messages to users are due."""

import sqlalchemy as sa
from alembic import op

from issuer.database.types import Instant

revision: str = "0005"
down_revision: str | None = "0004"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "mails",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("user_id", sa.String(36), sa.ForeignKey("users.id"), index=True),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", Instant(), nullable=False, index=True),
    )
