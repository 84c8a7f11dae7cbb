"""The tables of failed attempts, and of the devices that users log in from; shared by all workers and nodes.

How long to wait is decided in `limits`. Names are stored as digests under a secret of the installation, so that
they cannot be compared with any other list: users sometimes type a password as their name.
"""

import hmac
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Integer,
    LargeBinary,
    Row,
    Table,
    bindparam,
    case,
    delete,
    exists,
    select,
    update,
)

from issuer.database.database import Database, metadata
from issuer.database.rows import checked, upserting
from issuer.database.secrets import SecretStore
from issuer.database.types import Instant
from issuer.throttling.limits import DEVICE_MEMORY, Bucket, Count, Limit

SECRET = "limits"  # noqa: S105 - its name

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
    Column("account", LargeBinary, nullable=False, index=True),
    Column("is_network", Boolean, nullable=False),
    Column("seen_at", Instant, nullable=False, index=True),
)


# Built once: that takes longer than executing them.
_COUNTS = select(throttle).where(throttle.c.bucket.in_(bindparam("buckets", expanding=True)))
_IS_COUNTED = select(exists().where(throttle.c.bucket == bindparam("bucket")))
_KNOWN = select(devices).where(
    devices.c.device.in_(bindparam("names", expanding=True)),
    devices.c.seen_at.between(bindparam("since"), bindparam("until")),
)


class ThrottleStore:
    """Stores counts of failures, and known devices."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @cached_property
    def _secret(self) -> bytes:
        return SecretStore(self._database).secret(SECRET)

    def keyed(self, name: bytes) -> bytes:
        """Return the keyed digest under which `name` is stored."""
        return hmac.digest(self._secret, name, "sha256")

    def _in_order(self, buckets: Iterable[Bucket]) -> list[tuple[Bucket, bytes]]:
        """Return buckets with their keyed digests, in one order for all transactions, so that none deadlock."""
        return sorted(((each, self.keyed(each.id)) for each in buckets), key=lambda pair: pair[1])

    def counts(self, buckets: Iterable[Bucket]) -> dict[Bucket, Count]:
        """Return the count of each bucket that has one."""
        by_digest = {self.keyed(bucket.id): bucket for bucket in buckets}
        with self._database.read() as connection:
            rows = connection.execute(_COUNTS, {"buckets": list(by_digest)}).all()
        return {by_digest[row.bucket]: _read_count(row) for row in rows}

    def set_back(self, buckets: Iterable[Bucket], now: datetime) -> None:
        """Set the latest failure of each bucket back to `now`, where it is later."""
        in_order = self._in_order(buckets)
        with self._database.write() as connection:
            for _, digest in in_order:
                ahead = throttle.c.bucket == digest, throttle.c.since > now
                connection.execute(update(throttle).where(*ahead).values(since=now))

    def reserve(self, seen: Mapping[Bucket, Count], now: datetime, free: Collection[Bucket] = ()) -> bool:
        """Count a failure for each bucket; return False and count nothing if one is not as it was `seen`.

        Other attempts may have been counted in buckets that are `free`, as long as the next failure is free, too.
        """
        in_order = self._in_order(seen)
        with self._database.write() as connection:
            for bucket, digest in in_order:
                count = seen[bucket]
                if bucket in free:
                    same = throttle.c.failures >= count.failures, throttle.c.failures < bucket.limit.free
                else:
                    same = throttle.c.failures == count.failures, throttle.c.since == count.since
                change = update(throttle).where(throttle.c.bucket == digest, *same)
                more = change.values(failures=throttle.c.failures + 1, since=now)
                if not connection.execute(more).rowcount:
                    connection.rollback()
                    return False
        return True

    def fail(self, buckets: Iterable[Bucket], now: datetime) -> None:
        """Count a failure for each bucket."""
        in_order = self._in_order(buckets)
        with self._database.write() as connection:
            for bucket, digest in in_order:
                _count(connection, digest, bucket.limit, now)

    def release(self, reserved: Mapping[Bucket, Count], now: datetime, free: Collection[Bucket] = ()) -> None:
        """Undo `reserve` for an attempt that did not fail."""
        if not reserved:
            return
        in_order = self._in_order(reserved)
        with self._database.write() as connection:
            for bucket, digest in in_order:
                count = reserved[bucket]
                change = update(throttle).where(throttle.c.bucket == digest)
                if bucket in free:
                    change = change.where(throttle.c.failures > 0).values(failures=throttle.c.failures - 1)
                else:
                    change = change.where(throttle.c.since == now, throttle.c.failures == count.failures + 1)
                    change = change.values(failures=count.failures, since=count.since)
                connection.execute(change)

    def reset(self, bucket: Bucket) -> None:
        """Delete the count of a bucket."""
        digest = self.keyed(bucket.id)
        with self._database.read() as connection:  # most of the time there is nothing to write
            if not connection.scalar(_IS_COUNTED, {"bucket": digest}):
                return
        with self._database.write() as connection:
            connection.execute(delete(throttle).where(throttle.c.bucket == digest))

    def known(self, names: Sequence[bytes], now: datetime) -> dict[bytes, datetime]:
        """Return which devices of these digests are known, and when each was last seen."""
        by_digest = {self.keyed(name): name for name in names}
        asked = {"names": list(by_digest), "since": now - DEVICE_MEMORY, "until": now + DEVICE_MEMORY}
        with self._database.read() as connection:
            rows = connection.execute(_KNOWN, asked).all()
        return {by_digest[row.device]: _read_seen_at(row) for row in rows}

    def remember(
        self, seen: Mapping[bytes, datetime], account: bytes, networks: Collection[bytes] = ()
    ) -> None:
        """Store the devices of these digests, each with when it was seen; `networks` are those of addresses."""
        by_digest = {self.keyed(name): seen_at for name, seen_at in seen.items()}
        of_networks = {self.keyed(name) for name in networks}
        owner = self.keyed(account)
        with self._database.write() as connection:
            for digest, seen_at in sorted(by_digest.items()):
                row = upserting(connection, devices).values(
                    device=digest, account=owner, is_network=digest in of_networks, seen_at=seen_at
                )
                again = {"seen_at": seen_at}
                connection.execute(row.on_conflict_do_update(index_elements=["device"], set_=again))


def _count(connection: Connection, digest: bytes, limit: Limit, now: datetime) -> None:
    forgotten = throttle.c.since < now - limit.forgotten_after
    failures = case((forgotten, 1), else_=throttle.c.failures + 1)
    row = upserting(connection, throttle).values(bucket=digest, failures=1, since=now)
    connection.execute(
        row.on_conflict_do_update(index_elements=["bucket"], set_={"failures": failures, "since": now})
    )


def _read_count(row: Row[Any]) -> Count:
    checked(throttle, row)
    return Count(row.failures, row.since)


def _read_seen_at(row: Row[Any]) -> datetime:
    seen_at: datetime = checked(devices, row)["seen_at"]
    return seen_at
