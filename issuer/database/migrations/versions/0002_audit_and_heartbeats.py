"""The audit, the heartbeats of nodes, and the instant of the ring's last change."""

import json

import sqlalchemy as sa
from alembic import op

from issuer.database.rows import Instant

revision: str = "0002"
down_revision: str | None = "0001"


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "audit",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("kid", sa.String(length=64), nullable=True),
        sa.Column("ring_version", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    head = op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.CheckConstraint("id = 1", name="one_head"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "heartbeats",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("refreshed_at", Instant(), nullable=False),
        sa.Column("signs_until", Instant(), nullable=False),
        sa.Column("served_until", Instant(), nullable=False),
        sa.Column("max_age", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.bulk_insert(head, [{"id": 1, "number": 0, "digest": ""}])
    _refuse_changes_of_the_audit()
    _tell_when_the_ring_changed()


def _refuse_changes_of_the_audit() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for change, table in (("UPDATE", "audit"), ("DELETE", "audit"), ("DELETE", "audit_head")):
            op.execute(
                f"CREATE TRIGGER {table}_refuses_{change.lower()} BEFORE {change} ON {table}"
                " BEGIN SELECT RAISE(ABORT, 'the audit is only ever added to'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION audit_refuses() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'the audit is only ever added to'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_refuses BEFORE UPDATE OR DELETE OR TRUNCATE ON audit"
        " FOR EACH STATEMENT EXECUTE FUNCTION audit_refuses()"
    )
    op.execute(
        "CREATE TRIGGER audit_head_refuses BEFORE DELETE OR TRUNCATE ON audit_head"
        " FOR EACH STATEMENT EXECUTE FUNCTION audit_refuses()"
    )


def _tell_when_the_ring_changed() -> None:
    connection = op.get_bind()
    text = connection.scalar(sa.text("SELECT document FROM key_ring"))
    if text is not None:
        document = json.loads(text)
        document["changed_at"] = max(key["published_at"] for key in document["keys"])
        connection.execute(
            sa.text("UPDATE key_ring SET document = :document"), {"document": json.dumps(document)}
        )
