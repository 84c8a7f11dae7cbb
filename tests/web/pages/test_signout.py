"""The sign-out page: it asks, refuses forms of other sites, ends the session, and has clients told at once."""

from collections.abc import Iterator
from html import unescape
from typing import Any

import httpx2
import jwt
import pytest
from fastapi.testclient import TestClient
from support.authorizing import sign_in
from support.defaults import START, bearer
from support.logout_receiver import Answer, LogoutReceiver, logout_receiver
from support.page_forms import fields_of
from support.prometheus import Samples
from support.servers import eventually
from support.signing_out import RETURN_URI, application, is_signed_in

from issuer.clients.client import Client
from issuer.services import Issuer
from issuer.sessions.session import BrowserSession
from issuer.tokens.backchannel_logout import EVENT

PAGE = "/signout"


@pytest.fixture
def session(issuer: Issuer, web: TestClient, alice: str) -> BrowserSession:
    return sign_in(web, issuer, alice)


@pytest.fixture
def receiver() -> Iterator[LogoutReceiver]:
    with logout_receiver() as server:
        yield server


@pytest.fixture
def told(issuer: Issuer, session: BrowserSession, receiver: LogoutReceiver) -> Client:
    """A client that is told of the end of the session."""
    client = application(issuer, "Notes & more", backchannel=receiver.url)
    issuer.sessions.store.sid(session, client.id)
    return client


def submitted(web: TestClient, fields: dict[str, str] | None = None, **headers: str) -> httpx2.Response:
    """Return the answer to the form of the page, or to other fields."""
    fields = fields_of(web.get(PAGE).text) if fields is None else fields
    return web.post(PAGE, data=fields, headers=headers, follow_redirects=False)


def test_the_page_asks_and_names_the_user_and_the_clients_that_are_told(
    web: TestClient, told: Client
) -> None:
    page = web.get(PAGE)
    assert page.status_code == 200
    for text in ("Sign out of", "alice", told.name):
        assert text in unescape(page.text)
    assert page.headers["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]


def test_the_form_ends_the_session_and_deletes_the_cookie(
    web: TestClient, issuer: Issuer, session: BrowserSession
) -> None:
    answer = submitted(web)
    assert (answer.status_code, answer.headers["location"]) == (303, PAGE)
    assert 'issuer-session="";' in answer.headers["set-cookie"]
    assert not is_signed_in(issuer, session)
    page = web.get(PAGE)
    assert page.status_code == 200
    assert "You are signed out" in page.text


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ({"other": "x"}, {}),
        ({"form_token": "x"}, {}),
        (None, {"Sec-Fetch-Site": "cross-site"}),
        (None, {"Sec-Fetch-Site": "same-site"}),
        (None, {"Origin": "https://attacker.example"}),
    ],
)
def test_a_form_of_another_site_changes_nothing_and_the_page_asks_again(
    web: TestClient,
    issuer: Issuer,
    session: BrowserSession,
    fields: dict[str, str] | None,
    headers: dict[str, str],
) -> None:
    answer = submitted(web, fields, **headers)
    assert answer.status_code == 400
    assert "Nothing has changed" in answer.text
    assert "set-cookie" not in answer.headers or "issuer-session" not in answer.headers["set-cookie"]
    assert is_signed_in(issuer, session)
    assert submitted(web, fields_of(answer.text)).status_code == 303


def test_the_token_of_a_form_is_of_no_use_for_another_session_or_client(
    web: TestClient, issuer: Issuer, session: BrowserSession, alice: str
) -> None:
    fields = fields_of(web.get(PAGE).text)
    other = application(issuer)
    leading = {**fields, "client_id": other.id, "post_logout_redirect_uri": RETURN_URI}
    assert submitted(web, leading).status_code == 400
    again = sign_in(web, issuer, alice)
    assert submitted(web, fields).status_code == 400
    assert is_signed_in(issuer, session)
    assert is_signed_in(issuer, again)


def test_a_form_without_the_cookie_deletes_none(
    web: TestClient, issuer: Issuer, session: BrowserSession
) -> None:
    """Such as one of another site: browsers do not send the cookie with it, but would delete it."""
    web.cookies.clear()
    answer = submitted(web, {"form_token": "x"})
    assert (answer.status_code, answer.headers["location"]) == (303, PAGE)
    assert "issuer-session" not in answer.headers.get("set-cookie", "")
    assert is_signed_in(issuer, session)


def test_a_second_press_of_the_button_returns_to_the_client_by_its_page(
    web: TestClient, issuer: Issuer, session: BrowserSession
) -> None:
    client = application(issuer)
    query = {"client_id": client.id, "post_logout_redirect_uri": RETURN_URI, "state": "x"}
    fields = fields_of(web.get("/oauth2/logout", params=query).text)
    assert submitted(web, fields).headers["location"] == f"{RETURN_URI}?state=x"
    second = submitted(web, fields)
    assert second.status_code == 303
    assert f'href="{RETURN_URI}?state=x"' in web.get(second.headers["location"]).text


def test_forms_that_are_not_valid_are_refused_with_a_page(web: TestClient, session: BrowserSession) -> None:
    for content, kind in (("a=1&a=2", "application/x-www-form-urlencoded"), ("{}", "application/json")):
        answer = web.post(PAGE, content=content, headers={"Content-Type": kind})
        assert answer.status_code == 400
        assert answer.headers["content-type"].startswith("text/html")


def test_a_client_receives_a_logout_token_that_it_can_verify(
    web: TestClient, issuer: Issuer, session: BrowserSession, told: Client, receiver: LogoutReceiver
) -> None:
    sid = issuer.sessions.store.sid(session, told.id)
    submitted(web)
    received = receiver.next()
    assert received.path == "/backchannel?tenant=1"
    assert received.content_type == "application/x-www-form-urlencoded"
    assert received.form.keys() == {"logout_token"}
    claims = verified(web, received.form["logout_token"][0], told.id)
    issued_at = int(START.timestamp())
    assert claims.pop("jti")
    assert claims == {
        "iss": issuer.settings.url,
        "sub": session.user_id,
        "aud": told.id,
        "iat": issued_at,
        "exp": issued_at + 120,
        "events": {EVENT: {}},
        "sid": sid,
    }


def verified(web: TestClient, token: str, audience: str) -> dict[str, Any]:
    """Return the claims of a logout token as a client verifies it, section 2.6; a test checks the times."""
    header = jwt.get_unverified_header(token)
    assert header["typ"] == "logout+jwt"
    keys = jwt.PyJWKSet.from_dict(web.get("/.well-known/jwks.json").json())
    options: Any = {"verify_exp": False, "verify_iat": False}
    return jwt.decode(token, keys[header["kid"]], algorithms=["RS256"], audience=audience, options=options)


def test_whoever_signs_out_does_not_wait_for_a_client_that_hangs(
    web: TestClient, told: Client, receiver: LogoutReceiver
) -> None:
    receiver.answer = Answer.HANG
    assert submitted(web).status_code == 303
    receiver.next()
    assert web.get("/healthz").status_code == 200
    assert not receiver.released.is_set(), "the client still hangs"


def test_signing_out_everywhere_by_the_api_signs_out_of_browsers_as_well(
    web: TestClient, issuer: Issuer, session: BrowserSession, told: Client, receiver: LogoutReceiver
) -> None:
    form = {"username": "alice", "password": "violet otters juggle pancakes"}
    token = web.post("/login", data=form).json()["access_token"]
    assert web.post("/logout", headers=bearer(token)).status_code == 204
    assert is_signed_in(issuer, session)
    token = web.post("/login", data=form).json()["access_token"]
    assert web.post("/logout?everywhere=true", headers=bearer(token)).status_code == 204
    assert not is_signed_in(issuer, session)
    assert receiver.next().form


def test_deliveries_are_counted(web: TestClient, told: Client, receiver: LogoutReceiver) -> None:
    def count(outcome: str) -> float:
        return Samples(web.get("/metrics").text).total("issuer_logout_notices_total", outcome=outcome)

    assert [count(outcome) for outcome in ("delivered", "failed", "given_up")] == [0, 0, 0]
    receiver.answer = Answer.FAIL
    submitted(web)
    receiver.next()
    eventually(lambda: count("failed") == 1, "the attempt is counted")
