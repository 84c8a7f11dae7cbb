"""Limits on guessing: waits grow for unknown devices and not for known ones, and reveal no account."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.testclient import TestClient
from support.defaults import ALICE, PASSWORD, Build, MovableClock, bearer
from support.guessing import From, guess, log_in, waits

from issuer.database.database import Database
from issuer.maintenance.pruning import prune
from issuer.services import Issuer
from issuer.settings.settings import Settings
from issuer.throttling.limits import ACCOUNT, ADDRESS, REGISTRATION, SECRET, Bucket, bucket, subnet
from issuer.throttling.store import ThrottleStore
from issuer.web.app import create_app


@pytest.mark.parametrize("username", ["alice", "nobody"])
def test_each_guess_beyond_the_free_ones_doubles_the_wait_for_any_name(
    client_from: From, alice: str, issuer: Issuer, clock: MovableClock, username: str
) -> None:
    strangers = [client_from(f"203.0.113.{number}") for number in range(200)]
    assert guess(strangers.pop(), ACCOUNT.free, username) == [401] * ACCOUNT.free
    assert guess(strangers.pop(), 1, username) == [401]  # and from now on it takes time
    seconds = []
    for _ in range(12):
        seconds.append(waits(log_in(strangers.pop(), "wrong", username)))
        clock.advance(seconds=seconds[-1] - 1)
        issuer.keys.node.refresh()
        assert waits(log_in(strangers.pop(), PASSWORD, username)) == 1  # the right one does not count yet
        clock.advance(seconds=1)
        issuer.keys.node.refresh()  # one that cannot sign looks at no password
        assert guess(strangers.pop(), 1, username) == [401]
    assert seconds == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]


def test_a_known_device_is_not_delayed_by_guesses_of_others(
    client_from: From, alice: str, clock: MovableClock
) -> None:
    owner = client_from("198.51.100.1")
    assert log_in(owner).status_code == 200
    guess(client_from("203.0.113.1"), ACCOUNT.free + 1)
    assert waits(log_in(client_from("203.0.113.2"))) == 1
    moved = client_from("198.51.100.99")
    moved.cookies.update(owner.cookies)
    assert log_in(moved).status_code == 200
    assert (
        log_in(client_from("198.51.100.1")).status_code == 200
    )  # an app without cookies, at the same address
    assert guess(moved, ACCOUNT.free + 2) == [401] * (ACCOUNT.free + 1) + [429]


def test_a_device_is_known_from_its_first_log_in_even_during_an_attack_from_its_address(
    client_from: From, alice: str
) -> None:
    assert log_in(client_from("198.51.100.1")).status_code == 200  # so that the address is known
    owner, neighbour = client_from("198.51.100.1"), client_from("198.51.100.1")
    assert log_in(owner).status_code == 200
    assert guess(neighbour, ACCOUNT.free + 2)[-1] == 429
    assert log_in(owner).status_code == 200


def test_log_ins_without_cookies_are_remembered_by_address_for_a_week(
    client_from: From, alice: str, issuer: Issuer, clock: MovableClock
) -> None:
    known = client_from("198.51.100.1")
    assert [log_in(each).status_code for each in (known, known, *map(client_from, ["198.51.100.1"] * 3))] == [
        200
    ] * 5
    clock.advance(days=8)
    prune(issuer.database, clock())
    with issuer.database.read() as connection:  # the address where the account was made, and the known device
        assert connection.exec_driver_sql("SELECT count(*) FROM devices").scalar() == 3


def test_a_device_cookie_of_one_account_gives_no_allowance_for_another(client_from: From, alice: str) -> None:
    thief = client_from("203.0.113.1")
    thief.post("/users", json={**ALICE, "username": "mallory"})
    assert log_in(thief, username="mallory").status_code == 200
    assert guess(thief, ACCOUNT.free + 2) == [401] * (ACCOUNT.free + 1) + [429]
    assert guess(client_from("203.0.113.2"), 1) == [429]


def test_an_address_that_guesses_at_many_accounts_is_delayed_and_others_are_not(
    client_from: From, alice: str
) -> None:
    spray = client_from("2001:db8:1:2::1")
    for number in range(ADDRESS.free + 1):
        assert log_in(spray, "wrong", f"user{number}").status_code == 401
    assert waits(log_in(client_from("2001:db8:1:2:ffff::7"), "wrong", "another")) == 1
    assert log_in(client_from("2001:db8:1:3::1")).status_code == 200


def test_failures_expire(client_from: From, alice: str, issuer: Issuer, clock: MovableClock) -> None:
    stranger = client_from("203.0.113.1")
    guess(stranger, ACCOUNT.free + 1)
    clock.advance(seconds=(ACCOUNT.forgotten_after).total_seconds() + 1)
    issuer.keys.node.refresh()
    assert guess(stranger, ACCOUNT.free) == [401] * ACCOUNT.free


def test_a_right_password_releases_its_own_reservation(
    client_from: From, alice: str, clock: MovableClock
) -> None:
    guess(client_from("203.0.113.1"), ACCOUNT.free + 1)
    clock.advance(seconds=1)
    assert log_in(client_from("198.51.100.1")).status_code == 200
    clock.advance(seconds=1)
    assert guess(client_from("203.0.113.1"), 1) == [401]
    assert waits(log_in(client_from("203.0.113.1"), "wrong")) == 2


def test_right_passwords_neither_extend_nor_restart_a_wait(
    client_from: From, alice: str, issuer: Issuer, clock: MovableClock
) -> None:
    neighbour = client_from("198.51.100.1")
    for number in range(ADDRESS.free + 8):
        guess(neighbour, 1, f"user{number}")
        clock.advance(seconds=ADDRESS.wait(number + 1).total_seconds())
    issuer.keys.node.refresh()
    assert [log_in(client_from("198.51.100.1")).status_code for _ in range(3)] == [200, 200, 200]


def test_a_request_without_a_password_delays_no_other(
    client_from: From, alice: str, clock: MovableClock
) -> None:
    stranger = client_from("203.0.113.1")
    guess(stranger, ACCOUNT.free + 1)
    clock.advance(seconds=1)
    form = {"grant_type": "password", "client_id": "first-party", "username": "alice"}
    assert stranger.post("/oauth2/token", data=form).status_code == 400
    assert log_in(client_from("198.51.100.1")).status_code == 200


def test_users_of_a_shared_address_do_not_learn_of_log_ins_from_there(client_from: From, alice: str) -> None:
    assert log_in(client_from("198.51.100.1")).status_code == 200
    neighbour = client_from("198.51.100.1")
    for number in range(ADDRESS.free + 1):
        guess(neighbour, 1, f"user{number}")
    assert {name: guess(neighbour, 1, name) for name in ("alice", "nobody")} == {
        "alice": [429],
        "nobody": [429],
    }


def test_the_device_that_registered_an_account_is_known(client_from: From, issuer: Issuer) -> None:
    owner = client_from("198.51.100.1")
    assert owner.post("/users", json=ALICE).status_code == 201
    guess(client_from("203.0.113.1"), ACCOUNT.free + 1)
    moved = client_from("198.51.100.99")
    moved.cookies.update(owner.cookies)
    assert log_in(moved).status_code == 200


def test_the_password_grant_is_limited_like_the_log_in(client_from: From, alice: str) -> None:
    web = client_from("203.0.113.1")
    form = {"grant_type": "password", "client_id": "first-party", **ALICE, "password": "wrong"}
    answers = [web.post("/oauth2/token", data=form) for _ in range(ACCOUNT.free + 2)]
    assert [answer.status_code for answer in answers] == [400] * (ACCOUNT.free + 1) + [429]


@pytest.mark.parametrize("cookie", ["", "x", "x" * 42, "x" * 44, '"\\012"', "é" * 43])
def test_only_the_issuer_chooses_device_ids(client_from: From, alice: str, cookie: str) -> None:
    web = client_from("203.0.113.1")
    given = web.post("/login", data=ALICE, headers={"Cookie": f"issuer_device={cookie}".encode()})
    assert cookie == "" or f"issuer_device={cookie};" not in given.headers["set-cookie"]


def test_ended_sessions_are_reported_as_ended_however_many_there_are(client_from: From, alice: str) -> None:
    web = client_from("203.0.113.1")
    body = log_in(web).json()
    web.post("/logout", headers=bearer(body["access_token"]))
    form = {"grant_type": "refresh_token", "client_id": "first-party", "refresh_token": body["refresh_token"]}
    for _ in range(SECRET.free + 5):
        assert web.post("/oauth2/token", data=form).json()["error"] == "invalid_grant"


def test_wrong_client_secrets_are_delayed_and_the_right_one_is_not(
    client_from: From, machine: tuple[str, str]
) -> None:
    web = client_from("203.0.113.1")
    form = {"grant_type": "client_credentials"}
    for _ in range(SECRET.free + 1):
        assert web.post("/oauth2/token", data=form, auth=(machine[0], "wrong")).status_code == 401
    assert waits(web.post("/oauth2/token", data=form, auth=(machine[0], "wrong"))) == 1
    assert web.post("/oauth2/token", data=form, auth=machine).status_code == 200


def test_registrations_are_limited_by_address(client_from: From, issuer: Issuer, clock: MovableClock) -> None:
    web = client_from("203.0.113.1")
    for _ in range(REGISTRATION.free + 1):
        assert web.post("/users", json={**ALICE, "password": "short"}).status_code == 400
    assert waits(web.post("/users", json=ALICE)) == 1
    assert client_from("203.0.113.2").post("/users", json=ALICE).status_code == 201


def test_the_device_cookie_is_not_accessible_to_scripts(
    made: Build, settings: Settings, web: TestClient, alice: str
) -> None:
    cookie = log_in(web).headers["set-cookie"]
    assert cookie.startswith("issuer_device=")
    assert {"HttpOnly", "Path=/", "SameSite=lax"} <= set(cookie.split("; "))
    assert "Secure" not in cookie  # on loopback without TLS no browser would send it back
    secure = made(settings.model_copy(update={"url": "https://issuer.test"}))
    with TestClient(create_app(secure)) as other:
        cookie = log_in(other).headers["set-cookie"]
        assert cookie.startswith("__Host-issuer_device=")
        assert "Secure" in cookie.split("; ")


def test_only_a_trusted_proxy_may_name_the_client_address(
    made: Build, settings: Settings, alice: str
) -> None:
    behind = made(settings.model_copy(update={"trusted_proxies": ("10.0.0.0/8",)}))
    app = create_app(behind)
    with TestClient(app):
        proxy = TestClient(app, client=("10.1.2.3", 50000))
        liar = TestClient(app, client=("203.0.113.1", 50000))
        for number in range(ADDRESS.free + 1):
            liar.headers["X-Forwarded-For"] = f"192.0.2.{number}"
            guess(liar, 1, f"user{number}")
        assert waits(log_in(liar, "wrong", "another")) == 1
        proxy.headers["X-Forwarded-For"] = "192.0.2.200, 198.51.100.7"  # the first is what the client claims
        for number in range(ADDRESS.free + 1):
            guess(proxy, 1, f"person{number}")
        assert waits(log_in(proxy, "wrong", "another")) == 1
        proxy.headers["X-Forwarded-For"] = "198.51.100.8"
        assert log_in(proxy).status_code == 200


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("", ""),
    ],
)
def test_an_ipv6_site_counts_as_one_address(address: str, counted: str) -> None:
    assert subnet(address) == counted


def test_of_many_attempts_that_see_the_same_count_one_reserves_it(
    database: Database,
    clock: MovableClock,
) -> None:
    store = ThrottleStore(database)
    one, other = bucket(ACCOUNT, "a"), bucket(ADDRESS, "b")
    store.fail([one, other], clock())
    seen = store.counts([one, other])
    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(lambda _: store.reserve(seen, clock()), range(8))) == [False] * 7 + [True]
    assert not store.reserve({one: seen[one]}, clock())
    assert not store.reserve({other: seen[other]}, clock())
    assert {each: count.failures for each, count in store.counts([one, other]).items()} == {one: 2, other: 2}
    store.release(seen, clock())
    assert store.counts([one, other]) == seen
    store.reset(other)
    assert store.counts([one, other]) == {one: seen[one]}


def test_a_bucket_does_not_reveal_its_name() -> None:
    assert isinstance(bucket(ACCOUNT, "a password typed as a name"), Bucket)
    assert b"password" not in bucket(ACCOUNT, "a password typed as a name").id
    assert bucket(ACCOUNT, "ab", "c").id != bucket(ACCOUNT, "a", "bc").id
