"""Clocks within the skew: what compares instants holds where nodes' clocks differ, and where one is put right.

Limits, assertions and rows that are removed are here; whole nodes in `test_clocks_of_nodes`, key sets of clients in
`test_fetched_key_sets`, refresh tokens in `test_families`, the key ring in `test_promises_over_time`.
"""

import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from support.clocks import ADMITTED, PATTERNS, SKEW, STEP, Gate, ShiftedClock
from support.defaults import START, MovableClock

from issuer.clients.assertion import Assertion
from issuer.clients.key_sets import ClientKey
from issuer.clients.store import ClientStore, assertions
from issuer.database.database import Database
from issuer.maintenance import pruning
from issuer.maintenance.pruning import prune
from issuer.oauth import InvalidClient
from issuer.throttling.allowances import Allowances
from issuer.throttling.limits import ACCOUNT, ADDRESS, DEVICE_MEMORY, Bucket, Rate, bucket
from issuer.throttling.store import ThrottleStore

LONGEST = ACCOUNT.longest
OWNER = "198.51.100.7"
patterns = pytest.mark.parametrize("shifts", PATTERNS.values(), ids=PATTERNS.keys())
patterns_kept = pytest.mark.parametrize(
    ("url", "shifts"),
    [*(("sqlite", name) for name in PATTERNS), ("postgresql", "half the skew ahead and behind")],
    indirect=True,
)
"""Instants are compared in the same way whatever keeps them: all patterns on one database, the widest on both."""


@pytest.fixture
def database(each_database: Database) -> Database:
    return each_database


@dataclass
class Gates:
    """The guards of two nodes on one database, and addresses that were never used before."""

    truth: MovableClock
    nodes: tuple[Gate, Gate]
    addresses: Iterator[str]

    def fail(self, node: int, times: int = 1, account: str = "alice") -> list[timedelta]:
        return [self.nodes[node].attempt(account, next(self.addresses), right=False) for _ in range(times)]

    def log_in(self, node: int, account: str = "alice") -> timedelta:
        return self.nodes[node].attempt(account, next(self.addresses), right=True)

    def step(self, node: int, span: timedelta) -> None:
        self.nodes[node].clock.shift += span


def never_used() -> Iterator[str]:
    return (f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}" for number in itertools.count())


def gates(database: Database, shifts: tuple[timedelta, timedelta]) -> Gates:
    truth = MovableClock()
    one, other = (Gate.of(database, ShiftedClock(truth, shift)) for shift in shifts)
    return Gates(truth, (one, other), never_used())


@pytest.fixture
def shifts(request: pytest.FixtureRequest) -> tuple[timedelta, timedelta]:
    return PATTERNS[request.param]


@pytest.fixture
def two(database: Database, shifts: tuple[timedelta, timedelta]) -> Gates:
    return gates(database, shifts)


@pytest.fixture
def alike(database: Database) -> Gates:
    return gates(database, (ADMITTED, ADMITTED))


# Limits


@patterns_kept
def test_ten_failures_cause_no_wait_whichever_node_counts_them(two: Gates) -> None:
    for number in range(ACCOUNT.free):
        assert two.fail(number % 2) == [ADMITTED]
        assert [two.log_in(0), two.log_in(1)] == [ADMITTED, ADMITTED]


@patterns_kept
@pytest.mark.parametrize("last", [0, 1])
def test_an_attempt_after_the_wait_in_the_response_is_admitted(two: Gates, last: int) -> None:
    two.fail(last, ACCOUNT.free)
    for _ in range(13):
        for node in (0, 1):
            wait = two.log_in(node)
            assert wait <= LONGEST
            two.truth.advance(seconds=wait.total_seconds())
            assert two.log_in(node) == ADMITTED
        two.truth.advance(seconds=(2 * SKEW).total_seconds())
        assert two.fail(last)[0] <= LONGEST


@patterns_kept
def test_an_address_that_failed_at_one_node_is_not_delayed_early_at_the_other(two: Gates) -> None:
    for number in range(ADDRESS.free):
        assert two.nodes[number % 2].attempt(f"user {number}", OWNER, right=False) == ADMITTED
    assert two.nodes[0].attempt("alice", OWNER, right=True) == ADMITTED
    assert two.nodes[1].attempt("alice", OWNER, right=True) == ADMITTED


@patterns_kept
def test_alternating_between_nodes_gains_a_handful_of_guesses_in_an_hour(two: Gates) -> None:
    guesses = 0
    for _ in range(360):
        for node in (0, 1):
            guesses += two.fail(node) == [ADMITTED]
        two.truth.advance(seconds=10)
    # With one clock: 10 free ones, and one at the end of each wait of 0, 1, 2 ... 512, and 900 seconds.
    alone = ACCOUNT.free + 1 + 10 + 3
    assert guesses <= alone + 8


@pytest.mark.parametrize("failures", [1, ACCOUNT.free + 1, ACCOUNT.free + 8])
def test_a_clock_that_is_set_back_an_hour_and_corrected_prolongs_no_wait(alike: Gates, failures: int) -> None:
    for _ in range(failures):
        assert alike.fail(0) == [ADMITTED]
        alike.truth.advance(seconds=ACCOUNT.wait(failures).total_seconds())
    for span in (-STEP, STEP, -STEP):
        alike.step(0, span)
        alike.step(1, span)
        wait = alike.log_in(0)
        assert wait <= ACCOUNT.wait(failures)
        alike.truth.advance(seconds=wait.total_seconds())
        assert [alike.log_in(0), alike.log_in(1)] == [ADMITTED, ADMITTED]


def test_guesses_are_counted_after_a_clock_was_set_back(alike: Gates) -> None:
    alike.fail(0, ACCOUNT.free)
    alike.step(0, -STEP)
    assert alike.fail(0) == [ADMITTED]
    assert alike.fail(0, 5) == [timedelta(seconds=1)] * 5


def test_failures_recorded_by_a_clock_of_another_year_are_forgotten(database: Database) -> None:
    two = gates(database, (ADMITTED, timedelta(days=3650)))
    two.fail(1, ACCOUNT.free + 3, "touched")
    two.fail(1, ACCOUNT.free + 3, "untouched")
    assert two.nodes[1].attempt("touched", OWNER, right=True) <= LONGEST
    wait = two.log_in(0, "touched")
    assert wait <= LONGEST
    two.truth.advance(seconds=wait.total_seconds())
    assert two.log_in(0, "touched") == ADMITTED
    while prune(database, two.nodes[0].clock()):
        pass
    assert two.fail(0, ACCOUNT.free, "untouched") == [ADMITTED] * ACCOUNT.free


class LimitsOverTime(RuleBasedStateMachine):
    """Two nodes whose clocks differ and step by an hour; owners and strangers at either of them."""

    database: Database
    numbers = itertools.count()

    @initialize(shifts=st.sampled_from(list(PATTERNS.values())))
    def found(self, shifts: tuple[timedelta, timedelta]) -> None:
        self.gates = gates(self.database, shifts)
        self.account = f"account {next(self.numbers)}"
        self.failures = 0

    def _checked(self, wait: timedelta) -> timedelta:
        assert wait <= LONGEST
        assert self.failures > ACCOUNT.free or wait == ADMITTED
        return wait

    @rule(node=st.integers(0, 1), times=st.sampled_from([1, 1, 3, 12]))
    def fail(self, node: int, times: int) -> None:
        for _ in range(times):
            if self._checked(self.gates.fail(node, 1, self.account)[0]) == ADMITTED:
                self.failures += 1

    @rule(node=st.integers(0, 1))
    def log_in_and_wait_as_required(self, node: int) -> None:
        wait = self._checked(self.gates.log_in(node, self.account))
        self.gates.truth.advance(seconds=wait.total_seconds())
        assert self.gates.log_in(node, self.account) == ADMITTED

    @rule(seconds=st.sampled_from([1, 15, 31, 300, 900, 3600, 90_000]))
    def advance(self, seconds: int) -> None:
        self.gates.truth.advance(seconds=seconds)

    @rule(node=st.integers(0, 1), span=st.sampled_from([-STEP, STEP]))
    def set_a_clock(self, node: int, span: timedelta) -> None:
        self.gates.step(node, span)

    @rule(node=st.integers(0, 1))
    def prune(self, node: int) -> None:
        prune(self.database, self.gates.nodes[node].clock())


def test_limits_hold_over_time_under_any_change_of_clocks() -> None:
    with tempfile.TemporaryDirectory() as folder:
        LimitsOverTime.database = Database(f"sqlite:///{folder}/issuer.db")
        LimitsOverTime.database.migrate()
        LimitsOverTime.TestCase.settings = hypothesis_settings(
            max_examples=30, stateful_step_count=20, deadline=None
        )
        LimitsOverTime.TestCase().runTest()
        LimitsOverTime.database.close()


def test_a_clock_set_back_reduces_no_allowance() -> None:
    rate, now = Rate(burst=3, per_second=1), START
    log_ins = Allowances(rate)
    assert [log_ins.take(b"alice", now) for _ in range(4)] == [*[ADMITTED] * 3, timedelta(seconds=1)]
    now -= STEP
    assert log_ins.wait(b"alice", now) == timedelta(seconds=1)
    assert log_ins.take(b"alice", now + timedelta(seconds=1)) == ADMITTED
    assert log_ins.wait(b"bob", now) == ADMITTED


# Rows that are removed


@patterns_kept
def test_a_node_that_is_ahead_removes_no_count_that_another_still_remembers(
    two: Gates,
    database: Database,
) -> None:
    two.fail(0, ACCOUNT.free + 8)
    store, alice = ThrottleStore(database), bucket(ACCOUNT, "account", "alice")
    before = store.counts([alice])[alice]
    two.truth.advance(seconds=ACCOUNT.forgotten_after.total_seconds() - (SKEW / 2).total_seconds())
    for each in two.nodes:
        prune(database, each.clock())
        prune(database, each.clock() + STEP)
    assert store.counts([alice]) == {alice: before}


def test_a_known_device_is_known_to_all_nodes_and_after_a_clock_was_corrected(
    database: Database,
) -> None:
    two = gates(database, (SKEW / 2, -SKEW / 2))
    assert two.nodes[0].attempt("alice", OWNER, right=True) == ADMITTED
    two.fail(1, ACCOUNT.free + 3)
    assert two.nodes[1].attempt("alice", OWNER, right=True) == ADMITTED
    two.step(1, -STEP)
    assert two.nodes[1].attempt("alice", OWNER, right=True) == ADMITTED
    for each in two.nodes:
        prune(database, each.clock())
    assert two.nodes[0].attempt("alice", OWNER, right=True) == ADMITTED


def test_a_device_seen_by_a_clock_of_another_year_is_not_known_for_years(database: Database) -> None:
    store = ThrottleStore(database)
    store.remember({b"device": START + timedelta(days=3650)}, b"account")
    assert store.known([b"device"], START) == {}
    prune(database, START)
    assert store.known([b"device"], START + timedelta(days=3650)) == {}
    store.remember({b"device": START + STEP}, b"account")
    assert store.known([b"device"], START)
    assert not store.known([b"device"], START + DEVICE_MEMORY + 2 * STEP)


def test_nodes_share_a_count_under_any_clocks(database: Database) -> None:
    one, other = ThrottleStore(database), ThrottleStore(database)
    each = Bucket(b"any", ACCOUNT)
    one.fail([each], START)
    other.fail([each], START - SKEW)
    assert one.counts([each])[each].failures == other.counts([each])[each].failures == 2


# Assertions


def prune_assertions(database: Database, now: datetime) -> None:
    """Delete the assertions that `prune` deletes: all other tables are empty, and asking each is most of its time."""
    for table, condition in pruning._without_effect(now):
        while table is assertions and pruning._delete(database, table, condition):
            pass


@patterns_kept
@pytest.mark.parametrize("step", [ADMITTED, STEP, -STEP])
@pytest.mark.parametrize("life", [timedelta(seconds=60), timedelta(hours=1)])
def test_an_assertion_is_accepted_once_by_all_nodes_through_steps_of_their_clocks(
    database: Database,
    shifts: tuple[timedelta, timedelta],
    step: timedelta,
    life: timedelta,
) -> None:
    truth, key = MovableClock(), ec.generate_private_key(ec.SECP256R1())
    nodes = [ShiftedClock(truth, shift) for shift in shifts]
    iat, exp = int(truth().timestamp()), int((truth() + life).timestamp())
    claims = {"iss": "it", "sub": "it", "aud": "x", "iat": iat, "exp": exp, "jti": "only once"}
    assertion = Assertion.read(jwt.encode(claims, key, "ES256"))
    keys, store, served = [ClientKey(key.public_key(), None, None)], ClientStore(database), 0
    for number in range(40):
        for clock in nodes:
            try:
                jti, remembered = assertion.verify(keys, ["x"], SKEW, clock())
                served += store.use_assertion("it", jti, remembered)
            except InvalidClient:
                assert number, "it is good for every node at first"
            prune_assertions(database, clock())
        truth.advance(seconds=life.total_seconds() / 20)
        if number in {10, 30}:
            for clock in nodes:
                clock.shift += step if number == 10 else -step
    assert served == 1
