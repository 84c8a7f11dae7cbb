"""`/forgot` and `/confirm-address`: pages of users who can be reached by mail."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from support.defaults import ALICE, PASSWORD, Build, MovableClock, bearer
from support.mail_server import MailServer, mail_server, text_of
from support.mailing import a_user, deliver, path_in, sending
from support.page_forms import send, sign_in

from issuer.accounts.profile import Profile
from issuer.accounts.user import User
from issuer.database.work_queue import Round
from issuer.services import Issuer
from issuer.settings.settings import Settings
from issuer.throttling.limits import MAIL, RESET
from issuer.web.app import create_app

NEW = "nine herons paint quietly"


@pytest.fixture(autouse=True)
def poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the sending to the tests."""
    monkeypatch.setattr("issuer.web.operation.background.MAIL_POLL", timedelta(hours=1))


@pytest.fixture
def server() -> Iterator[MailServer]:
    with mail_server() as server:
        yield server


@pytest.fixture
def settings(settings: Settings, server: MailServer) -> Settings:
    return sending(settings, server)


@pytest.fixture
def alice(issuer: Issuer) -> User:
    return a_user(issuer)


def ask(web: TestClient, name: str, **headers: str) -> Any:
    return send(web, "/forgot", web.get("/forgot").text, headers, username=name)


def stored(issuer: Issuer, user: User) -> User:
    found = issuer.accounts.store.by_id(user.id)
    assert found
    return found


# A forgotten password


def test_a_user_who_forgot_the_password_chooses_another_with_a_link_by_mail(
    issuer: Issuer, web: TestClient, alice: User, server: MailServer
) -> None:
    page = web.get("/signin").text
    assert 'href="/forgot">Forgot your password?</a>' in page
    answer = ask(web, "alice@example.com")
    assert (answer.status_code, "Look at your mail" in answer.text) == (200, True)
    assert deliver(issuer) == Round(delivered=1)
    form = web.get(path_in(server.messages[0])).text
    assert send(web, "/reset", form, new_password=NEW).status_code == 303
    for used in (web.get(path_in(server.messages[0])), send(web, "/reset", form, new_password=NEW)):
        assert (used.status_code, "This link is not valid" in used.text) == (400, True)
        assert 'href="/forgot">Get another link</a>' in used.text
    assert sign_in(web, "alice", PASSWORD).status_code == 401
    assert sign_in(web, "alice", NEW).headers["location"] == "/account"
    deliver(issuer)
    subjects = [message["Subject"] for message in server.messages]
    assert "Your password was changed" in subjects


def test_a_link_that_was_sent_is_void_after_a_change_of_the_address(
    issuer: Issuer, web: TestClient, alice: User, server: MailServer
) -> None:
    ask(web, "alice@example.com")
    deliver(issuer)
    link = path_in(server.messages[0])
    assert web.get(link).status_code == 200
    other = Profile(alice.name, "alice@elsewhere.example", email_verified=True)
    issuer.accounts.store.set_profile(alice.id, other, issuer.clock())
    assert web.get(link).status_code == 400


def test_the_answer_is_the_same_for_every_name_and_address(web: TestClient, alice: User) -> None:
    answers = [ask(web, name) for name in ("alice", "alice@example.com", "bob", "bob@example.com", "\u0130")]
    assert {(answer.status_code, answer.text) for answer in answers} == {(200, answers[0].text)}


def test_no_account_is_looked_up_before_the_answer(
    issuer: Issuer, web: TestClient, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looked_up(*_: object) -> None:
        raise AssertionError("an account was looked up")

    page = web.get("/forgot").text
    for name in ("by_username", "by_email", "by_id"):
        monkeypatch.setattr(issuer.accounts.store, name, looked_up)
    assert send(web, "/forgot", page, username="alice").status_code == 200


def test_requests_of_one_address_are_limited(web: TestClient) -> None:
    for _ in range(RESET.free + 1):
        assert ask(web, "nobody").status_code == 200
    answer = ask(web, "nobody")
    assert (answer.status_code, int(answer.headers["retry-after"]) >= 1) == (429, True)
    assert 'action="/forgot"' in answer.text


@pytest.mark.parametrize(
    ("name", "headers", "text"),
    [("", {}, "Enter your username"), ("alice", {"Sec-Fetch-Site": "cross-site"}, "Error:")],
)
def test_an_empty_form_and_one_of_another_site_queue_nothing(
    issuer: Issuer, web: TestClient, alice: User, name: str, headers: dict[str, str], text: str
) -> None:
    answer = ask(web, name, **headers)
    assert answer.status_code == 400
    assert text in answer.text
    assert deliver(issuer) == Round()


def test_without_a_mail_server_nothing_offers_mail(made: Build, settings: Settings) -> None:
    issuer = made(settings.model_copy(update={"smtp_url": None}))
    with TestClient(create_app(issuer)) as web:
        assert "Forgot" not in web.get("/signin").text
        for method in ("GET", "POST"):
            answer = web.request(method, "/forgot", data={"username": "alice"} if method == "POST" else None)
            assert answer.status_code == 404


# An e-mail address


@pytest.fixture
def headers(web: TestClient, alice: User) -> dict[str, str]:
    return bearer(web.post("/login", data=ALICE).json()["access_token"])


def test_another_address_is_stored_when_it_is_confirmed_with_link_and_password(
    issuer: Issuer, web: TestClient, alice: User, server: MailServer, headers: dict[str, str]
) -> None:
    deliver(issuer)
    server.messages.clear()
    change = {"email": "new@example.com", "name": "Alice"}
    answer = web.patch("/users/me", json=change, headers=headers).json()
    assert (answer["email"], answer["name"]) == ("alice@example.com", "Alice")
    deliver(issuer)
    (message,) = server.messages
    assert message["To"] == "new@example.com"
    page = web.get(path_in(message)).text
    assert "new@example.com" in page
    assert stored(issuer, alice).email == "alice@example.com", "opening a link changes nothing"
    wrong = send(web, "/confirm-address", page, password="wrong")
    assert (wrong.status_code, "The password is wrong." in wrong.text) == (401, True)
    done = send(web, "/confirm-address", page, password=PASSWORD)
    assert (done.status_code, "Your address is confirmed" in done.text) == (200, True)
    assert (stored(issuer, alice).email, stored(issuer, alice).email_verified) == ("new@example.com", True)
    assert web.get(path_in(message)).status_code == 400
    deliver(issuer)
    notice = server.messages[-1]
    assert (notice["To"], notice["Subject"]) == ("alice@example.com", "Your e-mail address was changed")
    assert "new@example.com" not in text_of(notice)


def test_a_link_for_an_address_expires_and_is_void_after_another_change(
    issuer: Issuer, web: TestClient, alice: User, clock: MovableClock
) -> None:
    links = issuer.administration.address_links
    first, second = (links.token(alice, f"{name}@example.com", clock()) for name in ("first", "second"))
    page = web.get(f"/confirm-address?token={first}").text
    assert send(web, "/confirm-address", page, password=PASSWORD).status_code == 200
    assert web.get(f"/confirm-address?token={second}").status_code == 400
    third = links.token(stored(issuer, alice), "third@example.com", clock())
    clock.advance(hours=24)
    assert web.get(f"/confirm-address?token={third}").status_code == 400
    for other in ("", "x", issuer.administration.reset_links.token(alice, clock())):
        assert web.get("/confirm-address", params={"token": other}).status_code == 400


def test_a_form_of_another_site_confirms_nothing(issuer: Issuer, web: TestClient, alice: User) -> None:
    token = issuer.administration.address_links.token(alice, "new@example.com", issuer.clock())
    page = web.get(f"/confirm-address?token={token}").text
    site = {"Sec-Fetch-Site": "cross-site"}
    assert send(web, "/confirm-address", page, site, password=PASSWORD).status_code == 400
    assert stored(issuer, alice).email == "alice@example.com"


def test_a_removed_address_gets_a_notice(
    issuer: Issuer, web: TestClient, alice: User, server: MailServer, headers: dict[str, str]
) -> None:
    assert (
        web.patch("/users/me", json={"email": None, "password": PASSWORD}, headers=headers).json()["email"]
        is None
    )
    deliver(issuer)
    assert "Your e-mail address was changed" in [message["Subject"] for message in server.messages]
    assert stored(issuer, alice).email is None


def test_mails_that_applications_ask_for_are_limited(web: TestClient, headers: dict[str, str]) -> None:
    change = {"email": "new@example.com"}
    answers = [web.patch("/users/me", json=change, headers=headers) for _ in range(MAIL.free + 2)]
    assert [answer.status_code for answer in answers] == [200] * (MAIL.free + 1) + [429]


# Who is told


def test_a_password_that_an_application_changed_is_told(
    issuer: Issuer, web: TestClient, alice: User, server: MailServer, headers: dict[str, str]
) -> None:
    change = {"password": PASSWORD, "new_password": NEW}
    assert web.post("/users/me/password", json=change, headers=headers).status_code == 204
    deliver(issuer)
    assert "Your password was changed" in [message["Subject"] for message in server.messages]
