"""The census: which verifiers asked for the key set, and which key sets were served."""

import sqlalchemy as sa
from alembic import op

from issuer.database.types import Instant

revision: str = "0006"
down_revision: str | None = "0005"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "verifiers",
        sa.Column("id", sa.LargeBinary(), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("subnet", sa.Text(), nullable=False),
        sa.Column("instance", sa.String(64), nullable=False),
        sa.Column("etag", sa.Text(), nullable=False),
        sa.Column("evidence", sa.String(32), nullable=False),
        sa.Column("first_at", Instant(), nullable=False),
        sa.Column("seen_at", Instant(), nullable=False, index=True),
        sa.Column("listening", sa.Boolean(), nullable=False),
    )
    op.create_table(
        "key_sets",
        sa.Column("etag", sa.String(64), primary_key=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("kids", sa.Text(), nullable=False),
        sa.Column("served_at", Instant(), nullable=False),
    )
