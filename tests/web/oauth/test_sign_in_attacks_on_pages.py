"""Attacks on the pages of the sign-in: forms of other sites, frames, caches, cookies, guesses and page parameters.

RFC 9700 sections 4.7, 4.11, 4.12 and 4.16. Attacks on one page alone are in the tests of that page.
"""

import re
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from httpx2 import Response
from pydantic import SecretStr
from sqlalchemy import select
from support.authorizing import AUTHORIZE, CALLBACK, an_app, page, sign_in
from support.defaults import ALICE, PASSWORD
from support.page_forms import fields_of
from support.sign_in_browser import Form, Page
from support.signed_in import start_session

from issuer.accounts.store import users
from issuer.authorize.code_store import authorization_codes
from issuer.authorize.consent_store import consents
from issuer.authorize.request import AuthorizationRequest
from issuer.mail.outbox import mails
from issuer.services import Issuer
from issuer.sessions.session import BrowserSession
from issuer.sessions.store import browser_sessions
from issuer.settings.settings import Settings
from issuer.throttling.limits import DEVICE
from issuer.tokens.refresh_rotation import families
from issuer.web.pages.browser import cookie_name, get_browser

EVIL = "https://evil.example/"
TYPED = {
    "password": PASSWORD,
    "new_password": "nine calm bisons whisper",
    "confirmation": "alice",
    "name": "Mallory",
    "email": "mallory@evil.example",
    "decision": "allow",
}
ANY_BROWSER = {AUTHORIZE}
"""Answered by a redirect to the same request as a GET; nothing changes."""
FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "http://testserver.evil.example"},
    {"Origin": "HTTP://127.0.0.1:8001"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With mail, so that every page is there; no mail is ever due."""
    return settings.model_copy(update={"smtp_url": SecretStr("smtp://127.0.0.1:1")})


@pytest.fixture
def session(web: TestClient, issuer: Issuer, alice: str) -> BrowserSession:
    return sign_in(web, issuer, alice)


@pytest.fixture
def ticket(web: TestClient, issuer: Issuer, session: BrowserSession) -> str:
    """The ticket of a request that waits for consent."""
    assert session
    web.get("/signin")  # for the device cookie
    return page(an_app(issuer, is_trusted=False).asks(web))[1]["ticket"]


def reads_cookies(dependant: Dependant) -> bool:
    return dependant.call is get_browser or any(map(reads_cookies, dependant.dependencies))


def for_browsers(web: TestClient, method: str) -> set[str]:
    """Return the paths of the endpoints that know who is signed in."""
    assert isinstance(web.app, FastAPI)
    return {
        route.path
        for route in web.app.routes
        if isinstance(route, APIRoute) and method in (route.methods or ()) and reads_cookies(route.dependant)
    }


def shown(web: TestClient, issuer: Issuer, user_id: str, ticket: str) -> Iterator[Response]:
    """Yield every page that has forms."""
    for path in ("/signin?reason=login&", "/signin?", "/signup?", "/consent?", "/signout?", "/account?"):
        yield web.get(f"{path}ticket={ticket}")
    for path in ("/account/password", "/account/delete", "/account/profile", "/forgot"):
        yield web.get(path)
    user = issuer.accounts.store.by_id(user_id)
    assert user
    address = issuer.administration.address_links.token(user, "alice@example.com", issuer.clock())
    yield web.get(f"/confirm-address?token={address}")
    yield web.get(f"/reset?token={issuer.administration.reset_links.token(user, issuer.clock())}")


def forms(pages: Iterable[Response]) -> list[Form]:
    found = (form for each in pages for form in Page(str(each.url), text=each.text).forms)
    return [form for form in found if form.method == "POST"]


def everything(issuer: Issuer) -> list[object]:
    """Return what a form could change."""
    tables = (users, browser_sessions, families, consents, authorization_codes, mails)
    with issuer.database.read() as connection:
        return [connection.execute(select(table)).all() for table in tables]


def test_every_form_is_refused_without_its_token_and_from_other_sites(
    web: TestClient, issuer: Issuer, alice: str, ticket: str
) -> None:
    """CSRF and login CSRF, RFC 9700 section 4.7; a new endpoint whose form is on no page fails here."""
    start_session(issuer, alice)
    issuer.authorize.consents.give(
        alice, pending(issuer, web, ticket), frozenset(), issuer.clock(), issuer.clock()
    )
    found = forms(shown(web, issuer, alice, ticket))
    assert {urlsplit(form.action).path for form in found} == for_browsers(web, "POST") - ANY_BROWSER
    before = everything(issuer)
    other = fields_of(web.get("/signout").text)["form_token"]
    for form in found:
        path = urlsplit(form.action).path
        sent = {**form.fields, **TYPED, "username": "mallory" if path == "/signup" else "alice"}
        tokens = ["", "x", sent["form_token"][:-1], sent["form_token"].swapcase(), ticket]
        if path != "/signout":
            tokens.append(other)
        no_headers: dict[str, str] = {}
        attempts = [({**sent, "form_token": token}, no_headers) for token in tokens]
        attempts += [(sent, headers) for headers in FOREIGN]
        for data, headers in attempts:
            refused = web.post(path, data=data, headers=headers, follow_redirects=False)
            assert refused.status_code == 400, (path, data, headers)
            assert cookie_name(issuer.settings.url) not in refused.headers.get("set-cookie", "")
        typed = web.post(path, json=sent, follow_redirects=False)
        assert typed.status_code == 400, "a form of another site may claim any type"
        assert everything(issuer) == before, path


def pending(issuer: Issuer, web: TestClient, ticket: str) -> AuthorizationRequest:
    device = next(value for name, value in web.cookies.items() if "device" in name)
    found = issuer.authorize.flow.pending(ticket, device, issuer.clock())
    assert found
    return found.request


def test_no_page_is_framed_cached_or_named_to_other_sites(
    web: TestClient, issuer: Issuer, ticket: str
) -> None:
    """Clickjacking and leaks by Referer, RFC 9700 sections 4.16 and 4.2."""
    paths = for_browsers(web, "GET")
    assert paths > {AUTHORIZE, "/signin", "/signup", "/consent", "/signout", "/account"}
    answers = [web.get(path, follow_redirects=False) for path in paths]
    answers += [web.get(path, params={"ticket": ticket}, follow_redirects=False) for path in paths]
    answers += [web.post(path, data={"x": "y"}, follow_redirects=False) for path in for_browsers(web, "POST")]
    app = an_app(issuer)
    answers += [app.asks(web), app.asks(web, response_mode="form_post"), app.asks(web, redirect_uri=EVIL)]
    web.cookies.clear()
    answers += [web.get(path, follow_redirects=False) for path in paths]
    answers += [app.asks(web), app.asks(web, prompt="none"), app.asks(web, prompt="create")]
    assert {answered.status_code for answered in answers} == {200, 303, 400}
    for answered in answers:
        headers, context = answered.headers, (answered.url, answered.status_code)
        assert headers["cache-control"] == "no-store", context
        assert headers["x-content-type-options"] == "nosniff", context
        if answered.status_code == 303:
            assert headers["referrer-policy"] == "no-referrer", context
            assert not answered.content, context
            continue
        assert headers["referrer-policy"] == "same-origin", context
        assert headers["x-frame-options"] == "DENY", context
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; "), context
        assert "frame-ancestors 'none'" in policy, context
        assert "base-uri 'none'" in policy, context
        assert "unsafe" not in policy, context


def test_no_parameter_of_a_page_leads_to_another_site(web: TestClient, ticket: str) -> None:
    """Open redirectors, RFC 9700 section 4.11.1."""
    names = (
        "reason",
        "return_to",
        "next",
        "redirect_uri",
        "url",
        "done",
        "state",
        "post_logout_redirect_uri",
    )
    for path in sorted(for_browsers(web, "GET") - {"/oauth2/logout"}):
        for evil in (
            EVIL,
            "//evil.example",
            "/\\evil.example",
            "javascript:alert(1)",
            '"><a href="//evil.example">',
        ):
            for given in (dict.fromkeys(names, evil), {"ticket": evil}):
                answered = web.get(path, params={"ticket": ticket, **given}, follow_redirects=False)
                location = answered.headers.get("location", "/")
                assert re.match(r"/[a-z]", location) or location == "/", (path, given, location)
                assert not re.search(r'(href|action|src)="(?!/[a-z?]|https?://127)', answered.text), (
                    path,
                    given,
                )
                assert '<a href="//' not in answered.text


def test_of_two_session_cookies_neither_counts(
    web: TestClient, issuer: Issuer, session: BrowserSession
) -> None:
    """A host of the same domain may set a cookie: nobody must be signed in with it (login CSRF)."""
    cookie = cookie_name(issuer.settings.url)
    mine = f"{cookie}={web.cookies[cookie]}"
    assert session
    web.cookies.clear()
    for cookies, path in [
        (mine, None),
        (f"{mine}; {mine}", "/signin"),
        (f"{mine}; {cookie}=planted", "/signin"),
        (f"{cookie}=; {mine}", "/signin"),
        (f"{cookie.upper()}={mine}", "/signin"),
        (f"{cookie}={'a' * 4000}", "/signin"),
        (f"{cookie}=\x00", "/signin"),
    ]:
        answered = web.get("/account", headers={"Cookie": cookies}, follow_redirects=False)
        assert answered.headers.get("location") == path, cookies


def test_passwords_cannot_be_guessed_by_the_page_that_deletes_the_account(
    web: TestClient, issuer: Issuer, session: BrowserSession
) -> None:
    """It has the counters of the sign-in page: whoever found an open browser has no better chance."""
    sent = {**fields_of(web.get("/account/delete").text), "confirmation": "alice"}
    guesses = [
        web.post("/account/delete", data={**sent, "password": "a wrong password"}).status_code
        for _ in range(DEVICE.free + 1)
    ]
    assert guesses == [401] * len(guesses)
    refused = web.post("/account/delete", data={**sent, "password": PASSWORD})
    assert refused.status_code == 429
    assert issuer.accounts.store.by_id(session.user_id)
    form = {**fields_of(web.get("/signin?reason=login").text), **ALICE}
    assert web.post("/signin", data=form).status_code == 429


def test_a_response_by_form_holds_the_state_as_text(
    web: TestClient, issuer: Issuer, session: BrowserSession
) -> None:
    """Form Post Response Mode section 4: the page is one of the issuer, and a script in it would have its rights."""
    app = an_app(issuer)
    for state in (
        '"><script>alert(1)</script>',
        "</form><form action=//evil.example>",
        "'\"&#x3c;",
        "{{ 7 * 7 }}",
    ):
        answered = app.asks(web, response_mode="form_post", state=state)
        assert answered.text.count("<script") == 1
        assert answered.text.count("<form") == 1
        assert f'action="{CALLBACK}"' in answered.text
        assert fields_of(answered.text)["state"] == state
    assert session
