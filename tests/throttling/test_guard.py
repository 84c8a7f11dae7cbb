"""What limits count and what responses reveal: IPv6 networks, neighbours, many attempts at once, names.

Waits are in `test_limits`, and under which clocks in `test_clocks`.
"""

import asyncio
import itertools
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta

import httpx2
import pytest
from fastapi.testclient import TestClient
from hypothesis import given as given_any
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support.clocks import ADMITTED, Gate, ShiftedClock
from support.defaults import ALICE, PASSWORD, START, MovableClock, bearer
from support.guessing import From, guess, log_in, waits

from issuer.accounts.hashing_pool import QUEUE_LIMIT
from issuer.accounts.passwords import WrongPassword
from issuer.database.database import Database
from issuer.database.secrets import SecretStore
from issuer.digests import named
from issuer.oauth import TooManyAttempts
from issuer.services import Issuer
from issuer.throttling.limits import ACCOUNT, ADDRESS, LOG_IN, REGISTRATION, bucket, networks_of
from issuer.throttling.origin import Origin
from issuer.throttling.store import ThrottleStore
from issuer.web.app import create_app

# IPv6 networks


@pytest.fixture
def database(each_database: Database) -> Database:
    return each_database


def test_the_sites_of_an_ipv6_network_share_a_limit(database: Database, clock: MovableClock) -> None:
    gate, most = Gate.of(database, ShiftedClock(clock)), ADDRESS.of_network.free
    for number in range(most + 1):
        assert gate.attempt(f"user {number}", f"2001:db8:1:{number:x}::1", right=False) == ADMITTED
    assert gate.attempt("another", "2001:db8:1:ffff::1", right=False) == timedelta(seconds=1)
    assert gate.attempt("another", "2001:db8:2:1::1", right=False) == ADMITTED
    clock.advance(seconds=1)
    assert gate.attempt("another", "2001:db8:1:ffff::1", right=True) == ADMITTED


def test_accounts_made_from_an_ipv6_network_share_a_limit(database: Database, clock: MovableClock) -> None:
    guard, most = Gate.of(database, ShiftedClock(clock)).guard, REGISTRATION.of_network.free
    for number in range(most + 1):
        guard.register(Origin(address=f"2001:db8:1:{number:x}::1"), clock())
    with pytest.raises(TooManyAttempts):
        guard.register(Origin(address="2001:db8:1:ffff::1"), clock())
    guard.register(Origin(address="2001:db8:2:1::1"), clock())


@pytest.mark.parametrize(
    ("address", "networks"),
    [
        ("192.0.2.1", ("192.0.2.1",)),
        ("::ffff:192.0.2.1", ("192.0.2.1",)),
        ("2001:db8:1:2:3:4:5:6", ("2001:db8:1::/48", "2001:db8:1:2::")),
        ("2001:db8:1::1", ("2001:db8:1::/48", "2001:db8:1::")),
        ("", ("",)),
    ],
)
def test_an_address_counts_for_its_site_and_its_network(address: str, networks: tuple[str, ...]) -> None:
    assert networks_of(address) == networks


# What answers reveal


def sessions(web: TestClient, token: str) -> int:
    return len(web.get("/users/me/sessions", headers=bearer(token)).json()["sessions"])


def test_a_right_password_with_an_unknown_scope_starts_a_session(web: TestClient, alice: str) -> None:
    first = log_in(web).json()["access_token"]
    answer = web.post("/login", data={**ALICE, "scope": "nobody:has:this"})
    assert (answer.status_code, answer.json()["scope"]) == (200, "")
    assert sessions(web, first) == 2
    wrong = web.post("/login", data={**ALICE, "password": "wrong", "scope": "nobody:has:this"})
    assert wrong.status_code == 401


def test_a_refused_resource_does_not_reveal_whether_the_password_is_right(
    web: TestClient, alice: str, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[object] = []
    monkeypatch.setattr(issuer.accounts.passwords, "verify", lambda *given: hashed.append(given))
    form = {"grant_type": "password", "client_id": "first-party", "resource": "https://elsewhere.example"}
    answers = [
        web.post("/oauth2/token", data={**form, "username": "alice", "password": password})
        for password in (PASSWORD, "wrong")
    ]
    assert [answer.json()["error"] for answer in answers] == ["invalid_target"] * 2
    assert hashed == []


def test_a_node_that_cannot_sign_does_not_reveal_whether_the_password_is_right(
    issuer: Issuer, web: TestClient, alice: str, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[object] = []
    monkeypatch.setattr(issuer.keys.node, "refresh", lambda: issuer.keys.node.view)
    monkeypatch.setattr(issuer.accounts.passwords, "verify", lambda *given: hashed.append(given))
    clock.advance(hours=1)
    assert [log_in(web, password).status_code for password in (PASSWORD, "wrong")] == [503, 503]
    assert hashed == []


@given_any(
    st.lists(
        st.tuples(
            st.sampled_from(["shared", "second"]), st.sampled_from([1, 11]), st.sampled_from([0, 1, 60, 900])
        ),
        max_size=8,
    )
)
@hypothesis_settings(max_examples=30, deadline=None)
def test_a_neighbour_with_a_second_address_gets_the_same_responses_for_every_account(
    shared_by_examples: Database, numbers: Iterator[int], guesses: list[tuple[str, int, int]]
) -> None:
    answers = []
    for is_used in (True, False):
        clock, number = MovableClock(), next(numbers)
        gate = Gate.of(shared_by_examples, ShiftedClock(clock))
        account = f"account {number}"
        of = {
            place: f"10.{which}.{number >> 8 & 255}.{number & 255}"
            for which, place in enumerate(["shared", "second"])
        }
        if is_used:
            assert gate.attempt(account, of["shared"], right=True) == ADMITTED
        outcomes = []
        for place, times, pause in guesses:
            outcomes += [gate.attempt(account, of[place], right=False) for _ in range(times)]
            clock.advance(seconds=pause)
        answers.append(outcomes)
    assert answers[0] == answers[1]


@pytest.fixture(scope="module")
def shared_by_examples() -> Iterator[Database]:
    with tempfile.TemporaryDirectory() as folder:
        made = Database(f"sqlite:///{folder}/issuer.db")
        made.migrate()
        yield made
        made.close()


@pytest.fixture(scope="module")
def numbers() -> Iterator[int]:
    return itertools.count()


def test_failures_from_a_shared_address_cost_the_same_work_and_do_not_delay_the_owner(
    client_from: From,
    alice: str,
    issuer: Issuer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert log_in(client_from("198.51.100.1")).status_code == 200
    for username in ("alice", "nobody"):
        guess(client_from(f"203.0.113.{len(username)}"), ACCOUNT.free + 1, username)
    hashed: list[str] = []
    real = issuer.accounts.passwords.verify

    def verify(password: str, *against: str | None) -> str | None:
        hashed.append(password)
        return real(password, *against)

    monkeypatch.setattr(issuer.accounts.passwords, "verify", verify)
    for username in ("alice", "nobody"):
        assert waits(log_in(client_from("198.51.100.1"), "wrong", username)) == 1
    assert hashed == ["wrong", "wrong"]
    assert log_in(client_from("198.51.100.1")).status_code == 200


# Many at once


def test_guesses_in_progress_count_as_failed(
    database: Database,
    clock: MovableClock,
) -> None:
    gate, addresses = Gate.of(database, ShiftedClock(clock)), itertools.count()
    for _ in range(ACCOUNT.free // 2):
        assert gate.attempt("alice", f"192.0.2.{next(addresses)}", right=False) == ADMITTED
    with ExitStack() as under_way:
        for _ in range(ACCOUNT.free - ACCOUNT.free // 2 + 1):
            origin = Origin(address=f"192.0.2.{next(addresses)}")
            assert under_way.enter_context(gate.guard.log_in("alice", origin, clock()))
        for _ in range(3):
            assert gate.attempt("alice", f"192.0.2.{next(addresses)}", right=True) == timedelta(seconds=1)
    # All of them were right, and left no trace.
    assert [gate.attempt("alice", f"192.0.2.{next(addresses)}", right=False) for _ in range(6)] == [
        ADMITTED
    ] * 6


def test_log_ins_to_an_account_from_one_site_are_limited_in_rate(
    database: Database,
    clock: MovableClock,
) -> None:
    gate = Gate.of(database, ShiftedClock(clock))
    for _ in range(LOG_IN.burst):
        assert gate.attempt("alice", "192.0.2.1", right=True) == ADMITTED
    wait = gate.attempt("alice", "192.0.2.1", right=True)
    assert ADMITTED < wait <= timedelta(seconds=1)
    with pytest.raises(TooManyAttempts):  # before it takes a place in the queue
        gate.guard.check("alice", Origin(address="192.0.2.1"), clock())
    assert gate.attempt("alice", "192.0.2.2", right=True) == ADMITTED
    assert gate.attempt("bob", "192.0.2.1", right=True) == ADMITTED
    clock.advance(seconds=1)
    assert gate.attempt("alice", "192.0.2.1", right=True) == ADMITTED


CHEAP = {
    "an address that has to wait": ("/login", {"username": "another", "password": "wrong"}, 429),
    "a malformed scope": ("/login", {**ALICE, "scope": 'a"b'}, 400),
    "no password": ("/login", {"username": "alice"}, 400),
    "a client that may not": ("/oauth2/token", {"grant_type": "password", "client_id": "x", **ALICE}, 401),
    "a resource": (
        "/oauth2/token",
        {"grant_type": "password", "client_id": "first-party", "resource": "https://x.test", **ALICE},
        400,
    ),
    "a log-in that would be made": (
        "/oauth2/token",
        {"grant_type": "password", "client_id": "first-party", **ALICE},
        503,
    ),
}
CHEAP_JSON = {
    "a name that is taken": ({"username": "alice", "password": PASSWORD}, 409),
    "a name that nobody may have": ({"username": "a b", "password": PASSWORD}, 400),
    "a password that is too short": ({"username": "bob", "password": "short"}, 400),
    "an account that would be made": ({"username": "bob", "password": PASSWORD}, 503),
}


def test_requests_rejected_without_hashing_take_no_place_in_the_queue(
    issuer: Issuer,
    client_from: From,
    alice: str,
    web: TestClient,
) -> None:
    spray = client_from("203.0.113.1")
    for number in range(ADDRESS.free + 1):
        guess(spray, 1, f"user{number}")
    gate = threading.Event()

    async def full() -> dict[str, int]:
        most = QUEUE_LIMIT + issuer.accounts.hashing_pool._threads
        jobs = [
            asyncio.create_task(issuer.accounts.hashing_pool.run((f"address {n}",), gate.wait))
            for n in range(most)
        ]
        await asyncio.sleep(0)
        given = {}
        for name, (path, form, _) in CHEAP.items():
            client = spray if name == "an address that has to wait" else web
            given[name] = (await asyncio.to_thread(client.post, path, data=form)).status_code
        for name, (body, _) in CHEAP_JSON.items():
            given[name] = (await asyncio.to_thread(web.post, "/users", json=body)).status_code
        gate.set()
        await asyncio.gather(*jobs)
        return given

    expected = {name: status for name, (*_, status) in (CHEAP | CHEAP_JSON).items()}
    assert asyncio.run(full()) == expected


def test_many_log_ins_from_one_address_delay_no_other_address(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, app = threading.Event(), create_app(issuer)

    def hold(*_given: str | None) -> None:
        gate.wait(60)
        raise WrongPassword

    monkeypatch.setattr(issuer.accounts.passwords, "verify", hold)

    async def asked(address: str, username: str) -> int:
        transport = httpx2.ASGITransport(app, client=(address, 50000))
        async with httpx2.AsyncClient(transport=transport, base_url=issuer.settings.url) as web:
            return (await web.post("/login", data={"username": username, "password": "wrong"})).status_code

    async def storm() -> tuple[set[int], list[int]]:
        async with app.router.lifespan_context(app):
            stormy = [asyncio.create_task(asked("203.0.113.1", "alice")) for _ in range(80)]
            others = [asyncio.create_task(asked(f"198.51.100.{n}", f"user{n}")) for n in range(49)]
            # Each of the others that finds the queue full takes the place of one of the storm.
            refused = 80 + 49 - QUEUE_LIMIT - issuer.accounts.hashing_pool._threads
            turned_away = [await each for each in itertools.islice(asyncio.as_completed(stormy), refused)]
            gate.set()
            return set(turned_away), await asyncio.gather(*others)

    turned_away, answers = asyncio.run(storm())
    assert turned_away == {503}
    assert answers == [401] * 49


# Names


def test_names_are_stored_as_keyed_hashes(
    database: Database,
    clock: MovableClock,
) -> None:
    gate = Gate.of(database, ShiftedClock(clock))
    gate.attempt("a password typed as a name", "192.0.2.1", right=False)
    gate.attempt("alice", "192.0.2.1", right=True)
    plain = {named("account", "a password typed as a name"), named("subnet", "alice", "192.0.2.1")}
    with database.read() as connection:
        counted = set(connection.exec_driver_sql("SELECT bucket FROM throttle").scalars())
    with database.read() as connection:
        known = set(connection.exec_driver_sql("SELECT device FROM devices").scalars())
    assert (len(counted), len(known)) == (2, 1)
    assert not (counted | known) & plain


def test_all_nodes_of_an_installation_share_one_secret(database: Database) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = set(pool.map(lambda _: SecretStore(database).secret("limits"), range(8)))
    assert len(made) == 1
    assert SecretStore(database).secret("another") not in made
    assert ThrottleStore(database).counts([]) == {}
    store, each = ThrottleStore(database), bucket(ACCOUNT, "a")
    store.fail([each], START)
    assert ThrottleStore(database).counts([each])[each].failures == 1
