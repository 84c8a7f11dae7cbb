"""The grants that each client may use, which followed from its authentication method before."""

import json

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"

_CLIENTS = sa.table("clients", sa.column("auth_method", sa.String()), sa.column("grant_types", sa.Text()))
_PUBLIC, _CONFIDENTIAL = ["refresh_token"], ["client_credentials", "refresh_token"]


def upgrade() -> None:
    """Go forward."""
    op.add_column("clients", sa.Column("grant_types", sa.Text(), nullable=False, server_default="[]"))
    grants = sa.case((_CLIENTS.c.auth_method == "none", json.dumps(_PUBLIC)), else_=json.dumps(_CONFIDENTIAL))
    op.execute(_CLIENTS.update().values(grant_types=grants))
