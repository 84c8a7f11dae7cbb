"""`/signup`: accounts that users create on the way to an application or for themselves."""

import re

import pytest
from fastapi.testclient import TestClient
from support.authorizing import an_app, page
from support.defaults import ALICE, PASSWORD, Build
from support.page_forms import fields_of, send, session_of, sign_in

from issuer.services import Issuer
from issuer.settings.settings import Settings
from issuer.web.app import create_app

BOB = {"username": "bob", "password": PASSWORD}


def test_a_new_user_is_signed_in(web: TestClient, issuer: Issuer) -> None:
    shown = web.get("/signup").text
    assert 'autocomplete="new-password"' in shown
    assert "At least 12 characters" in shown
    answer = send(web, "/signup", shown, **BOB)
    assert (answer.status_code, answer.headers["location"]) == (303, "/account")
    session, user = session_of(web, issuer), issuer.accounts.store.by_username("bob")
    assert session
    assert user
    assert session.user_id == user.id


def test_an_application_that_asks_for_an_account_gets_its_code(web: TestClient, issuer: Issuer) -> None:
    location = an_app(issuer).asks(web, prompt="create").headers["location"]
    assert location.startswith("/signup?ticket=")
    shown = web.get(location).text
    assert "<strong>an app</strong> (app.example)" in shown
    answer = send(web, "/signup", shown, **BOB)
    assert page(answer)[0] == "/oauth2/authorize"
    assert "code=" in web.get(answer.headers["location"], follow_redirects=False).headers["location"]


def test_the_two_pages_lead_to_each_other_with_the_request(web: TestClient, issuer: Issuer) -> None:
    location = an_app(issuer).asks(web).headers["location"]
    (signup,) = re.findall(r'href="(/signup\?[^"]+)"', web.get(location).text)
    (signin,) = re.findall(r'href="(/signin\?[^"]+)"', web.get(signup).text)
    assert "an app" in web.get(signin).text


@pytest.mark.parametrize(
    ("given", "status", "field", "error"),
    [
        ({"password": "short"}, 400, "password", "Password must have at least 12 characters."),
        ({"password": "password1234"}, 400, "password", "among the most common ones"),
        ({"username": "b b"}, 400, "username", "Username may hold letters, digits"),
        ({"username": "Alice"}, 409, "username", "This username is taken; choose another."),
        ({"password": ""}, 400, "password", "Enter a password."),
        ({"username": ""}, 400, "username", "Enter a username."),
    ],
)
def test_an_error_is_tied_to_its_field(
    web: TestClient, alice: str, given: dict[str, str], status: int, field: str, error: str
) -> None:
    typed = {**BOB, **given}
    answer = send(web, "/signup", web.get("/signup").text, **typed)
    assert answer.status_code == status
    assert error in answer.text
    assert "<title>Error: Create an account" in answer.text
    (named,) = re.findall(r'name="(\w+)"[^>]*aria-invalid="true" aria-describedby="error-1', answer.text)
    assert named == field
    fields = fields_of(answer.text)
    assert (fields["username"], fields["password"]) == (typed["username"], "")


def test_registrations_are_limited_by_address(web: TestClient) -> None:
    def attempt(number: int) -> int:
        typed = {"username": f"bob{number}", "password": "short"}
        status: int = send(web, "/signup", web.get("/signup").text, **typed).status_code
        return status

    statuses = [attempt(number) for number in range(40)]
    assert statuses[0] == 400
    assert statuses[-1] == 429


def test_closed_registration_is_told_and_not_offered(made: Build, settings: Settings) -> None:
    issuer = made(settings.model_copy(update={"registration": "closed"}))
    with TestClient(create_app(issuer)) as web:
        assert "/signup" not in web.get("/signin").text
        answer = web.get("/signup")
        assert answer.status_code == 403
        assert "Registration is closed at this issuer; ask the operator for an account." in answer.text
        form = {**fields_of(web.get("/signin").text), **BOB}
        assert web.post("/signup", data=form).status_code == 403


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_a_form_from_another_site_makes_no_account(
    web: TestClient, issuer: Issuer, headers: dict[str, str]
) -> None:
    answer = send(web, "/signup", web.get("/signup").text, headers, **BOB)
    assert answer.status_code == 400
    assert "did not come from this page" in answer.text
    assert issuer.accounts.store.by_username("bob") is None
    assert fields_of(answer.text)["username"] == "bob"


def test_a_second_account_ends_the_session_of_the_first(web: TestClient, alice: str, issuer: Issuer) -> None:
    sign_in(web, **ALICE)
    first = web.cookies["issuer-session"]
    shown = web.get("/signup").text
    assert "You are signed in as alice." in shown
    send(web, "/signup", shown, **BOB)
    assert issuer.sessions.store.find(first, issuer.clock()) is None
    assert session_of(web, issuer)
