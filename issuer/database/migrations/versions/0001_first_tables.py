"""First tables."""

import sqlalchemy as sa
from alembic import op

from issuer.database.types import Instant

revision: str = "0001"
down_revision: str | None = None


def upgrade() -> None:
    """Create all tables."""
    _create_accounts()
    _create_clients()
    _create_resources()
    _create_families()
    _create_refresh_tokens()
    _create_keys()
    _create_limits_and_secrets()
    head = _create_audit()
    op.bulk_insert(head, [{"id": 1, "number": 0, "digest": ""}])
    _refuse_changes_of_the_audit()


def _create_accounts() -> None:
    op.create_table("subjects", sa.Column("id", sa.String(512), primary_key=True))
    op.create_table(
        "users",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("username", sa.Text(), nullable=False),
        # By code points, as on SQLite: the index serves beginnings of names, and pages in the order of names.
        sa.Column(
            "canonical_username",
            sa.Text().with_variant(sa.Text(collation="C"), "postgresql"),
            nullable=False,
            unique=True,
        ),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("disabled_at", Instant()),
        sa.Column("name", sa.Text()),
        sa.Column("email", sa.Text()),
        sa.Column("canonical_email", sa.Text(), index=True),
        sa.Column("email_verified", sa.Boolean(), nullable=False),
        sa.Column("invited_at", Instant()),
        sa.Column("updated_at", Instant()),
        sa.Column("draw", sa.BigInteger(), nullable=False, index=True),
        sa.Column("signed_in_at", Instant()),
        sa.Column("attributes", sa.Text(), nullable=False),
    )
    is_disabled = sa.text("disabled_at IS NOT NULL")
    op.create_index(
        "disabled_users",
        "users",
        ["canonical_username"],
        postgresql_where=is_disabled,
        sqlite_where=is_disabled,
    )


def _create_clients() -> None:
    op.create_table(
        "clients",
        sa.Column("id", sa.String(512), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("auth_method", sa.String(32), nullable=False),
        sa.Column("secret_digest", sa.LargeBinary()),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("audiences", sa.Text(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("disabled_at", Instant()),
        sa.Column("old_secret_digest", sa.LargeBinary()),
        sa.Column("old_secret_until", Instant()),
        sa.Column("jwks", sa.Text()),
        sa.Column("jwks_uri", sa.Text()),
        sa.Column("grant_types", sa.Text(), nullable=False),
        sa.Column("refresh_removed_at", Instant()),
        sa.Column("response_types", sa.Text(), nullable=False),
        sa.Column("redirect_uris", sa.Text(), nullable=False),
        sa.Column("post_logout_redirect_uris", sa.Text(), nullable=False),
        sa.Column("backchannel_logout_uri", sa.Text()),
        sa.Column("is_trusted", sa.Boolean(), nullable=False),
        sa.Column("requires_pkce", sa.Boolean(), nullable=False),
        sa.Column("requires_par", sa.Boolean(), nullable=False),
        sa.Column("id_token_claims", sa.Text(), nullable=False),
        sa.Column("has_roles_claim", sa.Boolean(), nullable=False),
    )
    op.create_index("ix_clients_order", "clients", ["created_at", "id"])


def _create_resources() -> None:
    op.create_table(
        "resources",
        sa.Column("matched", sa.String(2048), primary_key=True),
        sa.Column("uri", sa.String(2048), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("is_open", sa.Boolean(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
    )
    op.create_table(
        "assertions",
        sa.Column("assertion", sa.LargeBinary(), primary_key=True),
        sa.Column("expires_at", Instant(), nullable=False, index=True),
    )


def _create_families() -> None:
    op.create_table(
        "families",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("user_id", sa.String(36), sa.ForeignKey("users.id"), nullable=False, index=True),
        sa.Column("client_id", sa.String(512), nullable=False, index=True),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("audience", sa.Text(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False, index=True),
        sa.Column("ended_at", Instant(), index=True),
        sa.Column("user_agent", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("browser_session", sa.String(36), index=True),
        sa.Column("sid", sa.String(36)),
        sa.Column("auth_time", Instant()),
        sa.Column("acr", sa.Text()),
        sa.Column("amr", sa.Text()),
        sa.Column("userinfo_claims", sa.Text(), nullable=False),
    )


def _create_refresh_tokens() -> None:
    family = sa.ForeignKey("families.id", ondelete="CASCADE")
    op.create_table(
        "refresh_tokens",
        sa.Column("digest", sa.LargeBinary(), primary_key=True),
        sa.Column("family_id", sa.String(36), family, nullable=False, index=True),
        sa.Column("expires_at", Instant(), nullable=False, index=True),
        sa.Column("successor_seed", sa.LargeBinary(), nullable=False),
        sa.Column("used_at", Instant()),
        sa.Column("proof_digest", sa.LargeBinary(), nullable=False),
        sa.Column("subnet", sa.Text()),
        sa.Column("paced_until", Instant()),
        sa.Column("issued_tick", sa.BigInteger()),
        sa.Column("repeated_at", Instant()),
    )
    op.create_table(
        "session_events",
        sa.Column("user_id", sa.String(36), primary_key=True),
        sa.Column("event", sa.String(64), primary_key=True),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("first_at", Instant(), nullable=False),
        sa.Column("last_at", Instant(), nullable=False, index=True),
        sa.Column("session", sa.String(36), nullable=False),
        sa.Column("client_id", sa.String(512), nullable=False),
    )


def _create_keys() -> None:
    op.create_table(
        "retired_public_keys",
        sa.Column("kid", sa.String(64), primary_key=True),
        sa.Column("alg", sa.String(32), nullable=False),
        sa.Column("jwk", sa.Text(), nullable=False),
        sa.Column("retired_at", Instant(), nullable=False, index=True),
    )
    op.create_table(
        "key_ring",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.CheckConstraint("id = 1", name="one_ring"),
    )
    op.create_table(
        "private_keys",
        sa.Column("kid", sa.String(64), primary_key=True),
        sa.Column("pem", sa.LargeBinary(), nullable=False),
        sa.Column("kept", sa.Boolean(), nullable=False),
    )
    op.create_table(
        "heartbeats",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("refreshed_at", Instant(), nullable=False),
        sa.Column("signs_until", Instant(), nullable=False),
        sa.Column("served_until", Instant(), nullable=False),
        sa.Column("max_age", sa.Integer(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
    )


def _create_limits_and_secrets() -> None:
    op.create_table(
        "throttle",
        sa.Column("bucket", sa.LargeBinary(), primary_key=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("since", Instant(), nullable=False, index=True),
    )
    op.create_table(
        "devices",
        sa.Column("device", sa.LargeBinary(), primary_key=True),
        sa.Column("account", sa.LargeBinary(), nullable=False, index=True),
        sa.Column("is_network", sa.Boolean(), nullable=False),
        sa.Column("seen_at", Instant(), nullable=False, index=True),
    )
    op.create_table(
        "secrets",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
    )


def _create_audit() -> sa.Table:
    op.create_table(
        "audit",
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("kid", sa.String(64)),
        sa.Column("ring_version", sa.Integer()),
        sa.Column("reason", sa.Text()),
        sa.Column("digest", sa.String(64), nullable=False),
    )
    return op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.CheckConstraint("id = 1", name="one_head"),
    )


def _refuse_changes_of_the_audit() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for change, table in (("UPDATE", "audit"), ("DELETE", "audit"), ("DELETE", "audit_head")):
            op.execute(
                f"CREATE TRIGGER {table}_refuses_{change.lower()} BEFORE {change} ON {table}"
                " BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION audit_refuses() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'the audit is append-only'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_refuses BEFORE UPDATE OR DELETE OR TRUNCATE ON audit"
        " FOR EACH STATEMENT EXECUTE FUNCTION audit_refuses()"
    )
    op.execute(
        "CREATE TRIGGER audit_head_refuses BEFORE DELETE OR TRUNCATE ON audit_head"
        " FOR EACH STATEMENT EXECUTE FUNCTION audit_refuses()"
    )
