"""The ids of all accounts and clients in one table, so that no client's token has the `sub` of an account.

An id is inserted in the transaction that adds its account or client, and stays when that is removed: it is never
reused.
"""

from collections.abc import Iterable

from sqlalchemy import Column, Connection, String, Table, insert

from issuer.database.database import metadata

subjects = Table("subjects", metadata, Column("id", String(512), primary_key=True))


def claim(connection: Connection, ids: Iterable[str]) -> None:
    """Insert the ids of new accounts or clients; raise IntegrityError if one was ever used."""
    connection.execute(insert(subjects), [{"id": each} for each in ids])
