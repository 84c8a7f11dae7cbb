"""The account page: what it shows, and that its forms change what is the user's own, and nothing by other sites."""

import pytest
from fastapi.testclient import TestClient
from support.authorization import SCOPE, a_request, app
from support.defaults import ALICE, PASSWORD, Build, MovableClock, bearer
from support.sign_in_browser import Form, Page, SignInBrowser
from support.signed_in import browser_of, is_valid, start_family, start_session, use_session

from issuer.accounts.registration import register_user
from issuer.clients.client import FIRST_PARTY
from issuer.oauth import AuthMethod
from issuer.services import Issuer
from issuer.sessions.session import BrowserSession
from issuer.settings.settings import Settings
from issuer.web.app import create_app

APP = app(auth_method=AuthMethod.NONE)
BOB = {"username": "bob", "password": "seven lazy walruses yodel"}


@pytest.fixture
def bob(web: TestClient, alice: str, issuer: Issuer) -> str:
    assert web.post("/users", json=BOB).status_code == 201
    user = issuer.accounts.store.by_username("bob")
    assert user
    return user.id


@pytest.fixture
def signed_in(issuer: Issuer, web: TestClient, alice: str) -> tuple[SignInBrowser, BrowserSession]:
    issuer.clients.store.add(APP)
    return browser_of(issuer, web, alice)


@pytest.fixture
def browser(signed_in: tuple[SignInBrowser, BrowserSession]) -> SignInBrowser:
    return signed_in[0]


@pytest.fixture
def account(issuer: Issuer) -> str:
    return f"{issuer.settings.url}/account"


def form_to(page: Page, action: str, **fields: str) -> Form:
    """The one form of a page that is sent to a path, with these values."""
    found = [
        form for form in page.forms if form.action.endswith(action) and fields.items() <= form.fields.items()
    ]
    assert len(found) == 1, page.text
    return found[0]


def test_without_a_session_the_account_pages_lead_to_the_sign_in_page(web: TestClient) -> None:
    for path in ("/account", "/account/profile", "/account/password", "/account/delete"):
        answer = web.get(path, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "/signin")


@pytest.mark.parametrize(
    "path",
    ["password", "delete", "sessions/end", "sessions/end-others", "applications/withdraw"],
)
def test_no_form_is_accepted_without_a_session(web: TestClient, path: str) -> None:
    answer = web.post(f"/account/{path}", data={"form_token": "x"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/signin")


def test_the_page_shows_the_user_sessions_and_applications_in_words(
    issuer: Issuer, browser: SignInBrowser, alice: str, account: str, clock: MovableClock
) -> None:
    issuer.authorize.consents.give(alice, a_request(APP), SCOPE | {"offline_access"}, clock(), clock())
    start_family(issuer, alice, FIRST_PARTY, clock())
    clock.advance(hours=1, minutes=30)
    page = browser.open(account)
    assert page.status == 200
    for text in (
        "alice", "Firefox on Linux", "this browser", "203.0.113.7", "since 1 January 2026", "1 hour ago",
        "Shopping list", "Recognize you when you sign in", "<code>items:read</code>", "python-httpx",
        "Stay connected after you sign out",
    ):  # fmt: skip
        assert text in page.text
    assert "form-action 'self'" in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["referrer-policy"] == "same-origin"


def test_one_session_of_a_browser_or_of_a_program_is_ended(
    issuer: Issuer, browser: SignInBrowser, alice: str, account: str, clock: MovableClock
) -> None:
    other, secret = start_session(issuer, alice, "curl/8.0")
    _, ends_with_it = start_family(issuer, alice, APP, clock(), other.id)
    program, token = start_family(issuer, alice, FIRST_PARTY, clock())
    _, stays = start_family(issuer, alice, FIRST_PARTY, clock())
    for session in (other.id, program.id):
        page = browser.open(account)
        page = browser.submit(page, form_to(page, "/sessions/end", session=session))
        assert "The session was ended." in page.text
        assert page.url == f"{account}?done=session"
    assert issuer.sessions.store.find(secret, clock()) is None
    assert [is_valid(issuer, each) for each in (ends_with_it, token, stays)] == [False, False, True]


def test_all_other_sessions_are_ended_at_once(
    issuer: Issuer,
    signed_in: tuple[SignInBrowser, BrowserSession],
    alice: str,
    bob: str,
    account: str,
    clock: MovableClock,
) -> None:
    browser, session = signed_in
    _, other = start_session(issuer, alice)
    _, of_bob = start_session(issuer, bob)
    _, of_this = start_family(issuer, alice, APP, clock(), session.id)
    _, program = start_family(issuer, alice, FIRST_PARTY, clock())
    page = browser.open(account)
    page = browser.submit(page, form_to(page, "/sessions/end-others"))
    assert "All other sessions were ended." in page.text
    assert issuer.sessions.store.find(other, clock()) is None
    assert issuer.sessions.store.find(of_bob, clock()) is not None
    assert (is_valid(issuer, of_this), is_valid(issuer, program)) == (True, False)


def test_withdrawing_disconnects_the_application_and_its_refresh_token_is_refused(
    issuer: Issuer, web: TestClient, browser: SignInBrowser, alice: str, account: str, clock: MovableClock
) -> None:
    issuer.authorize.consents.give(alice, a_request(APP), SCOPE, clock(), clock())
    _, token = start_family(issuer, alice, APP, clock())
    page = browser.open(account)
    page = browser.submit(page, form_to(page, "/applications/withdraw", application=APP.id))
    assert "The application was disconnected" in page.text
    assert "You have not allowed any application" in page.text
    refresh = {"grant_type": "refresh_token", "refresh_token": token, "client_id": APP.id}
    answer = web.post("/oauth2/token", data=refresh)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert issuer.authorize.consents.covers(alice, a_request(APP), SCOPE, clock(), clock()).needed


def test_sessions_and_applications_of_another_user_cannot_be_ended(
    issuer: Issuer, browser: SignInBrowser, bob: str, alice: str, account: str, clock: MovableClock
) -> None:
    issuer.authorize.consents.give(bob, a_request(APP), SCOPE, clock(), clock())
    _, theirs = start_session(issuer, bob)
    family, token = start_family(issuer, bob, APP, clock())
    start_session(issuer, alice)
    page = browser.open(account)
    (form,) = [form for form in page.forms if form.action.endswith("/sessions/end")]
    refused = browser.submit(page, form, session=family.id)  # the token is for another session
    assert refused.status == 400
    # Whoever made a valid form for it would end nothing either.
    issuer.authorize.consents.withdraw(alice, APP.id, clock())
    assert not issuer.tokens.families.end(family.id, clock(), user_id=alice)
    assert is_valid(issuer, token)
    assert issuer.sessions.store.find(theirs, clock()) is not None
    assert not issuer.authorize.consents.covers(bob, a_request(APP), SCOPE, clock(), clock()).needed


@pytest.fixture
def other_web(issuer: Issuer, web: TestClient) -> TestClient:
    """Another browser."""
    return TestClient(create_app(issuer), raise_server_exceptions=False)


@pytest.mark.parametrize("path", ["", "/password", "/delete"], ids=["account", "password", "delete"])
def test_forms_are_refused_from_other_sites_browsers_and_sessions(
    issuer: Issuer,
    web: TestClient,
    other_web: TestClient,
    browser: SignInBrowser,
    alice: str,
    account: str,
    clock: MovableClock,
    path: str,
) -> None:
    issuer.authorize.consents.give(alice, a_request(APP), SCOPE, clock(), clock())
    other, secret = start_session(issuer, alice)
    _, token = start_family(issuer, alice, APP, clock())
    typed = {"password": PASSWORD, "new_password": "nine calm bisons whisper", "confirmation": "alice"}
    forms = browser.open(account + path).forms
    assert len(forms) == (4 if not path else 1)
    for form in forms:
        filled = {**form.fields, **typed}
        for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            assert web.post(form.action, data=filled, headers=headers).status_code == 400
        for wrong in ("", "x", filled["form_token"][:-1]):
            assert web.post(form.action, data={**filled, "form_token": wrong}).status_code == 400
        use_session(issuer, other_web, secret)
        assert other_web.post(form.action, data=filled, follow_redirects=False).status_code == 400
    assert issuer.sessions.store.find(secret, clock()) is not None
    assert is_valid(issuer, token)
    assert web.post("/login", data=ALICE).status_code == 200
    assert other.user_id == alice


def test_a_token_for_one_form_is_of_no_use_in_another(
    issuer: Issuer, web: TestClient, browser: SignInBrowser, alice: str, account: str
) -> None:
    _, secret = start_session(issuer, alice)
    page = browser.open(account)
    token = form_to(page, "/sessions/end").fields["form_token"]
    for path in ("sessions/end-others", "applications/withdraw", "password", "delete"):
        data = {"form_token": token, "confirmation": "alice", "password": PASSWORD, "new_password": "x"}
        assert web.post(f"{account}/{path}", data=data, follow_redirects=False).status_code == 400
    assert issuer.sessions.store.find(secret, issuer.clock()) is not None


def test_an_unknown_notice_is_not_shown(browser: SignInBrowser, account: str) -> None:
    page = browser.open(f"{account}?done=%3Cscript%3E")
    assert page.status == 200
    assert 'role="status"' not in page.text


def test_the_access_token_of_a_session_that_was_ended_is_refused_here(
    issuer: Issuer, web: TestClient, browser: SignInBrowser, alice: str, account: str
) -> None:
    access_token = web.post("/login", data=ALICE).json()["access_token"]
    assert web.get("/users/me", headers=bearer(access_token)).status_code == 200
    page = browser.open(account)
    browser.submit(page, form_to(page, "/sessions/end-others"))
    assert web.get("/users/me", headers=bearer(access_token)).status_code == 401


def test_pages_of_an_issuer_below_a_path_lead_to_pages_below_it(made: Build, settings: Settings) -> None:
    issuer = made(settings.model_copy(update={"url": "http://127.0.0.1:8000/auth"}))
    with TestClient(create_app(issuer)) as web:
        answer = web.get("/auth/account", follow_redirects=False)
        assert answer.headers["location"] == "/auth/signin"
        alice = register_user(issuer.accounts.store, issuer.accounts.passwords, **ALICE, now=issuer.clock())
        browser, _ = browser_of(issuer, web, alice.id)
        start_session(issuer, alice.id)
        page = browser.open(f"{issuer.settings.url}/account")
        page = browser.submit(page, form_to(page, "/auth/account/sessions/end-others"))
        assert (page.status, page.path) == (200, "/auth/account")
