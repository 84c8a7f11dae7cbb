"""The consent page: what it shows, and that only an answer to what it showed counts."""

import base64
import hashlib
from typing import Any
from urllib.parse import urlencode

import pytest
from fastapi.testclient import TestClient
from support.authorization import REDIRECT_URI, app
from support.defaults import MovableClock
from support.sign_in_browser import Form, Page, SignInBrowser
from support.signed_in import browser_of, start_session, use_session

from issuer.clients.client import Client
from issuer.oauth import AuthMethod, ResponseMode
from issuer.services import Issuer
from issuer.web.app import create_app
from issuer.web.pages.browser import cookie_name

APP = app(auth_method=AuthMethod.NONE, audiences=("https://api.example", "https://mail.example"))
LOOPBACK, SCHEME = "http://127.0.0.1/callback", "com.example.app:/callback"
SCOPE = "openid items:read"


@pytest.fixture
def browser(issuer: Issuer, web: TestClient, alice: str) -> SignInBrowser:
    issuer.clients.store.add(APP)
    return browser_of(issuer, web, alice)[0]


@pytest.fixture
def client_at(issuer: Issuer) -> Any:
    """Change where the client is, and how it is called."""

    def change(**changes: Any) -> Client:
        issuer.clients.store.remove(APP.id)
        changed = app(**{"auth_method": AuthMethod.NONE, "audiences": APP.audiences, **changes})
        with issuer.database.write() as connection:
            connection.exec_driver_sql("DELETE FROM subjects WHERE id = ?", (APP.id,))
        issuer.clients.store.add(changed)
        return changed

    return change


def request_url(issuer: Issuer, **parameters: Any) -> str:
    challenge = base64.urlsafe_b64encode(hashlib.sha256(b"v" * 43).digest()).rstrip(b"=").decode()
    sent = {
        "client_id": APP.id,
        "redirect_uri": REDIRECT_URI,
        "response_type": "code",
        "scope": SCOPE,
        "state": "a state",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        **parameters,
    }
    return f"{issuer.settings.url}/oauth2/authorize?{urlencode(sent, doseq=True)}"


def the_form(page: Page) -> Form:
    return page.form_with("ticket", "form_token")


def test_consent_is_asked_once_and_both_answers_reach_the_client(
    issuer: Issuer, web: TestClient, browser: SignInBrowser
) -> None:
    browser = SignInBrowser(REDIRECT_URI, http=web)
    page = browser.open(request_url(issuer))
    assert (page.status, page.path) == (200, "/consent")
    denied = browser.submit(page, the_form(page), "Do not allow")
    assert denied.parameters["error"] == "access_denied"
    assert (denied.parameters["state"], denied.parameters["iss"]) == ("a state", issuer.settings.url)
    page = browser.open(request_url(issuer))
    assert page.path == "/consent"
    assert "code" in browser.submit(page, the_form(page), "Allow").parameters
    assert "code" in browser.open(request_url(issuer)).parameters


def test_the_page_says_who_asks_for_what_and_where_the_browser_goes(
    issuer: Issuer, browser: SignInBrowser
) -> None:
    scope = "openid profile email offline_access items:read"
    page = browser.open(request_url(issuer, scope=scope, resource="https://api.example"))
    for text in (
        "<strong>Shopping list</strong>", "<strong>alice</strong>", "<strong>app.example</strong>",
        "1 January 2026", "Recognize you when you sign in", "See your username and your name",
        "See your email address", "Stay connected after you sign out", "<code>items:read</code>",
        "<code>https://api.example</code>",
    ):  # fmt: skip
        assert text in page.text
    assert "You allowed this application" not in page.text
    assert "checkbox" not in page.text
    assert "form-action" not in page.headers["content-security-policy"]
    assert page.headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize(
    ("redirect_uri", "text"),
    [
        (LOOPBACK, "<strong>a program on this computer</strong>"),
        (SCHEME, "<strong>an app on this device that opens com.example.app: addresses</strong>"),
    ],
)
def test_a_program_on_the_computer_is_named_as_one_and_asked_about_each_time(
    issuer: Issuer, web: TestClient, browser: SignInBrowser, client_at: Any, redirect_uri: str, text: str
) -> None:
    client_at(redirect_uris=(redirect_uri,))
    browser = SignInBrowser(redirect_uri, http=web)
    for _ in range(2):
        page = browser.open(request_url(issuer, redirect_uri=redirect_uri))
        assert (page.status, page.path) == (200, "/consent")
        assert text in page.text
        answer = browser.submit(page, the_form(page), "Allow")
        assert "code" in answer.parameters, answer
        clock_moves_on(issuer)
    silent = browser.open(request_url(issuer, redirect_uri=redirect_uri, prompt="none"))
    assert silent.parameters["error"] == "consent_required"


def clock_moves_on(issuer: Issuer) -> None:
    clock = issuer.clock
    assert isinstance(clock, MovableClock)
    clock.advance(seconds=10)


@pytest.mark.parametrize(
    ("again", "text"),
    [
        ({"scope": "openid items:read items:write"}, "Now it asks for more."),
        ({"resource": ["https://api.example"]}, "Allow access"),
        ({"prompt": "consent"}, "It asks you to confirm this again."),
    ],
    ids=["scope", "resource", "prompt"],
)
def test_more_than_was_allowed_is_asked_about_with_the_reason(
    issuer: Issuer, web: TestClient, browser: SignInBrowser, again: dict[str, Any], text: str
) -> None:
    browser = SignInBrowser(REDIRECT_URI, http=web)
    page = browser.open(request_url(issuer))
    browser.submit(page, the_form(page), "Allow")
    clock_moves_on(issuer)
    page = browser.open(request_url(issuer, **again))
    assert page.path == "/consent"
    assert text in page.text
    assert ("You allowed this application on 1 January 2026." in page.text) == ("resource" not in again)
    assert ('<span class="tag">new</span>' in page.text) == ("scope" in again)
    assert "code" in browser.submit(page, the_form(page), "Allow").parameters


def test_claims_that_are_requested_by_name_are_asked_about_like_their_scopes(
    issuer: Issuer, web: TestClient, browser: SignInBrowser
) -> None:
    browser = SignInBrowser(REDIRECT_URI, http=web)
    assert browser.visit(request_url(issuer)).parameters["code"]
    page = browser.open(request_url(issuer, claims='{"userinfo": {"sub": null, "email": null}}'))
    assert page.path == "/consent"
    assert "See your email address" in page.text
    assert "See your username and your name" not in page.text
    assert browser.allow(page).parameters["code"]


def test_users_are_asked_again_about_a_client_with_another_name(
    issuer: Issuer, web: TestClient, browser: SignInBrowser, client_at: Any
) -> None:
    browser = SignInBrowser(REDIRECT_URI, http=web)
    page = browser.open(request_url(issuer))
    browser.submit(page, the_form(page), "Allow")
    client_at(name="Bank")
    page = browser.open(request_url(issuer))
    assert page.path == "/consent"
    assert "Its name or its address has changed since." in page.text


def test_a_trusted_client_is_never_asked_about(
    issuer: Issuer, web: TestClient, browser: SignInBrowser, client_at: Any
) -> None:
    client_at(is_trusted=True)
    browser = SignInBrowser(REDIRECT_URI, http=web)
    assert "code" in browser.open(request_url(issuer, prompt="consent")).parameters


def test_an_answer_to_something_else_than_is_asked_now_does_not_count(
    issuer: Issuer, web: TestClient, browser: SignInBrowser, alice: str, client_at: Any
) -> None:
    page = browser.open(request_url(issuer))
    form = the_form(page)
    other = the_form(browser.open(request_url(issuer, scope="openid items:read items:write")))
    mixed = browser.submit(page, form, "Allow", ticket=other.fields["ticket"])
    assert (mixed.status, "nothing was allowed" in mixed.text) == (400, True)
    client_at(name="Bank")
    renamed = browser.submit(page, form, "Allow")
    assert (renamed.status, "nothing was allowed" in renamed.text) == (400, True)
    assert "Bank" in renamed.text
    assert issuer.authorize.consents.of_user(alice) == ([], [])


def test_a_form_without_an_answer_allows_nothing(
    issuer: Issuer, web: TestClient, browser: SignInBrowser, alice: str
) -> None:
    form = the_form(browser.open(request_url(issuer)))
    for decision in ({}, {"decision": "maybe"}):
        answer = web.post(form.action, data={**form.fields, **decision}, follow_redirects=False)
        assert answer.status_code == 400
    assert issuer.authorize.consents.of_user(alice) == ([], [])


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}], ids=["origin", "fetch"]
)
def test_a_form_that_another_site_sends_is_refused(
    issuer: Issuer, web: TestClient, browser: SignInBrowser, alice: str, headers: dict[str, str]
) -> None:
    form = the_form(browser.open(request_url(issuer)))
    data = {**form.fields, "decision": "allow"}
    answer = web.post(form.action, data=data, headers=headers, follow_redirects=False)
    assert answer.status_code == 400
    assert issuer.authorize.consents.of_user(alice) == ([], [])


def test_a_form_of_another_browser_or_of_an_earlier_session_is_refused(
    issuer: Issuer, web: TestClient, browser: SignInBrowser, alice: str
) -> None:
    form = the_form(browser.open(request_url(issuer)))
    data = {**form.fields, "decision": "allow"}
    _, secret = start_session(issuer, alice)
    another = TestClient(create_app(issuer), raise_server_exceptions=False)
    use_session(issuer, another, secret)
    answer = another.post(form.action, data=data, follow_redirects=False)
    assert answer.status_code == 400
    assert "belongs to another browser" in answer.text
    use_session(issuer, web, secret)
    answer = web.post(form.action, data=data, follow_redirects=False)
    assert answer.status_code == 400
    assert issuer.authorize.consents.of_user(alice) == ([], [])


def test_without_a_session_the_page_goes_back_to_the_request(
    issuer: Issuer, web: TestClient, browser: SignInBrowser
) -> None:
    page = browser.open(request_url(issuer))
    form = the_form(page)
    del web.cookies[cookie_name(issuer.settings.url)]
    for answer in (
        web.get(page.url, follow_redirects=False),
        web.post(form.action, data={**form.fields, "decision": "allow"}, follow_redirects=False),
    ):
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/oauth2/authorize?ticket=")


@pytest.mark.parametrize("ticket", ["", "changed"])
def test_a_ticket_that_is_not_valid_is_said_to_be(
    issuer: Issuer, browser: SignInBrowser, ticket: str
) -> None:
    page = browser.open(f"{issuer.settings.url}/consent?{urlencode({'ticket': ticket})}")
    assert page.status == 400
    assert "Go back to the application" in page.text


def test_the_answer_reaches_a_client_that_asked_for_a_form(issuer: Issuer, browser: SignInBrowser) -> None:
    page = browser.open(request_url(issuer, response_mode=ResponseMode.FORM_POST.value))
    denied = browser.submit(page, the_form(page), "Do not allow")
    assert denied.status == 200
    assert denied.forms[0].action == REDIRECT_URI
    assert denied.forms[0].fields["error"] == "access_denied"


def test_another_account_can_be_used(issuer: Issuer, browser: SignInBrowser) -> None:
    page = browser.open(request_url(issuer))
    path = page.text.partition('href="/signin?')[2].partition('"')[0].replace("&amp;", "&")
    assert "reason=switch" in path
    signin = browser.open(f"{issuer.settings.url}/signin?{path}")
    assert signin.status == 200
    assert "Shopping list" in signin.text
    assert signin.form_with("username", "password").fields["ticket"]
