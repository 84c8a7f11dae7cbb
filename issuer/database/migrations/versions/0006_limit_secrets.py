"""A secret of the installation, under which the names of limits and devices are kept from now on."""

import hmac
import secrets

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"

_SECRETS = sa.table("secrets", sa.column("name", sa.String()), sa.column("secret", sa.LargeBinary()))
_NAMES = (("throttle", "bucket"), ("devices", "device"))


def upgrade() -> None:
    """Go forward; names that were plain digests become keyed ones, so that failures and devices stay known."""
    connection = op.get_bind()
    if not any(_names(connection, table, column) for table, column in _NAMES):
        return
    key = secrets.token_bytes(32)
    op.bulk_insert(_SECRETS, [{"name": "limits", "secret": key}])
    for table, column in _NAMES:
        change = sa.text(f"UPDATE {table} SET {column} = :keyed WHERE {column} = :name")  # noqa: S608 - ours
        names = _names(connection, table, column)
        changes = [{"name": name, "keyed": hmac.digest(key, name, "sha256")} for name in names]
        if changes:
            connection.execute(change, changes)


def _names(connection: sa.Connection, table: str, column: str) -> list[bytes]:
    return [bytes(name) for name in connection.execute(sa.text(f"SELECT {column} FROM {table}")).scalars()]  # noqa: S608
