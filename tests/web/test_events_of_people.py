"""What people and applications do is recorded as events of accounts and clients, and logged without names."""

import io
import json
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr

import pytest
import structlog
from fastapi.testclient import TestClient
from support.authorization import SCOPE, a_request, app
from support.authorizing import an_app
from support.authorizing import sign_in as signed_in_without_page
from support.defaults import ALICE, MovableClock, bearer
from support.endpoints import refresh
from support.page_forms import session_of, sign_in

from issuer.audit.event import Recorded
from issuer.audit.event_search import Filters
from issuer.clients.client import FIRST_PARTY_ID
from issuer.logs import configure_log
from issuer.oauth import AuthMethod
from issuer.services import Issuer
from issuer.throttling.origin import Origin

Happened = tuple[str, str, str | None, str | None, int]
"""The action, actor, user and client of a row, and its count."""
NEW = "nine calm bisons whisper"
FAILED = ("sign-in failed", "unknown")
ANYWHERE = Origin("a test", "192.0.2.1")
Seen = Callable[[], list[Happened]]


@pytest.fixture
def seen(issuer: Issuer, alice: str) -> Seen:
    """What was recorded since the fixture was made."""
    search = issuer.events.search
    before = max(each.number for each in search.newest(Filters(), 1000)[0] if isinstance(each, Recorded))

    def since() -> list[Happened]:
        found, damaged = search.newest(Filters(), 1000)
        assert damaged == []
        rows = [each for each in found if isinstance(each, Recorded) and each.number > before]
        return [
            (each.event.action, each.event.actor, each.event.user_id, each.event.client_id, each.count)
            for each in rows
        ]

    return since


def by(user: str, action: str, client: str | None = None, count: int = 1) -> Happened:
    return action, f"user {user}", user, client, count


def logged_in(web: TestClient) -> dict[str, str]:
    tokens: dict[str, str] = web.post("/login", data=ALICE).json()
    return tokens


def test_a_registration_is_recorded_for_the_new_account(web: TestClient, seen: Seen, issuer: Issuer) -> None:
    assert web.post("/users", json={**ALICE, "username": "bob"}).status_code == 201
    bob = issuer.accounts.store.by_username("bob")
    assert bob
    assert seen() == [by(bob.id, "user created")]


def test_log_ins_and_sign_ins_are_counted_by_application(web: TestClient, alice: str, seen: Seen) -> None:
    logged_in(web)
    logged_in(web)
    sign_in(web, **ALICE)
    sign_in(web, **ALICE, path="/signin?reason=switch")
    assert seen() == [by(alice, "signed in", FIRST_PARTY_ID, 2), by(alice, "signed in", None, 2)]


def test_failed_sign_ins_are_counted_for_accounts_and_for_unknown_names(
    web: TestClient, alice: str, seen: Seen, issuer: Issuer
) -> None:
    for username in ("alice", "Alice", "nobody"):
        assert web.post("/login", data={"username": username, "password": "wrong"}).status_code == 401
    sign_in(web, "alice", "wrong")
    issuer.tokens.families.disable(alice, issuer.clock())
    logged_in(web)
    failed = {(user, count) for action, actor, user, _, count in seen() if (action, actor) == FAILED}
    assert failed == {(alice, 4), (None, 1)}


def test_a_failure_that_cannot_be_recorded_is_still_counted_and_refused(
    web: TestClient, alice: str, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(type(issuer.events.store), "sign_in_failed", fail)
    answers = [web.post("/login", data={**ALICE, "password": "wrong"}).status_code for _ in range(12)]
    assert answers[0] == 401
    assert answers[-1] == 429


def test_changes_of_passwords_are_recorded_with_who_made_them(
    web: TestClient, alice: str, seen: Seen, issuer: Issuer, clock: MovableClock
) -> None:
    user, session = issuer.accounts.store.by_id(alice), signed_in_without_page(web, issuer, alice)
    assert user
    own = issuer.administration.own_account
    own.change_password(user, session, ALICE["password"], NEW, ANYWHERE, clock())
    changed = issuer.accounts.store.by_id(alice)
    assert changed
    token = issuer.administration.reset_links.token(changed, clock())
    issuer.administration.reset_links.set_password(token, ALICE["password"], clock())
    assert seen() == [by(alice, "signed in"), by(alice, "password changed", count=2)]
    own.delete(user, ALICE["password"], ANYWHERE, clock())
    assert seen()[-1] == by(alice, "user deleted")


def test_a_changed_name_is_recorded_with_who_changed_it(web: TestClient, alice: str, seen: Seen) -> None:
    """It needs no password: whoever has a token or the browser may have changed it."""
    own = bearer(logged_in(web)["access_token"])
    for name in ("Alice", " Alice ", "Zoë"):
        assert web.patch("/users/me", json={"name": name}, headers=own).status_code == 200
    assert seen()[-1] == by(alice, "profile changed", count=2)


def test_a_changed_address_is_recorded_with_who_changed_it(
    web: TestClient, alice: str, seen: Seen, issuer: Issuer, clock: MovableClock
) -> None:
    own = bearer(logged_in(web)["access_token"])
    change = {"email": "new@example.com", "password": ALICE["password"]}
    assert web.patch("/users/me", json=change, headers=own).status_code == 200
    assert seen()[-1] == by(alice, "profile changed")
    user, links = issuer.accounts.store.by_id(alice), issuer.administration.address_links
    assert user
    links.confirm(links.token(user, "new@example.com", clock()), ALICE["password"], ANYWHERE, clock())
    confirmed = issuer.accounts.store.by_id(alice)
    assert confirmed
    assert confirmed.email_verified
    assert seen()[-1] == by(alice, "profile changed", count=2)


def test_ended_sessions_are_recorded_with_who_ended_them(web: TestClient, alice: str, seen: Seen) -> None:
    first, second, third, fourth = (logged_in(web) for _ in range(4))
    own = bearer(fourth["access_token"])
    sessions = web.get("/users/me/sessions", headers=own).json()["sessions"]
    (current,) = [each["id"] for each in sessions if each["current"]]
    assert web.delete(f"/users/me/sessions/{current}", headers=own).status_code == 204
    form = {"client_id": FIRST_PARTY_ID, "token": second["refresh_token"]}
    assert web.post("/oauth2/revoke", data=form).status_code == 200
    assert web.post("/logout", headers=bearer(third["access_token"])).status_code == 204
    everywhere = web.post("/logout?everywhere=true", headers=bearer(first["access_token"]))
    assert everywhere.status_code == 204
    ended = [each for each in seen() if each[0] == "session ended"]
    assert ended == [
        ("session ended", f"client {FIRST_PARTY_ID}", alice, FIRST_PARTY_ID, 1),
        by(alice, "session ended", FIRST_PARTY_ID, 2),
        by(alice, "session ended"),
    ]


def test_the_end_of_a_session_whose_token_was_stolen_is_recorded_as_the_issuers(
    web: TestClient, alice: str, seen: Seen, clock: MovableClock
) -> None:
    tokens = logged_in(web)
    assert refresh(web, tokens["refresh_token"]).status_code == 200
    clock.advance(minutes=5)
    assert refresh(web, tokens["refresh_token"]).status_code == 400
    assert seen()[-1] == ("session ended", "issuer", alice, FIRST_PARTY_ID, 1)


def test_sessions_of_browsers_that_users_end_are_recorded(
    web: TestClient, alice: str, seen: Seen, issuer: Issuer, clock: MovableClock
) -> None:
    session = signed_in_without_page(web, issuer, alice)
    issuer.tokens.families.end_others(alice, session.id, clock())
    issuer.sessions.sign_out.end(session, clock())
    issuer.sessions.sign_out.end(session, clock())
    assert seen() == [by(alice, "signed in"), by(alice, "session ended", count=2)]


def test_consents_are_recorded(alice: str, seen: Seen, issuer: Issuer, clock: MovableClock) -> None:
    client = app(auth_method=AuthMethod.NONE)
    consents = issuer.authorize.consents
    assert consents.give(alice, a_request(), SCOPE, clock(), clock())
    consents.withdraw(alice, client.id, clock())
    assert seen() == [by(alice, "consent given", client.id), by(alice, "consent withdrawn", client.id)]


def test_a_client_that_is_bound_to_pkce_by_its_first_use_is_recorded(
    web: TestClient, alice: str, seen: Seen, issuer: Issuer
) -> None:
    client = an_app(issuer, requires_pkce=False)
    signed_in_without_page(web, issuer, alice)
    assert client.redeems(web, client.code(web)).status_code == 200
    assert seen()[-1] == ("client changed", f"client {client.client_id}", None, client.client_id, 1)


# The log


@pytest.fixture
def lines() -> Iterator[Callable[[], list[dict[str, object]]]]:
    """The lines of events that are no requests."""
    output = io.StringIO()
    with redirect_stderr(output):
        configure_log()
    yield lambda: [
        line for line in map(json.loads, output.getvalue().splitlines()) if line["event"] != "request"
    ]
    structlog.reset_defaults()


def test_each_token_is_logged_with_grant_client_and_user_id_but_no_names(
    lines: Callable[[], list[dict[str, object]]],
    web: TestClient,
    alice: str,
    machine: tuple[str, str],
    issuer: Issuer,
) -> None:
    tokens = logged_in(web)
    refresh(web, tokens["refresh_token"])
    web.post("/oauth2/token", auth=machine, data={"grant_type": "client_credentials"})
    client = an_app(issuer)
    signed_in_without_page(web, issuer, alice)
    client.redeems(web, client.code(web))
    web.post("/login", data={**ALICE, "password": "wrong"})
    kid = issuer.keys.node.view.ring.current(issuer.clock()).kid
    found = lines()
    assert [(line["event"], line["grant"], line["client"], line["user"], line["kid"]) for line in found] == [
        ("token issued", grant, client_id, user, kid)
        for grant, client_id, user in (
            ("password", FIRST_PARTY_ID, alice),
            ("refresh_token", FIRST_PARTY_ID, alice),
            ("client_credentials", machine[0], None),
            ("authorization_code", client.client_id, alice),
        )
    ]
    assert all(line["level"] == "info" and isinstance(line["milliseconds"], float) for line in found)
    assert ALICE["username"] not in json.dumps(found)


def test_each_sign_in_with_a_browser_is_logged(
    lines: Callable[[], list[dict[str, object]]], web: TestClient, alice: str, issuer: Issuer
) -> None:
    sign_in(web, "alice", "wrong")
    sign_in(web, **ALICE)
    session = session_of(web, issuer)
    assert session
    assert [(line["event"], line["user"], line["session"]) for line in lines()] == [
        ("signed in", alice, session.id)
    ]
