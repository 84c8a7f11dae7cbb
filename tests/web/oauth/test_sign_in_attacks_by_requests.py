"""Attacks by requests of the sign-in: injected codes, downgrades, repeated parameters, and pages where none may be.

RFC 9700 sections 2 and 4. Attacks on the redirect URI are in `test_authorization_errors`, on one code in
`grants.test_authorization_code`.
"""

import secrets
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update
from support.authorizing import (
    AUTHORIZE,
    CALLBACK,
    App,
    an_app,
    answer,
    asked,
    page,
    refused_by_page,
    sign_in,
)
from support.defaults import MovableClock, bearer
from support.endpoints import ISSUER
from support.signed_in import start_family

from issuer.clients.client import FIRST_PARTY
from issuer.clients.store import clients
from issuer.oauth import AuthMethod
from issuer.services import Issuer
from issuer.sessions.session import BrowserSession

WITHOUT_PKCE = {"code_challenge": None, "code_challenge_method": None}
PATHS = (
    AUTHORIZE,
    "/oauth2/par",
    "/oauth2/logout",
    "/oauth2/userinfo",
    "/signin",
    "/signup",
    "/consent",
    "/signout",
    "/account",
    "/account/password",
    "/account/delete",
    "/account/deleted",
    "/account/sessions/end",
    "/account/sessions/end-others",
    "/account/applications/withdraw",
)


@pytest.fixture
def app(issuer: Issuer) -> App:
    return an_app(issuer)


@pytest.fixture
def session(web: TestClient, issuer: Issuer, alice: str) -> BrowserSession:
    return sign_in(web, issuer, alice)


def refused(web: TestClient, app: App, code: str, **changes: str | None) -> bool:
    answered = app.redeems(web, code, **changes)
    return (answered.status_code, answered.json()["error"]) == (400, "invalid_grant")


@pytest.mark.parametrize("uses_nonce", [True, False])
def test_a_code_of_another_request_is_of_no_use_to_a_client_with_pkce(
    web: TestClient, app: App, session: BrowserSession, uses_nonce: bool
) -> None:
    """Code injection, RFC 9700 section 4.5: the client sends the verifier of its own request with a stolen code."""
    stolen = app.code(web, nonce="of the victim" if uses_nonce else None)
    assert refused(web, app, stolen, code_verifier=secrets.token_urlsafe(48))
    assert refused(web, app, stolen, code_verifier=None)
    assert app.redeems(web, stolen).status_code == 200, "the attempts did not use it up"
    assert session


def test_a_challenge_that_is_removed_on_the_way_is_noticed(
    web: TestClient, issuer: Issuer, session: BrowserSession
) -> None:
    """PKCE downgrade, RFC 9700 section 4.8: with and without the memory that the client uses PKCE."""
    app = an_app(issuer, requires_pkce=False)
    stripped = app.code(web, **WITHOUT_PKCE)
    assert refused(web, app, stripped), "the client sends a verifier"
    assert app.redeems(web, stripped, code_verifier=None).status_code == 200
    assert app.redeems(web, app.code(web)).status_code == 200
    answered = answer(app.asks(web, **WITHOUT_PKCE))
    assert (answered["error"], answered["iss"]) == ("invalid_request", ISSUER)
    for method in ("plain", "s256", "S256 ", "none"):
        assert answer(app.asks(web, code_challenge_method=method))["error"] == "invalid_request"
    public = an_app(issuer, AuthMethod.NONE)
    assert answer(public.asks(web, **WITHOUT_PKCE))["error"] == "invalid_request"
    assert session


def test_a_code_is_of_no_use_to_another_client_nor_as_a_token(
    web: TestClient, issuer: Issuer, app: App, session: BrowserSession
) -> None:
    other = an_app(issuer)
    code = app.code(web)
    assert refused(web, other, code)
    assert web.get("/oauth2/userinfo", headers={"Authorization": f"Bearer {code}"}).status_code == 401
    form = {"grant_type": "refresh_token", "refresh_token": code, **app.credentials}
    assert web.post("/oauth2/token", data=form).status_code == 400
    body = app.redeems(web, code).json()
    for token in (body["id_token"], body["refresh_token"]):
        assert web.get("/oauth2/userinfo", headers={"Authorization": f"Bearer {token}"}).status_code == 401
    for token in (body["access_token"], body["refresh_token"]):
        assert answer(app.asks(web, id_token_hint=token))["error"] == "invalid_request"
        assert web.get("/oauth2/logout", params={"id_token_hint": token}).status_code == 400
    assert answer(other.asks(web, id_token_hint=body["id_token"]))["error"] == "invalid_request"
    assert session


def test_no_application_manages_the_account_of_a_user_who_only_signed_in_to_it(
    web: TestClient, issuer: Issuer, alice: str, session: BrowserSession
) -> None:
    """Least privilege, RFC 9700 section 2.3: no scope that a user allows says so, and the consent page neither."""
    app = an_app(issuer)
    code = app.code(web, scope="openid")
    with issuer.database.write() as connection:
        connection.execute(update(clients).where(clients.c.id == app.client_id).values(is_trusted=False))
    token = app.redeems(web, code).json()["access_token"]
    other, _ = start_family(issuer, alice, FIRST_PARTY, issuer.clock())
    for method, path in (
        ("GET", "/users/me"),
        ("GET", "/users/me/sessions"),
        ("DELETE", f"/users/me/sessions/{other.id}"),
        ("POST", "/logout"),
    ):
        answered = web.request(method, path, headers=bearer(token))
        assert (answered.status_code, answered.json()["error"]) == (401, "invalid_token"), path
    assert issuer.tokens.families.is_active(other.id, issuer.clock())
    assert web.get("/oauth2/userinfo", headers=bearer(token)).json() == {"sub": session.user_id}


def test_every_answer_names_the_issuer(web: TestClient, app: App, session: BrowserSession) -> None:
    """Mix-up, RFC 9207 section 2.4."""
    for changes in ({}, {"scope": "nothing"}, {"prompt": "none", "max_age": "0"}, {"request": "x"}):
        assert answer(app.asks(web, **changes))["iss"] == ISSUER
        assert f'value="{ISSUER}"' in app.asks(web, response_mode="form_post", **changes).text
    assert session


@pytest.mark.parametrize("is_signed_in", [True, False])
def test_with_prompt_none_no_page_is_shown_whatever_is_missing(
    web: TestClient, issuer: Issuer, alice: str, is_signed_in: bool, clock: MovableClock
) -> None:
    """OpenID Connect Core section 3.1.2.1."""
    if is_signed_in:
        sign_in(web, issuer, alice)
        clock.advance(minutes=1)
    strict, trusted = an_app(issuer, is_trusted=False), an_app(issuer)
    more: list[dict[str, str | None]] = [
        {},
        {"max_age": "0"},
        {"max_age": "1"},
        {"login_hint": "nobody"},
        {"claims": '{"id_token":{"sub":{"value":"another"}}}'},
        {"claims": '{"id_token":{"acr":{"essential":true,"value":"9"}}}'},
        {"id_token_hint": "x"},
        {"scope": "admin"},
        {"prompt": "none login"},
        {"prompt": "none create"},
        {"prompt": "none unknown"},
        {"scope": None},
        {"response_mode": "fragment"},
    ]
    for app in (strict, trusted):
        for changes in more:
            answered = answer(app.asks(web, **{"prompt": "none", **changes}))
            is_code = is_signed_in and app is trusted and not {"max_age", "claims"} & changes.keys()
            assert "error" in answered or is_code, changes


@pytest.mark.parametrize(
    "name", ["client_id", "redirect_uri", "state", "scope", "prompt", "nonce", "x", "ticket"]
)
def test_a_repeated_parameter_is_answered_by_a_page_and_never_stored(
    web: TestClient, app: App, session: BrowserSession, name: str
) -> None:
    """Parameter pollution: of two values a proxy, the client and the issuer could each use another."""
    repeated = [*app.request(x="1").items(), (name, "2"), (name, "3")]
    encoded = "&".join(f"{each}={quote(value, safe='')}" for each, value in repeated)
    assert "repeated" in refused_by_page(web, encoded)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert web.post(AUTHORIZE, content=encoded, headers=form, follow_redirects=False).status_code == 400
    credentials = "&".join(f"{each}={quote(value, safe='')}" for each, value in app.credentials.items())
    pushed = web.post("/oauth2/par", content=f"{encoded}&{credentials}", headers=form)
    assert (pushed.status_code, pushed.json()["error"]) == (400, "invalid_request")
    assert session


HOSTILE = [
    "ticket=%ff",
    "ticket=%00",
    "ticket=" + "a" * 9000,
    "ticket=.eJw.x",
    "ticket=%F0%9F%98%80",
    "ticket[]=x",
    "id_token_hint=" + "e30." * 3,
    "id_token_hint=%00",
    "client_id=%00&redirect_uri=%00",
    "client_id=" + "a" * 9000,
    "&" * 200,
    "&".join(f"p{number}=x" for number in range(200)),
    "%=%&%zz=%u0041",
    "a;b=c",
]


@pytest.mark.parametrize("path", PATHS)
def test_no_method_type_or_text_is_answered_with_an_internal_error(
    web: TestClient, session: BrowserSession, path: str
) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for text in HOSTILE:
        for answered in (
            web.get(f"{path}?{text}", follow_redirects=False),
            web.post(path, content=text, headers=form, follow_redirects=False),
        ):
            assert answered.status_code < 500, text
            assert CALLBACK not in answered.headers.get("location", "")
    for method in ("HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"):
        assert web.request(method, f"{path}?{HOSTILE[0]}", follow_redirects=False).status_code < 500, method
    for kind in ("application/json", "multipart/form-data", "text/plain", ""):
        for body in (b"\xff\xfe", b"[" * 5000, b'{"ticket":1}'):
            answered = web.post(path, content=body, headers={"Content-Type": kind}, follow_redirects=False)
            assert answered.status_code < 500, (kind, body)
    assert session


@pytest.mark.parametrize(
    "state", ["\r\nSet-Cookie: a=b", "\n\nHTTP/1.1 200", "\x00", "\x85\u2028", "%0d%0aX: y"]
)
def test_the_state_ends_no_header(web: TestClient, app: App, session: BrowserSession, state: str) -> None:
    """Response splitting: in the answer, in the ticket and after sign-out."""
    web.get("/signin")
    for each in (app.asks(web, state=state), app.asks(web, state=state, prompt="login")):
        assert each.headers["location"].isascii()
        assert each.headers["location"].isprintable()
        assert "a=b" not in each.headers.get("set-cookie", "")
    assert dict(parse_qsl(urlsplit(app.asks(web, state=state).headers["location"]).query))["state"] == state
    assert session


def test_a_ticket_is_of_no_use_in_place_of_another_signed_text(
    web: TestClient, issuer: Issuer, session: BrowserSession
) -> None:
    """The texts are signed for their purpose: a ticket, which the request chose, is no form token and no hint."""
    web.get("/signin")
    app = an_app(issuer, is_trusted=False)
    ticket = page(app.asks(web))[1]["ticket"]
    form = {"ticket": ticket, "form_token": ticket, "decision": "allow"}
    assert web.post("/consent", data=form, follow_redirects=False).status_code == 400
    assert page(app.asks(web))[0] == "/consent"
    assert answer(app.asks(web, id_token_hint=ticket))["error"] == "invalid_request"
    token = web.get("/signout").text.partition('name="form_token" value="')[2].partition('"')[0]
    assert token
    assert "another browser" in refused_by_page(web, f"ticket={token}")
    assert asked(web, {"ticket": ticket}).status_code == 303
    assert session
