"""Sessions while clocks are wrong: two nodes at plus and minus half the allowed skew, and an hour back and forth.

A state machine plays owner, second tab, thief and crashes against two nodes on one database. What each answer is
without all that is tested in `test_refresh_tokens`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pytest
from fastapi.testclient import TestClient
from hypothesis import settings as tried
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import func, select, update
from support.defaults import ALICE, PASSWORD, START, MovableClock
from support.postgresql import new_database

from issuer.accounts.login import PasswordLogin
from issuer.accounts.passwords import Passwords
from issuer.accounts.store import AccountStore
from issuer.accounts.user import User
from issuer.clients.authentication import ClientAuthentication
from issuer.clients.key_sets import ClientKeys
from issuer.clients.store import ClientStore
from issuer.database.database import Database
from issuer.digests import digest
from issuer.grants.context import GrantContext
from issuer.grants.pipeline import Pipeline
from issuer.maintenance.pruning import prune
from issuer.oauth import InvalidGrant, OAuthRequest
from issuer.settings.settings import Settings
from issuer.throttling.guard import Guard
from issuer.throttling.origin import Origin
from issuer.throttling.store import ThrottleStore
from issuer.tokens.authorization import Authorization
from issuer.tokens.event_store import SessionEventStore
from issuer.tokens.families import Sessions
from issuer.tokens.family_store import SESSIONS_MOST, FamilyStore
from issuer.tokens.refresh import REFRESH_GRACE, NewFamily
from issuer.tokens.refresh_rotation import refresh_tokens
from issuer.web.app import create_app
from issuer.wiring import build

SKEW = timedelta(seconds=30)
HOUR = timedelta(hours=1)
LIFETIME = timedelta(days=30)
HERE, THERE = "203.0.113.7", "198.51.100.7"
OWNER = User("owner", "owner", "a hash", frozenset({"a"}), START)


class Time:
    """The true time; clocks of nodes differ from it."""

    def __init__(self) -> None:
        self.now = START


class Signs:
    """A key ring that always has a key; what is signed is none of a session's business."""

    def signing_key(self, now: datetime) -> datetime:
        return now


class Node:
    """One node: its clock differs by `off` from the true time, that of the database does not."""

    def __init__(self, database: Database, time: Time, off: timedelta) -> None:
        self.time, self.off = time, off
        database.shared_clock = lambda: int(time.now.timestamp() * 1_000_000)
        self.database, self.families = database, FamilyStore(database)
        guard, clients = Guard(ThrottleStore(database)), ClientStore(database)
        self.sessions = Sessions(self.families, SessionEventStore(database), LIFETIME, SKEW)
        self._pipeline = Pipeline(
            context=GrantContext(
                login=PasswordLogin(AccountStore(database), Passwords(), guard),
                families=self.families,
                signing_key=cast("Any", Signs()).signing_key,
                user_audience=("x",),
                client_audience=("x",),
                clock_skew=SKEW,
            ),
            authentication=ClientAuthentication(clients, ClientKeys(), guard, ("x",), SKEW),
            guard=guard,
            sessions=self.sessions,
            access_tokens=cast("Any", Signs()),
            password_login=True,
        )

    @property
    def now(self) -> datetime:
        return self.time.now + self.off

    def log_in(self) -> str:
        authorization = Authorization(OWNER.id, "first-party", OWNER.scope, ("x",))
        new = NewFamily()
        return self.sessions.start(new, authorization, Origin("", HERE), self.now)[0]

    def refresh(self, token: str, address: str = HERE) -> str:
        form = {"grant_type": "refresh_token", "client_id": "first-party", "refresh_token": token}
        granted = self._pipeline.grant(OAuthRequest(form), Origin("", address), self.now)
        assert granted.refresh_token
        return granted.refresh_token

    def refuses(self, token: str, address: str = HERE) -> bool:
        try:
            self.refresh(token, address)
        except InvalidGrant:
            return True
        return False


def two_nodes(url: str, time: Time) -> list[Node]:
    """Return two nodes on one database, as far apart as their clocks may be."""
    databases = [Database(url), Database(url)]
    databases[0].migrate()
    AccountStore(databases[0]).add(OWNER)
    return [Node(database, time, off) for database, off in zip(databases, (SKEW / 2, -SKEW / 2), strict=True)]


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def nodes(tmp_path: Path, time: Time) -> Iterator[list[Node]]:
    made = two_nodes(f"sqlite:///{tmp_path}/issuer.db", time)
    yield made
    for node in made:
        node.database.close()


BOTH_WAYS = pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 0), (0, 0), (1, 1)])


@BOTH_WAYS
def test_two_tabs_at_two_nodes_get_one_successor_for_thirty_seconds(
    nodes: list[Node], time: Time, first: int, second: int
) -> None:
    for seconds in (0, 29):
        token = nodes[first].log_in()
        successor = nodes[first].refresh(token)
        time.now += timedelta(seconds=seconds)
        assert nodes[second].refresh(token) == successor


@BOTH_WAYS
def test_a_replay_at_any_node_ends_the_session_from_the_thirty_first_second_on(
    nodes: list[Node], time: Time, first: int, second: int
) -> None:
    for span in (timedelta(seconds=31), timedelta(seconds=45), timedelta(minutes=3), HOUR):
        token = nodes[first].log_in()
        successor = nodes[first].refresh(token)
        time.now += span
        assert nodes[second].refuses(token)
        assert nodes[first].refuses(successor)


@pytest.mark.parametrize("step", [-HOUR, HOUR, -timedelta(seconds=25), timedelta(seconds=25)])
def test_a_replay_ends_the_session_though_the_clock_was_set_meanwhile(
    nodes: list[Node], time: Time, step: timedelta
) -> None:
    node = nodes[0]
    token = node.log_in()
    successor = node.refresh(token)
    node.off += step
    time.now += REFRESH_GRACE + timedelta(seconds=1)
    assert node.refuses(token)
    node.off -= step
    assert node.refuses(successor)


def test_a_second_tab_works_though_the_clock_is_set_back_meanwhile(nodes: list[Node]) -> None:
    token = nodes[0].log_in()
    successor = nodes[0].refresh(token)
    nodes[0].off -= HOUR
    assert nodes[0].refresh(token) == successor
    nodes[0].off += HOUR
    assert nodes[0].refresh(successor) != successor


@pytest.mark.parametrize("age", [None, "of another machine"])
def test_without_a_comparable_clock_of_the_database_instants_are_compared_on_both_sides(
    nodes: list[Node], time: Time, age: str | None
) -> None:
    """As after a move to another database, or a restart of the machine."""
    tick = None if age is None else 2**60
    for ahead, is_repeated in ((HOUR, False), (SKEW, True), (timedelta(0), True), (-HOUR, False)):
        token = nodes[0].log_in()
        successor = nodes[0].refresh(token)
        with nodes[0].database.write() as connection:
            connection.execute(update(refresh_tokens).values(issued_tick=tick))
            used = update(refresh_tokens).where(refresh_tokens.c.used_at.is_not(None))
            connection.execute(used.values(used_at=nodes[0].now + ahead))
        assert nodes[0].refuses(token) is not is_repeated
        assert nodes[0].refuses(successor) is not is_repeated


def test_a_session_that_begins_while_the_clock_is_an_hour_behind_is_not_the_oldest(nodes: list[Node]) -> None:
    for _ in range(SESSIONS_MOST):
        nodes[0].log_in()
    nodes[0].off -= HOUR
    token = nodes[0].log_in()
    assert nodes[0].refresh(token)
    assert len(nodes[0].families.active(OWNER.id, nodes[0].now)[0]) == SESSIONS_MOST


def test_a_session_rotates_again_soon_after_a_clock_was_an_hour_ahead(nodes: list[Node], time: Time) -> None:
    node = nodes[0]
    node.off += HOUR
    token = node.log_in()
    for _ in range(20):
        token = node.refresh(token)
    node.off -= HOUR
    assert node.refresh(token) != token


def test_pruning_by_a_clock_that_is_an_hour_ahead_ends_no_session(nodes: list[Node], time: Time) -> None:
    token = nodes[1].log_in()
    used = [token]
    for _ in range(3):
        time.now += timedelta(minutes=10)
        token = nodes[1].refresh(token)
        used.append(token)
    nodes[0].off += HOUR
    prune(nodes[0].database, nodes[0].now)
    newest = nodes[1].refresh(token)
    assert nodes[1].refresh(token) == newest
    assert nodes[1].refuses(used[0])
    assert nodes[1].refuses(newest)


def test_on_postgresql_the_clock_of_the_server_tells_the_age(postgresql: str, time: Time) -> None:
    time.now = datetime.now(UTC)
    nodes = two_nodes(new_database(postgresql), time)
    for node in nodes:
        node.database.shared_clock = lambda: None
    for node, other in (nodes, nodes[::-1]):
        token = node.log_in()
        successor = node.refresh(token)
        assert other.refresh(token) == successor
        late = other.log_in()
        newest = node.refresh(late)
        with node.database.write() as connection:  # as if it had been issued 31 seconds ago
            earlier = refresh_tokens.c.issued_tick - 31_000_000
            issued = update(refresh_tokens).where(refresh_tokens.c.digest == digest(newest))
            assert connection.execute(issued.values(issued_tick=earlier)).rowcount == 1
        assert other.refuses(late)
        assert node.refuses(newest)
        token, successor = successor, node.refresh(successor)
        assert token != successor
    for _ in range(3):
        time.now += timedelta(minutes=10)
        successor = nodes[0].refresh(successor)
    with nodes[0].database.read() as connection:
        family = select(refresh_tokens.c.family_id).where(refresh_tokens.c.digest == digest(successor))
        kept = select(func.count()).where(refresh_tokens.c.family_id == family.scalar_subquery())
        assert connection.scalar(kept) == 2
    for node in nodes:
        node.database.close()


def test_two_whole_issuers_whose_clocks_are_apart_agree_on_what_is_a_second_tab(
    settings: Settings, clock: MovableClock
) -> None:
    apart = timedelta(seconds=12.5)
    issuers = [build(settings, lambda off=off: clock() + off) for off in (apart, -apart)]  # type: ignore[misc]
    for issuer in issuers:
        issuer.keys.node.refresh()
    issuers[0].accounts.registration.register("alice", PASSWORD, Origin("", HERE), clock())
    webs = [TestClient(create_app(issuer)) for issuer in issuers]

    def refresh(web: TestClient, token: str) -> tuple[int, str]:
        form = {"grant_type": "refresh_token", "client_id": "first-party", "refresh_token": token}
        answer = web.post("/oauth2/token", data=form)
        return answer.status_code, answer.json().get("refresh_token", "")

    for one, other in (webs, webs[::-1]):
        for seconds, status in ((0, 200), (29, 200), (31.5, 400)):
            token = one.post("/login", data=ALICE).json()["refresh_token"]
            _, successor = refresh(one, token)
            clock.advance(seconds=seconds)
            for issuer in issuers:
                issuer.keys.node.refresh()
            assert refresh(other, token)[0] == status
            assert refresh(one, successor)[0] == status
    for issuer in issuers:
        issuer.close()


# Owner, second tab, thief and crashes


@dataclass(frozen=True)
class Used:
    """A used token: its successor, when and where it was used, and whether it was answered again."""

    token: str
    successor: str
    at: datetime
    site: str
    repeated: bool = False


NODES = st.sampled_from([0, 1])
SITES = st.sampled_from([HERE, HERE, HERE, THERE])


class OneSession(RuleBasedStateMachine):
    """One session at two nodes; the clocks are within the skew, or have been set by an hour for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.time = Time()
        self.nodes = two_nodes(f"sqlite:///{self.folder.name}/issuer.db", self.time)
        self.is_set = False
        """Whether a clock was ever set: then a second tab may be logged out, and a replay must be all the same."""

    @initialize(node=NODES)
    def log_in(self, node: int) -> None:
        self.newest = self.nodes[node].log_in()
        self.used: list[Used] = []
        self.is_living = True

    @rule(node=NODES, address=SITES, lost=st.booleans())
    def refresh(self, node: int, address: str, *, lost: bool) -> None:
        """Owner or thief uses the newest token; the process may crash after the commit."""
        if not self.is_living:
            assert self.nodes[node].refuses(self.newest, address)
            return
        given = self.nodes[node].refresh(self.newest, address)
        if given == self.newest:
            return
        used = Used(self.newest, given, self.time.now, address)
        self.used.append(used)
        self.newest = given
        if lost and not self.is_set:  # whoever was not told asks again
            assert self.nodes[1 - node].refresh(used.token, address) == given
            self.used[-1] = replace(used, repeated=True)

    @precondition(lambda self: self.used)
    @rule(data=st.data(), node=NODES, address=SITES)
    def present_a_used_token(self, data: Any, node: int, address: str) -> None:
        back = data.draw(st.integers(1, min(len(self.used), 12)))
        used = self.used[-back]
        is_late = self.time.now - used.at > REFRESH_GRACE
        ends = is_late or used.site != address
        try:
            given = self.nodes[node].refresh(used.token, address)
        except InvalidGrant:
            if self.is_living and not ends:
                assert used.repeated or self.is_set
            if ends or (self.is_set and not used.repeated):
                self.is_living = False
        else:
            assert self.is_living
            assert not ends
            assert not used.repeated
            assert given == used.successor
            self.used[-back] = replace(used, repeated=True)

    @rule(seconds=st.sampled_from([1, 4, 10, 29, 31, 60, 600, 3600]))
    def wait(self, seconds: int) -> None:
        self.time.now += timedelta(seconds=seconds)

    @rule(node=NODES, step=st.sampled_from([-HOUR, HOUR]))
    def set_a_clock(self, node: int, step: timedelta) -> None:
        self.nodes[node].off += step
        self.is_set = True

    @rule(node=NODES)
    def prune(self, node: int) -> None:
        prune(self.nodes[node].database, self.nodes[node].now)

    @precondition(lambda self: self.is_living)
    @rule(node=NODES)
    def log_out(self, node: int) -> None:
        self.nodes[node].families.end_all(self.nodes[node].now, OWNER.id)
        self.is_living = False

    @precondition(lambda self: not self.is_living)
    @rule(node=NODES)
    def log_in_again(self, node: int) -> None:
        self.log_in(node)

    @invariant()
    def few_rows_are_kept(self) -> None:
        if not self.is_set and self.is_living:
            with self.nodes[0].database.read() as connection:
                kept = select(func.count()).select_from(refresh_tokens)
                session = select(refresh_tokens.c.family_id).order_by(refresh_tokens.c.expires_at.desc())
                kept = kept.where(refresh_tokens.c.family_id.in_(session.limit(1)))
                assert (connection.scalar(kept) or 0) <= 40

    def teardown(self) -> None:
        for node in self.nodes:
            node.database.close()
        self.folder.cleanup()


TestOneSession = OneSession.TestCase
TestOneSession.settings = tried(max_examples=30, stateful_step_count=40, deadline=None)
