"""Sessions while clocks are wrong: two nodes at plus and minus half the allowed skew, and steps of an hour.

A state machine that combines all of it is in `test_session_histories`, answers with right clocks in `test_refresh`.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update
from support.defaults import ALICE, PASSWORD, REFRESH_GRACE, MovableClock
from support.postgresql import new_database
from support.two_nodes import HERE, HOUR, OWNER, SKEW, Node, Time, two_nodes

from issuer.digests import digest
from issuer.maintenance.pruning import prune
from issuer.settings.settings import Settings
from issuer.throttling.origin import Origin
from issuer.tokens.family_queries import SESSIONS_MOST
from issuer.tokens.refresh_rotation import refresh_tokens
from issuer.web.app import create_app
from issuer.wiring import build


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
def test_two_tabs_at_two_nodes_get_the_same_successor_for_thirty_seconds(
    nodes: list[Node], time: Time, first: int, second: int
) -> None:
    for seconds in (0, 29):
        token = nodes[first].log_in()
        successor = nodes[first].refresh(token)
        time.now += timedelta(seconds=seconds)
        assert nodes[second].refresh(token) == successor


@BOTH_WAYS
def test_a_replay_at_any_node_ends_the_session_after_thirty_seconds(
    nodes: list[Node], time: Time, first: int, second: int
) -> None:
    for span in (timedelta(seconds=31), timedelta(seconds=45), timedelta(minutes=3), HOUR):
        token = nodes[first].log_in()
        successor = nodes[first].refresh(token)
        time.now += span
        assert nodes[second].refuses(token)
        assert nodes[first].refuses(successor)


@pytest.mark.parametrize("step", [-HOUR, HOUR, -timedelta(seconds=25), timedelta(seconds=25)])
def test_a_replay_ends_the_session_even_if_the_clock_was_set_meanwhile(
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


def test_a_second_tab_works_even_if_the_clock_is_set_back_meanwhile(nodes: list[Node]) -> None:
    token = nodes[0].log_in()
    successor = nodes[0].refresh(token)
    nodes[0].off -= HOUR
    assert nodes[0].refresh(token) == successor
    nodes[0].off += HOUR
    assert nodes[0].refresh(successor) != successor


@pytest.mark.parametrize("age", [None, "of another machine"])
def test_without_a_database_clock_instants_are_compared_in_both_directions(
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


def test_a_session_started_with_a_slow_clock_is_not_the_oldest(nodes: list[Node]) -> None:
    for _ in range(SESSIONS_MOST):
        nodes[0].log_in()
    nodes[0].off -= HOUR
    token = nodes[0].log_in()
    assert nodes[0].refresh(token)
    assert len(nodes[0].families.active(OWNER.id, nodes[0].now)[0]) == SESSIONS_MOST


def test_a_session_rotates_again_soon_after_a_clock_was_ahead(nodes: list[Node], time: Time) -> None:
    node = nodes[0]
    node.off += HOUR
    token = node.log_in()
    for _ in range(20):
        token = node.refresh(token)
    node.off -= HOUR
    assert node.refresh(token) != token


def test_pruning_with_a_fast_clock_ends_no_session(nodes: list[Node], time: Time) -> None:
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


def test_on_postgresql_the_age_is_by_the_clock_of_the_server(postgresql: str, time: Time) -> None:
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


def test_two_issuers_with_different_clocks_agree_on_second_tabs(
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
