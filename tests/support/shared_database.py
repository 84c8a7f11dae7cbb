"""Installations that share a PostgreSQL database, and statements that wait there until several continue at once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from support.postgresql import new_database
from support.servers import PASSPHRASE, Installation, eventually


@contextmanager
def lock_held(database: str, lock: str) -> Iterator[Callable[[int], None]]:
    """Hold a lock within the block; yield a function that waits until so many statements wait for it."""
    waiting = (
        "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_locks.database = pg_database.oid"
        " WHERE NOT granted AND datname = current_database()"
    )
    with psycopg.connect(database) as connection:
        connection.execute(lock)

        def until_waiting(count: int) -> None:
            eventually(lambda: connection.execute(waiting).fetchone() == (count,), f"{count} wait")

        yield until_waiting


def use_postgresql(installation: Installation, server: str) -> str:
    """Use an empty database for key ring and private keys, and return its URL."""
    database = new_database(server)
    installation.settings |= {
        "ISSUER_DATABASE_URL": database,
        "ISSUER_KEYS": "database",
        "ISSUER_KEYS_PASSPHRASE": PASSPHRASE,
    }
    return database
