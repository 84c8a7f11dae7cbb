"""Events of accounts and clients."""

import sqlalchemy as sa
from alembic import op

from issuer.database.types import Instant

revision: str = "0004"
down_revision: str | None = "0003"


def upgrade() -> None:
    """Create the table, with an index for each filter of `issuer audit list`."""
    op.create_table(
        "account_events",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        sa.Column("at", Instant(), nullable=False, index=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("user_id", sa.String(36)),
        sa.Column("client_id", sa.String(512)),
        sa.Column("detail", sa.Text()),
        sa.Column("reason", sa.Text()),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("since", Instant(), nullable=False),
        sa.Column("summed", sa.LargeBinary(), unique=True),
    )
    for name in ("user_id", "client_id", "action"):
        op.create_index(f"ix_account_events_{name}", "account_events", [name, "at"])
