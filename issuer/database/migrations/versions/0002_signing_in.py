"""Sign-in with a browser: sessions, logout notices, codes, pushed requests and consents."""

import sqlalchemy as sa
from alembic import op

from issuer.database.types import Instant

revision: str = "0002"
down_revision: str | None = "0001"


def upgrade() -> None:
    """Create the tables."""
    _create_browser_sessions()
    _create_authorizations()


def _create_browser_sessions() -> None:
    op.create_table(
        "browser_sessions",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("digest", sa.LargeBinary(), nullable=False, unique=True),
        sa.Column("user_id", sa.String(36), sa.ForeignKey("users.id"), nullable=False, index=True),
        sa.Column("auth_time", Instant(), nullable=False),
        sa.Column("chosen_at", Instant(), nullable=False),
        sa.Column("acr", sa.Text(), nullable=False),
        sa.Column("amr", sa.Text(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("seen_at", Instant(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False, index=True),
        sa.Column("is_remembered", sa.Boolean(), nullable=False),
        sa.Column("ended_at", Instant(), index=True),
        sa.Column("user_agent", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
    )
    session = sa.ForeignKey("browser_sessions.id", ondelete="CASCADE")
    op.create_table(
        "client_sessions",
        sa.Column("sid", sa.String(36), primary_key=True),
        sa.Column("browser_session", sa.String(36), session, nullable=False),
        sa.Column("client_id", sa.String(512), nullable=False),
        sa.UniqueConstraint("browser_session", "client_id"),
    )
    op.create_table(
        "logout_notices",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("client_id", sa.String(512), nullable=False),
        sa.Column("user_id", sa.String(36), nullable=False),
        sa.Column("sid", sa.String(36), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", Instant(), nullable=False, index=True),
    )


def _create_authorizations() -> None:
    op.create_table(
        "authorization_codes",
        sa.Column("digest", sa.LargeBinary(), primary_key=True),
        sa.Column("client_id", sa.String(512), nullable=False),
        sa.Column("user_id", sa.String(36), sa.ForeignKey("users.id"), nullable=False, index=True),
        sa.Column("redirect_uri", sa.Text(), nullable=False),
        sa.Column("challenge", sa.Text()),
        sa.Column("nonce", sa.Text()),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("audience", sa.Text(), nullable=False),
        sa.Column("userinfo_claims", sa.Text(), nullable=False),
        sa.Column("browser_session", sa.String(36), nullable=False),
        sa.Column("session_expires_at", Instant(), nullable=False),
        sa.Column("sid", sa.String(36), nullable=False),
        sa.Column("auth_time", Instant(), nullable=False),
        sa.Column("acr", sa.Text(), nullable=False),
        sa.Column("amr", sa.Text(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False, index=True),
        sa.Column("used_at", Instant()),
        sa.Column("family_id", sa.String(36)),
    )
    op.create_table(
        "pushed_requests",
        sa.Column("digest", sa.LargeBinary(), primary_key=True),
        sa.Column("client_id", sa.String(512), nullable=False),
        sa.Column("parameters", sa.Text(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False, index=True),
        sa.Column("used_at", Instant()),
    )
    op.create_table(
        "consents",
        sa.Column("user_id", sa.String(36), sa.ForeignKey("users.id"), primary_key=True),
        sa.Column("client_id", sa.String(512), primary_key=True, index=True),
        sa.Column("resource", sa.String(2048), primary_key=True),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("given_at", Instant(), nullable=False),
        sa.Column("shown", sa.LargeBinary(), nullable=False),
    )
