"""Failures that limit further attempts, shared by all workers and nodes, and the devices that people log in from.

How long to wait is decided in `throttle`.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import (
    Column,
    Connection,
    Integer,
    LargeBinary,
    Table,
    bindparam,
    case,
    delete,
    exists,
    select,
    update,
)

from issuer.store.database import Database, Instant, metadata, upserting
from issuer.throttle import DEVICE_MEMORY, Bucket, Count

throttle = Table(
    "throttle",
    metadata,
    Column("bucket", LargeBinary, primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("since", Instant, nullable=False, index=True),
)

devices = Table(
    "devices",
    metadata,
    Column("device", LargeBinary, primary_key=True),
    Column("seen_at", Instant, nullable=False, index=True),
)


# Made once: building them takes longer than the database does to answer.
_COUNTS = select(throttle).where(throttle.c.bucket.in_(bindparam("buckets", expanding=True)))
_IS_COUNTED = select(exists().where(throttle.c.bucket == bindparam("bucket")))
_KNOWN = select(devices).where(
    devices.c.device.in_(bindparam("names", expanding=True)), devices.c.seen_at > bindparam("since")
)


class ThrottleStore:
    """Counts failures and remembers devices."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def counts(self, buckets: Iterable[Bucket]) -> dict[Bucket, Count]:
        """Return the count of each bucket that has one."""
        by_id = {bucket.id: bucket for bucket in buckets}
        with self._database.read() as connection:
            rows = connection.execute(_COUNTS, {"buckets": list(by_id)}).all()
        return {by_id[row.bucket]: Count(row.failures, row.since) for row in rows}

    def claim(self, seen: dict[Bucket, Count], now: datetime) -> bool:
        """Count a failure for each bucket as it was `seen`; False, and nothing done, if one has changed since."""
        with self._database.write() as connection:
            # In the same order for all: nobody waits for who waits for him.
            for bucket, count in sorted(seen.items(), key=lambda item: item[0].id):
                same = throttle.c.bucket == bucket.id, throttle.c.failures == count.failures
                change = update(throttle).where(*same, throttle.c.since == count.since)
                if not connection.execute(change.values(failures=count.failures + 1, since=now)).rowcount:
                    self._database.undo(connection)
                    return False
        return True

    def fail(self, buckets: Iterable[Bucket], now: datetime) -> None:
        """Count a failure for each bucket."""
        with self._database.write() as connection:
            for bucket in sorted(buckets, key=lambda bucket: bucket.id):
                _count(connection, bucket, now)

    def forgive(self, claimed: Mapping[Bucket, Count], now: datetime) -> None:
        """Take back what was claimed at `now`: it was no failure, and nobody waits for it."""
        if not claimed:
            return
        with self._database.write() as connection:
            for bucket, count in sorted(claimed.items(), key=lambda item: item[0].id):
                same = throttle.c.bucket == bucket.id, throttle.c.since == now
                change = update(throttle).where(*same, throttle.c.failures == count.failures + 1)
                connection.execute(change.values(failures=count.failures, since=count.since))

    def forget(self, bucket: Bucket) -> None:
        """Forget all failures of a bucket."""
        with self._database.read() as connection:  # most of the time there is nothing to write
            if not connection.scalar(_IS_COUNTED, {"bucket": bucket.id}):
                return
        with self._database.write() as connection:
            connection.execute(delete(throttle).where(throttle.c.bucket == bucket.id))

    def known(self, names: Sequence[bytes], now: datetime) -> dict[bytes, datetime]:
        """Return which devices of those names are known, and when each was last seen."""
        asked = {"names": list(names), "since": now - DEVICE_MEMORY}
        with self._database.read() as connection:
            rows = connection.execute(_KNOWN, asked).all()
        return {row.device: row.seen_at for row in rows}

    def remember(self, seen: Mapping[bytes, datetime]) -> None:
        """Know the devices of those names, each as of when it was seen."""
        with self._database.write() as connection:
            for name, seen_at in sorted(seen.items()):
                row = upserting(connection, devices).values(device=name, seen_at=seen_at)
                again = {"seen_at": seen_at}
                connection.execute(row.on_conflict_do_update(index_elements=["device"], set_=again))


def _count(connection: Connection, bucket: Bucket, now: datetime) -> None:
    forgotten = throttle.c.since < now - bucket.limit.forgotten_after
    failures = case((forgotten, 1), else_=throttle.c.failures + 1)
    row = upserting(connection, throttle).values(bucket=bucket.id, failures=1, since=now)
    connection.execute(
        row.on_conflict_do_update(index_elements=["bucket"], set_={"failures": failures, "since": now})
    )
