"""The identifiers of accounts and clients, all in one table: a token of a client never names an account as its `sub`.

Each is written in the transaction that adds its account or client, and stays when that is removed, so that no
identifier is ever given to somebody else.
"""

from collections.abc import Iterable

from sqlalchemy import Column, Connection, String, Table, insert

from issuer.database.database import metadata

subjects = Table("subjects", metadata, Column("id", String(36), primary_key=True))


def claim(connection: Connection, ids: Iterable[str]) -> None:
    """Take identifiers for new accounts or clients; raise IntegrityError if one was ever taken."""
    connection.execute(insert(subjects), [{"id": each} for each in ids])
