"""What operators see of the limits of one account, and what clearing them changes."""

from contextlib import suppress
from datetime import timedelta

import pytest
from sqlalchemy import func, select
from support.clocks import ADMITTED, Gate, ShiftedClock
from support.defaults import START, MovableClock

from issuer.database.database import Database
from issuer.database.secrets import SecretStore
from issuer.oauth import LoginFailed
from issuer.throttling.account_limits import NO_FAILURES, AccountLimits, AccountLimitStore
from issuer.throttling.limits import ACCOUNT, DEVICE_MEMORY
from issuer.throttling.origin import Origin
from issuer.throttling.store import SECRET, devices, throttle

ATTACKER, HOME = "192.0.2.1", "198.51.100.1"


@pytest.fixture
def gate(database: Database, clock: MovableClock) -> Gate:
    return Gate.of(database, ShiftedClock(clock))


def fail(gate: Gate, times: int, address: str = ATTACKER) -> None:
    for _ in range(times):
        gate.attempt("alice", address, right=False)


def test_failures_are_told_with_the_end_of_the_wait(gate: Gate, database: Database) -> None:
    limits = AccountLimitStore(database)
    fail(gate, 3)
    assert limits.state("alice", START) == AccountLimits(
        limits.state("alice", START).account, NO_FAILURES, 0, 0
    )
    assert limits.state("alice", START).account.failures == 3
    assert limits.state("alice", START).account.limited_until is None
    fail(gate, ACCOUNT.free - 2)
    state = limits.state("alice", START).account
    assert (state.failures, state.limited_until) == (ACCOUNT.free + 1, START + ACCOUNT.first)
    assert limits.state("alice", START + ACCOUNT.first).account.limited_until is None
    assert limits.state("bob", START).account == NO_FAILURES


def test_after_clearing_the_next_log_in_need_not_wait(gate: Gate, database: Database) -> None:
    limits = AccountLimitStore(database)
    fail(gate, ACCOUNT.free + 1)
    assert gate.attempt("alice", HOME, right=True) != ADMITTED
    assert limits.clear("alice") == 1
    assert limits.state("alice", START).account == NO_FAILURES
    assert gate.attempt("alice", HOME, right=True) == ADMITTED
    assert limits.clear("alice") == 0


def test_known_devices_and_networks_are_counted_apart_and_forgotten(
    gate: Gate, database: Database, clock: MovableClock
) -> None:
    limits = AccountLimitStore(database)
    for cookie, address in (("a", HOME), ("b", HOME), ("", ATTACKER)):
        with gate.guard.log_in("alice", Origin(address=address, device=cookie), clock()):
            pass
    state = limits.state("alice", clock())
    assert (state.known_devices, state.known_networks) == (2, 2)
    later = limits.state("alice", clock() + DEVICE_MEMORY + timedelta(seconds=1))
    assert (later.known_devices, later.known_networks) == (0, 0)
    assert limits.state("bob", clock()).known_devices == 0


def test_the_limit_of_a_known_device_is_told_and_cleared(
    gate: Gate, database: Database, clock: MovableClock
) -> None:
    limits, origin = AccountLimitStore(database), Origin(address=HOME, device="a cookie")
    with gate.guard.log_in("alice", origin, clock()):
        pass
    for _ in range(ACCOUNT.free + 1):
        with suppress(LoginFailed), gate.guard.log_in("alice", origin, clock()):
            raise LoginFailed
    state = limits.state("alice", clock())
    assert state.device.failures == ACCOUNT.free + 1
    assert state.device.limited_until == clock() + ACCOUNT.first
    assert limits.clear("alice")
    assert limits.state("alice", clock()).device == NO_FAILURES


def test_everything_of_an_account_is_forgotten(gate: Gate, database: Database, clock: MovableClock) -> None:
    fail(gate, 2)
    with gate.guard.log_in("alice", Origin(address=HOME, device="a cookie"), clock()):
        pass
    with gate.guard.log_in("bob", Origin(address=HOME, device="a cookie"), clock()):
        pass
    limits = AccountLimitStore(database)
    assert limits.forget("alice") == 2
    assert limits.state("alice", clock()) == AccountLimits(NO_FAILURES, NO_FAILURES, 0, 0)
    assert limits.state("bob", clock()).known_devices == 1
    with database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(devices)) == 2
    with database.read() as connection:  # the limits of the address stay
        assert connection.scalar(select(func.count()).select_from(throttle)) == 1


def test_looking_writes_nothing(database: Database) -> None:
    assert AccountLimitStore(database).state("alice", START) == AccountLimits(NO_FAILURES, NO_FAILURES, 0, 0)
    assert not SecretStore(database).exists(SECRET)
