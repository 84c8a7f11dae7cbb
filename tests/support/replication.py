"""Two PostgreSQL servers: a primary, and a replica that has every acknowledged commit.

The primary can be lost as often as wanted; how the issuer behaves then is tested in `test_failover` and `soak`.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from support.postgresql import HOST, USER, Cluster

SETTINGS = {
    "fsync": "off",
    "wal_level": "replica",
    "synchronous_commit": "on",
    "max_wal_senders": "10",
    "hot_standby": "on",
}
STREAMING_SECONDS = 120.0
LOOK_SECONDS = 0.05


class Pair:
    """A primary and its replica; a failover swaps the roles, not the ports."""

    def __init__(self, primary: Cluster, replica: Cluster) -> None:
        self._primary, self._replica = primary, replica
        self.ports = (primary.port, replica.port)
        self._lost_at = self._back_at = float("-inf")

    @property
    def url(self) -> str:
        """The URL of the maintenance database on either server, for the writable one."""
        hosts = ",".join(f"{HOST}:{port}" for port in self.ports)
        return f"postgresql://{USER}@{hosts}/postgres"

    def start(self) -> None:
        """Start both."""
        self._primary.make()
        self._primary.start(**SETTINGS)
        self.replicate()

    def lose_primary(self) -> None:
        """Stop the primary like a crash; nothing can be written until `promote`."""
        self._lost_at = time.time()
        self._primary.stop()

    def promote(self) -> None:
        """Promote the replica; it acknowledges commits alone until `replicate`."""
        self._replica.control("promote")
        self._primary, self._replica = self._replica, self._primary
        self._back_at = time.time()

    def replicate(self) -> None:
        """Create a new replica of the primary; from now on a commit is acknowledged only when both have it."""
        # The copy is made without synchronous replication: once promoted, it must not wait for a replica.
        self._set_on_primary("ALTER SYSTEM RESET synchronous_standby_names")
        shutil.rmtree(self._replica.data, ignore_errors=True)
        source = ["-h", HOST, "-p", str(self._primary.port), "-U", USER]
        self._replica.run(
            "pg_basebackup", *source, "-D", self._replica.data, "-R", "-X", "stream", "-c", "fast", "-N"
        )
        self._replica.start(**SETTINGS)
        self._until_replica_is("streaming, async")
        self._set_on_primary("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self._until_replica_is("streaming, sync")

    def was_lost_since(self, instant: float) -> bool:
        """Return whether there was a time without a primary after `instant`, in true time."""
        return self._lost_at > self._back_at or self._back_at >= instant

    def ask_primary(self, statement: str, database: str = "postgres") -> Any:
        """Return the single value of a query on the primary, without an issuer."""
        with psycopg.connect(self._primary.url, dbname=database, autocommit=True) as connection:
            row = connection.execute(statement).fetchone()  # type: ignore[call-overload]
            return row and row[0]

    def _set_on_primary(self, statement: str) -> None:
        with psycopg.connect(self._primary.url, autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[call-overload]
            connection.execute("SELECT pg_reload_conf()")

    def _until_replica_is(self, state: str) -> None:
        deadline = time.monotonic() + STREAMING_SECONDS
        while self.ask_primary("SELECT max(state || ', ' || sync_state) FROM pg_stat_replication") != state:
            assert time.monotonic() < deadline, f"no replica is {state}"
            time.sleep(LOOK_SECONDS)


@contextmanager
def temporary_pair() -> Iterator[Pair]:
    """Yield two servers that stop with the block."""
    with Cluster() as primary, Cluster() as replica:
        pair = Pair(primary, replica)
        pair.start()
        yield pair
