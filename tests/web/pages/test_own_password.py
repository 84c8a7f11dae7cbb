"""The page on which users change their password."""

from urllib.parse import urlencode

import pytest
from fastapi.testclient import TestClient
from support.authorization import app
from support.authorizing import an_app
from support.defaults import ALICE, PASSWORD, MovableClock
from support.sign_in_browser import Page, SignInBrowser
from support.signed_in import browser_of, is_valid, start_family, start_session

from issuer.oauth import AuthMethod
from issuer.services import Issuer
from issuer.sessions.session import BrowserSession
from issuer.throttling.limits import DEVICE
from issuer.web.pages.browser import cookie_name

NEW = "nine calm bisons whisper"


@pytest.fixture
def signed_in(issuer: Issuer, web: TestClient, alice: str) -> tuple[SignInBrowser, BrowserSession]:
    return browser_of(issuer, web, alice)


@pytest.fixture
def browser(signed_in: tuple[SignInBrowser, BrowserSession]) -> SignInBrowser:
    return signed_in[0]


@pytest.fixture
def url(issuer: Issuer) -> str:
    return f"{issuer.settings.url}/account/password"


def change(browser: SignInBrowser, url: str, old: str, new: str) -> Page:
    page = browser.open(url)
    return browser.submit(page, page.form_with("new_password"), password=old, new_password=new)


def test_a_changed_password_ends_everything_but_this_browser_session_which_gets_a_new_secret(
    issuer: Issuer,
    web: TestClient,
    signed_in: tuple[SignInBrowser, BrowserSession],
    alice: str,
    url: str,
    clock: MovableClock,
) -> None:
    browser, session = signed_in
    cookie = cookie_name(issuer.settings.url)
    before = web.cookies[cookie]
    client = app(auth_method=AuthMethod.NONE)
    _, other = start_session(issuer, alice)
    tokens = [start_family(issuer, alice, client, clock(), of)[1] for of in (None, session.id)]
    clock.advance(seconds=5)
    page = change(browser, url, PASSWORD, NEW)
    assert page.path == "/account"
    assert "Your password was changed. All other sessions were ended." in page.text
    assert web.post("/login", data=ALICE).status_code == 401
    assert web.post("/login", data={**ALICE, "password": NEW}).status_code == 200
    store = issuer.sessions.store
    assert [store.find(secret, clock()) for secret in (before, other)] == [None, None]
    now_signed_in = store.find(web.cookies[cookie], clock())
    assert now_signed_in
    assert (now_signed_in.id, now_signed_in.auth_time) == (session.id, clock())
    assert not any(is_valid(issuer, token) for token in tokens)


def test_a_code_from_before_the_change_is_void(
    issuer: Issuer, web: TestClient, browser: SignInBrowser, url: str
) -> None:
    """Whoever has a copy of the old cookie could otherwise begin a session after the change."""
    thief = an_app(issuer, AuthMethod.NONE)
    request = f"{issuer.settings.url}/oauth2/authorize?{urlencode(thief.request())}"
    code = browser.open(request).parameters["code"]
    assert change(browser, url, PASSWORD, NEW).path == "/account"
    refused = thief.redeems(web, code)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    assert thief.redeems(web, browser.open(request).parameters["code"]).status_code == 200


def test_blanks_around_a_new_password_count(web: TestClient, browser: SignInBrowser, url: str) -> None:
    change(browser, url, PASSWORD, f" {NEW} ")
    assert web.post("/login", data={**ALICE, "password": NEW}).status_code == 401
    assert web.post("/login", data={**ALICE, "password": f" {NEW} "}).status_code == 200


@pytest.mark.parametrize(
    ("new", "text"),
    [
        ("", "The new password is missing."),
        ("short", "Password must have at least 12 characters."),
        ("alice12345678", "Password is among the most common ones"),
        ("password123456", "Password is among the most common ones"),
    ],
)
def test_a_weak_new_password_is_refused_in_the_form(
    web: TestClient, browser: SignInBrowser, url: str, new: str, text: str
) -> None:
    page = change(browser, url, PASSWORD, new)
    assert (page.status, page.path) == (400, "/account/password")
    assert text in page.text
    assert "<title>Error: " in page.text
    assert 'aria-describedby="error-1' in page.text
    assert web.post("/login", data=ALICE).status_code == 200


def test_a_wrong_current_password_is_refused_and_counted_as_at_log_in(
    issuer: Issuer, web: TestClient, browser: SignInBrowser, url: str
) -> None:
    for _ in range(DEVICE.free + 1):
        page = change(browser, url, "not the password", NEW)
        assert page.status == 401
        assert "The current password is wrong." in page.text
        assert "not the password" not in page.text
        assert NEW not in page.text
    page = change(browser, url, PASSWORD, NEW)
    assert page.status == 429
    assert "too many failed attempts" in page.text
    assert int(page.headers["retry-after"]) >= 1
    assert web.post(f"{issuer.settings.url}/login", data=ALICE).status_code == 429
