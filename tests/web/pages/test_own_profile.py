"""The page on which users change their name and e-mail address."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient
from support.defaults import PASSWORD, Build
from support.mail_server import MailServer, mail_server
from support.mailing import a_user, deliver, sending
from support.sign_in_browser import Page, SignInBrowser
from support.signed_in import browser_of

from issuer.accounts.profile import Profile
from issuer.administration.users import change_profile
from issuer.services import Issuer
from issuer.settings.settings import Settings
from issuer.throttling.limits import MAIL
from issuer.web.app import create_app

PATH = "/account/profile"


def profile(issuer: Issuer) -> Profile:
    user = issuer.accounts.store.by_username("alice")
    assert user
    return Profile(user.name, user.email, user.email_verified)


def save(browser: SignInBrowser, issuer: Issuer, name: str, email: str, password: str = PASSWORD) -> Page:
    page = browser.open(f"{issuer.settings.url}{PATH}")
    return browser.submit(page, page.form_with("email"), name=name, email=email, password=password)


# Without a mail server


@pytest.fixture
def browser(issuer: Issuer, web: TestClient) -> SignInBrowser:
    return browser_of(issuer, web, a_user(issuer).id)[0]


def test_name_and_address_are_saved_and_another_address_is_not_verified(
    issuer: Issuer, browser: SignInBrowser
) -> None:
    assert "alice@example.com" in browser.open(f"{issuer.settings.url}{PATH}").text
    page = save(browser, issuer, "Alice Liddell", "alice@example.com", password="")
    assert (page.path, "were saved" in page.text) == ("/account", True)
    assert profile(issuer) == Profile("Alice Liddell", "alice@example.com", email_verified=True)
    save(browser, issuer, "Alice", "new@example.com")
    assert profile(issuer) == Profile("Alice", "new@example.com")
    save(browser, issuer, "", "")
    assert profile(issuer) == Profile()


@pytest.mark.parametrize("email", ["new@example.com", ""])
@pytest.mark.parametrize(
    ("password", "text"), [("", "The password is missing"), ("wrong", "The current password is wrong.")]
)
def test_an_address_is_replaced_or_removed_with_the_password_only(
    issuer: Issuer, browser: SignInBrowser, email: str, password: str, text: str
) -> None:
    page = save(browser, issuer, "Mallory", email, password)
    assert (page.path, text in page.text, 'aria-invalid="true"' in page.text) == (PATH, True, True)
    assert profile(issuer) == Profile(None, "alice@example.com", email_verified=True)


@pytest.mark.parametrize(
    ("name", "email", "text"),
    [("x" * 201, "", "a name has at most"), ("", "nobody", "is not an e-mail address")],
)
def test_a_value_that_is_not_accepted_is_explained_in_the_form(
    issuer: Issuer, browser: SignInBrowser, name: str, email: str, text: str
) -> None:
    page = save(browser, issuer, name, email)
    assert (page.status, page.path) == (400, PATH)
    assert text in page.text.replace("A name", "a name")
    assert 'aria-invalid="true"' in page.text
    assert profile(issuer).email == "alice@example.com"


def test_who_is_not_signed_in_is_sent_to_the_sign_in(web: TestClient) -> None:
    for method in ("GET", "POST"):
        form = {"data": {"name": "Mallory"}} if method == "POST" else {}
        answer = web.request(method, PATH, follow_redirects=False, **form)  # type: ignore[arg-type]
        assert (answer.status_code, answer.headers["location"]) == (303, "/signin")


def test_a_form_of_another_page_changes_nothing(issuer: Issuer, browser: SignInBrowser) -> None:
    page = browser.post(f"{issuer.settings.url}{PATH}", {"name": "Mallory", "form_token": "x"})
    assert page.status == 400
    assert profile(issuer).name is None


# With one


@pytest.fixture
def server() -> Iterator[MailServer]:
    with mail_server() as server:
        yield server


@pytest.fixture
def mailing(
    made: Build, settings: Settings, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Issuer, SignInBrowser]]:
    """An issuer that sends mails, when the test says so, and a browser of alice."""
    monkeypatch.setattr("issuer.web.operation.background.MAIL_POLL", timedelta(hours=1))
    issuer = made(sending(settings, server))
    with TestClient(create_app(issuer)) as web:
        yield issuer, browser_of(issuer, web, a_user(issuer).id)[0]


def test_another_address_gets_a_message_first(
    mailing: tuple[Issuer, SignInBrowser], server: MailServer
) -> None:
    issuer, browser = mailing
    page = save(browser, issuer, "Alice", "new@example.com")
    assert (page.path, "on its way to the address" in page.text) == ("/account", True)
    assert profile(issuer) == Profile("Alice", "alice@example.com", email_verified=True)
    assert deliver(issuer).delivered == 1
    assert server.recipients() == ["new@example.com"]


@pytest.mark.parametrize("is_verified", [True, False])
def test_the_same_address_gets_none(mailing: tuple[Issuer, SignInBrowser], is_verified: bool) -> None:
    issuer, browser = mailing
    alice = issuer.accounts.store.by_username("alice")
    assert alice
    store, mails = issuer.accounts.store, issuer.administration.mails
    change_profile(store, mails, alice, issuer.clock(), email_verified=is_verified)
    assert "were saved" in save(browser, issuer, "Alice", " alice@example.com ").text
    assert deliver(issuer).delivered == 0


def test_a_user_asks_for_another_message_to_an_address_that_is_not_verified(
    mailing: tuple[Issuer, SignInBrowser], server: MailServer
) -> None:
    issuer, browser = mailing
    alice = issuer.accounts.store.by_username("alice")
    assert alice
    assert "Send again" not in browser.open(f"{issuer.settings.url}{PATH}").text
    store, mails = issuer.accounts.store, issuer.administration.mails
    change_profile(store, mails, alice, issuer.clock(), name="Alice", email_verified=False)
    for number in range(MAIL.free + 2):
        page = browser.open(f"{issuer.settings.url}{PATH}")
        (form,) = [form for form in page.forms if [button.text for button in form.buttons] == ["Send again"]]
        again = browser.submit(page, form, "Send again")
        if number <= MAIL.free:
            assert (again.path, "on its way to the address" in again.text) == ("/account", True)
    assert again.status == 429
    assert deliver(issuer).delivered == MAIL.free + 1
    assert set(server.recipients()) == {"alice@example.com"}
    assert profile(issuer) == Profile("Alice", "alice@example.com")


def test_an_address_is_removed_with_the_password_only_and_gets_a_notice(
    mailing: tuple[Issuer, SignInBrowser], server: MailServer
) -> None:
    issuer, browser = mailing
    assert save(browser, issuer, "", "", password="").path == PATH
    assert profile(issuer).email == "alice@example.com"
    assert save(browser, issuer, "", "").path == "/account"
    assert profile(issuer) == Profile()
    deliver(issuer)
    assert "Your e-mail address was changed" in [message["Subject"] for message in server.messages]


def test_messages_to_one_address_are_limited(mailing: tuple[Issuer, SignInBrowser]) -> None:
    issuer, browser = mailing
    pages = [save(browser, issuer, "", "new@example.com") for _ in range(MAIL.free + 2)]
    assert [page.status for page in pages] == [200] * (MAIL.free + 1) + [429]
