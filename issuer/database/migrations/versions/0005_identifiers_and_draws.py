"""Identifiers of accounts and clients in one table, random numbers to draw an account by, and secrets."""

import secrets

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"

ROWS_AT_ONCE = 1000
DRAW_BITS = 63


def upgrade() -> None:
    """Go forward."""
    op.create_table("subjects", sa.Column("id", sa.String(36), nullable=False), sa.PrimaryKeyConstraint("id"))
    # An account that was given the identifier of a client keeps it: its tokens are known by it.
    op.execute("INSERT INTO subjects (id) SELECT id FROM users UNION SELECT id FROM clients")
    op.add_column("users", sa.Column("draw", sa.BigInteger(), nullable=False, server_default="0"))
    _draw_for_all(op.get_bind())
    op.create_index("ix_users_draw", "users", ["draw"])
    op.create_table(
        "secrets",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )


def _draw_for_all(connection: sa.Connection) -> None:
    ids = list(connection.scalars(sa.text("SELECT id FROM users")))
    change = sa.text("UPDATE users SET draw = :draw WHERE id = :id")
    for start in range(0, len(ids), ROWS_AT_ONCE):
        some = ids[start : start + ROWS_AT_ONCE]
        connection.execute(change, [{"id": each, "draw": secrets.randbits(DRAW_BITS)} for each in some])
