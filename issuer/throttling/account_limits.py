"""What operators see of the limits on guessing of one account, and what they clear; `guard` applies the limits.

Limits of addresses are left alone: they belong to nobody.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, Table, delete, func, select

from issuer.database.database import Database
from issuer.database.rows import checked
from issuer.database.secrets import SecretStore
from issuer.throttling.limits import DEVICE, DEVICE_MEMORY, Count, Limit, account_bucket, devices_of
from issuer.throttling.store import SECRET, ThrottleStore, devices, throttle


@dataclass(frozen=True)
class LimitState:
    """The failed attempts that are counted together, and until when further ones are refused."""

    failures: int
    limited_until: datetime | None
    """None: the next attempt need not wait."""


NO_FAILURES = LimitState(0, None)


@dataclass(frozen=True)
class AccountLimits:
    """The limits on guessing of one account."""

    account: LimitState
    """On devices that are not known."""
    device: LimitState
    """On the known device that has to wait the longest, or else has the most failures."""
    known_devices: int
    """Browsers and programs with a cookie from a log-in within the last 90 days."""
    known_networks: int
    """Networks from which the account was used in that time."""


class _Rows(NamedTuple):
    """Conditions for the rows of one account."""

    devices: ColumnElement[bool]
    counts: ColumnElement[bool]


class AccountLimitStore:
    """Reads and clears the limits of accounts, by the name under which all spellings are counted."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._store = ThrottleStore(database)

    def state(self, account: str, now: datetime) -> AccountLimits:
        """Return the limits of an account; nothing is written, not even the secret of the limits."""
        if not SecretStore(self._database).exists(SECRET):
            return AccountLimits(NO_FAILURES, NO_FAILURES, 0, 0)
        whole = account_bucket(account)
        count = self._store.counts([whole]).get(whole)
        of_account, counts_of_devices = self._rows(account)
        is_known = devices.c.seen_at.between(now - DEVICE_MEMORY, now + DEVICE_MEMORY)
        counted = select(devices.c.is_network, func.count()).where(of_account, is_known)
        with self._database.snapshot() as connection:
            known = {
                bool(kind): number for kind, number in connection.execute(counted.group_by("is_network"))
            }
            rows = connection.execute(select(throttle).where(counts_of_devices)).all()
        counts = [Count(row.failures, row.since) for row in rows if checked(throttle, row)]
        states = [_state(DEVICE, each, now) for each in counts]
        return AccountLimits(
            account=_state(whole.limit, count, now),
            device=max(states, key=_severity, default=NO_FAILURES),
            known_devices=known.get(False, 0),
            known_networks=known.get(True, 0),
        )

    def clear(self, account: str) -> int:
        """Delete the counts of failures of an account and its known devices; return how many there were."""
        digest = self._store.keyed(account_bucket(account).id)
        _, of_devices = self._rows(account)
        with self._database.write() as connection:
            return _delete(connection, throttle, (throttle.c.bucket == digest) | of_devices)

    def forget(self, account: str) -> int:
        """Delete everything that is stored of an account; return the number of its devices and networks."""
        of_account, _ = self._rows(account)
        self.clear(account)
        with self._database.write() as connection:
            return _delete(connection, devices, of_account)

    def _rows(self, account: str) -> _Rows:
        """Return the conditions for the devices of an account, and for the counts of these devices."""
        mine = devices.c.account == self._store.keyed(devices_of(account))
        # The count of a device has the digest that the device itself has.
        return _Rows(mine, throttle.c.bucket.in_(select(devices.c.device).where(mine)))


def _delete(connection: Connection, table: Table, condition: ColumnElement[bool]) -> int:
    """Delete rows, and return how many; locked in the order of their digests, as log-ins lock them."""
    key = next(iter(table.primary_key))
    connection.execute(select(key).where(condition).order_by(key).with_for_update(of=table)).all()
    return connection.execute(delete(table).where(condition)).rowcount


def _state(limit: Limit, count: Count | None, now: datetime) -> LimitState:
    if count is None:
        return NO_FAILURES
    wait = count.wait(limit, now)
    return LimitState(count.remembered(limit, now), now + wait if wait else None)


def _severity(state: LimitState) -> tuple[float, int]:
    return state.limited_until.timestamp() if state.limited_until else 0.0, state.failures
