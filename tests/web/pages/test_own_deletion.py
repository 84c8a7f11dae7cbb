"""The page on which users delete their account."""

import pytest
from fastapi.testclient import TestClient
from support.defaults import ALICE, PASSWORD, bearer
from support.sign_in_browser import Page, SignInBrowser
from support.signed_in import browser_of

from issuer.services import Issuer
from issuer.web.pages.browser import cookie_name


@pytest.fixture
def browser(issuer: Issuer, web: TestClient, alice: str) -> SignInBrowser:
    return browser_of(issuer, web, alice)[0]


@pytest.fixture
def url(issuer: Issuer) -> str:
    return f"{issuer.settings.url}/account/delete"


def delete(browser: SignInBrowser, url: str, confirmation: str, password: str) -> Page:
    page = browser.open(url)
    return browser.submit(page, page.form_with("confirmation"), confirmation=confirmation, password=password)


def test_a_deleted_account_is_gone_at_once_and_its_name_stays_reserved(
    issuer: Issuer, web: TestClient, browser: SignInBrowser, alice: str, url: str
) -> None:
    tokens = web.post("/login", data=ALICE).json()
    page = delete(browser, url, "Alice", PASSWORD)
    assert (page.status, page.path) == (200, "/account/deleted")
    assert "Your account was deleted" in page.text
    assert cookie_name(issuer.settings.url) not in web.cookies
    assert web.get("/users/me", headers=bearer(tokens["access_token"])).status_code == 401
    refresh = {
        "grant_type": "refresh_token",
        "refresh_token": tokens["refresh_token"],
        "client_id": "first-party",
    }
    assert web.post("/oauth2/token", data=refresh).status_code == 400
    assert web.post("/login", data=ALICE).status_code == 401
    assert web.post("/users", json=ALICE).status_code == 409
    assert issuer.accounts.store.by_id(alice) is None
    assert issuer.accounts.store.by_username("alice") is None


@pytest.mark.parametrize(
    ("confirmation", "password", "status", "text"),
    [
        ("alice", "not the password", 401, "The password is wrong."),
        ("alice", "", 401, "The password is wrong."),
        ("alicia", PASSWORD, 400, "Type your username to confirm"),
        ("", PASSWORD, 400, "Type your username to confirm"),
    ],
)
def test_an_account_is_not_deleted_without_the_password_and_a_confirmation(
    web: TestClient,
    browser: SignInBrowser,
    url: str,
    confirmation: str,
    password: str,
    status: int,
    text: str,
) -> None:
    page = delete(browser, url, confirmation, password)
    assert page.status == status
    assert text in page.text
    assert web.post("/login", data=ALICE).status_code == 200


def test_the_page_after_a_deletion_needs_no_session(web: TestClient) -> None:
    assert web.get("/account/deleted").status_code == 200
