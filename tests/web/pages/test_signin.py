"""`/signin`: the form, attempts to sign in, the sessions that they start, and attacks on all of them."""

import re

import pytest
from fastapi.testclient import TestClient
from support.authorizing import App, an_app, page
from support.defaults import ALICE, PASSWORD, Build, MovableClock
from support.page_forms import fields_of, send, session_of, sign_in, without_session

from issuer.services import Issuer
from issuer.settings.settings import Settings
from issuer.web.app import create_app

BOB = {"username": "bob", "password": "seven lazy walruses yodel"}
WRONG = "The username or the password is wrong."


@pytest.fixture
def app(issuer: Issuer) -> App:
    return an_app(issuer)


def sent_to(web: TestClient, app: App, **changes: str | None) -> str:
    """Return the URL of the page that an application's request leads to."""
    location: str = app.asks(web, **changes).headers["location"]
    return location


def test_the_form_can_be_filled_by_password_managers(web: TestClient) -> None:
    form = web.get("/signin").text
    assert re.search(
        r'<input id="username" name="username" type="text" autocomplete="username" required', form
    )
    assert re.search(r'name="password" type="password" autocomplete="current-password" required', form)
    assert '<label for="username">' in form
    assert '<label for="password">' in form
    assert "<script" not in form


def test_the_page_protects_its_form(web: TestClient) -> None:
    headers = web.get("/signin").headers
    assert headers["cache-control"] == "no-store"
    # `no-referrer` would make browsers send `Origin: null` with the form.
    assert headers.get_list("referrer-policy") == ["same-origin"]
    assert headers["x-frame-options"] == "DENY"
    assert headers["content-security-policy"] == (
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


def test_without_an_application_sign_in_leads_to_the_account(
    web: TestClient, alice: str, issuer: Issuer
) -> None:
    answer = sign_in(web, **ALICE)
    assert (answer.status_code, answer.headers["location"]) == (303, "/account")
    session = session_of(web, issuer)
    assert session
    assert (session.user_id, session.acr, session.amr) == (alice, "1", ("pwd",))
    (cookie,) = [each for each in answer.headers.get_list("set-cookie") if each.startswith("issuer-session=")]
    assert re.fullmatch(r"issuer-session=[\w-]{43}; HttpOnly; Path=/; SameSite=lax", cookie)


def test_the_page_says_who_asks_and_where_the_user_goes_on(web: TestClient, issuer: Issuer, app: App) -> None:
    assert "<strong>an app</strong> (app.example)" in web.get(sent_to(web, app)).text
    local = an_app(issuer, redirect_uris=["http://127.0.0.1/callback"])
    shown = web.get(sent_to(web, local, redirect_uri="http://127.0.0.1:4711/callback")).text
    assert "<strong>an app</strong> (a program on this computer)" in shown
    native = an_app(issuer, redirect_uris=["com.example.app:/callback"])
    shown = web.get(sent_to(web, native, redirect_uri="com.example.app:/callback")).text
    assert "(an app on this device that opens com.example.app: addresses)" in shown


def test_sign_in_goes_on_with_the_request_of_the_application(web: TestClient, alice: str, app: App) -> None:
    answer = sign_in(web, **ALICE, path=sent_to(web, app))
    path, parameters = page(answer)
    assert (path, set(parameters)) == ("/oauth2/authorize", {"ticket"})
    response = web.get(answer.headers["location"], follow_redirects=False)
    assert response.headers["location"].startswith("https://app.example/callback?code=")


def test_the_login_hint_fills_the_field_and_nothing_else(web: TestClient, app: App) -> None:
    shown = web.get(sent_to(web, app, login_hint='"><b>alice</b>')).text
    assert fields_of(shown)["username"] == '"><b>alice</b>'
    assert "<b>" not in shown


@pytest.mark.parametrize("given", [("alice", "not the password"), ("nobody", PASSWORD)])
def test_an_unknown_user_and_a_wrong_password_are_told_the_same(
    web: TestClient, alice: str, issuer: Issuer, given: tuple[str, str]
) -> None:
    answer = sign_in(web, *given)
    assert answer.status_code == 401
    assert re.search(rf'role="alert">\s*<p id="error-1">{WRONG}</p>', answer.text)
    assert re.search(r"<title>Error: Sign in", answer.text)
    assert len(re.findall(r'aria-invalid="true" aria-describedby="error-1"', answer.text)) == 2
    fields = fields_of(answer.text)
    assert (fields["username"], fields["password"]) == (given[0], "")
    assert given[1] not in answer.text
    assert session_of(web, issuer) is None


@pytest.mark.parametrize(
    ("given", "field"),
    [({}, "username"), ({"password": PASSWORD}, "username"), ({"username": "alice"}, "password")],
)
def test_an_empty_field_is_named(web: TestClient, given: dict[str, str], field: str) -> None:
    answer = send(web, "/signin", web.get("/signin").text, **{"username": "", "password": "", **given})
    assert answer.status_code == 400
    assert f"Enter your {field}." in answer.text
    assert re.search(rf'name="{field}"[^>]*aria-invalid="true"', answer.text)


def test_guessing_is_limited_with_the_counts_of_log_in(web: TestClient, alice: str, issuer: Issuer) -> None:
    statuses = [sign_in(web, "alice", f"guess number {number}").status_code for number in range(12)]
    assert statuses[0] == 401
    assert statuses[-1] == 429
    answer = sign_in(web, "alice", "another guess")
    assert int(answer.headers["retry-after"]) > 0
    assert re.search(r"too many failed attempts\. Try again in \d+ (second|minute)s?\.", answer.text)
    assert fields_of(answer.text)["username"] == "alice"
    assert web.post("/login", data=ALICE).status_code in {200, 429}
    assert web.post("/login", data={"username": "alice", "password": "x"}).status_code == 429


def test_users_sign_in_with_a_browser_where_applications_may_not_ask_for_passwords(
    made: Build, settings: Settings
) -> None:
    issuer = made(settings.model_copy(update={"password_login": "off"}))
    with TestClient(create_app(issuer)) as web:
        web.post("/users", json=ALICE)
        assert web.post("/login", data=ALICE).status_code == 403
        assert sign_in(web, **ALICE).headers["location"] == "/account"
        assert web.get("/account").status_code == 200


def test_who_is_signed_in_may_go_on_or_use_another_account(
    web: TestClient, alice: str, app: App, issuer: Issuer, clock: MovableClock
) -> None:
    sign_in(web, **ALICE)
    clock.advance(minutes=5)
    location = sent_to(web, app, prompt="select_account")
    shown = web.get(location).text
    assert "Continue as alice" in shown
    assert 'type="password"' not in shown
    answer = send(web, "/signin", shown)
    assert page(answer)[0] == "/oauth2/authorize"
    done = web.get(answer.headers["location"], follow_redirects=False)
    assert "code=" in done.headers["location"]
    session = session_of(web, issuer)
    assert session
    assert (session.chosen_at, session.auth_time < session.chosen_at) == (clock(), True)
    (other,) = re.findall(r'<a href="([^"]+)">Use another account', shown)
    assert 'type="password"' in web.get(other.replace("&amp;", "&")).text


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"prompt": "login"}, "an app asks you to sign in again."),
        ({"max_age": "60"}, "You signed in a while ago. an app asks you to sign in again."),
    ],
)
def test_a_user_who_has_to_sign_in_again_is_told_why(
    web: TestClient, alice: str, app: App, clock: MovableClock, changes: dict[str, str], why: str
) -> None:
    sign_in(web, **ALICE)
    clock.advance(minutes=5)
    location = sent_to(web, app, **changes)
    shown = web.get(location).text
    assert why in shown
    assert fields_of(shown)["username"] == "alice"
    answer = sign_in(web, **ALICE, path=location)
    assert "code=" in web.get(answer.headers["location"], follow_redirects=False).headers["location"]


def test_signing_in_again_keeps_the_session_and_replaces_its_secret(
    web: TestClient, alice: str, issuer: Issuer, clock: MovableClock
) -> None:
    sign_in(web, **ALICE)
    before, secret = session_of(web, issuer), web.cookies["issuer-session"]
    assert before
    sid = issuer.sessions.store.sid(before, "a client")
    clock.advance(minutes=30)
    sign_in(web, **ALICE, path="/signin?reason=login")
    after = session_of(web, issuer)
    assert after
    assert (after.id, after.auth_time, after.created_at) == (before.id, clock(), before.created_at)
    assert issuer.sessions.store.sid(after, "a client") == sid
    assert web.cookies["issuer-session"] != secret
    assert issuer.sessions.store.find(secret, clock()) is None


def test_a_session_of_another_user_ends_with_what_depends_on_it(
    web: TestClient, alice: str, issuer: Issuer, clock: MovableClock
) -> None:
    web.post("/users", json=BOB)
    app = an_app(issuer, scope="items:read", is_trusted=True)
    sign_in(web, **ALICE)
    tokens = app.redeems(web, app.code(web)).json()
    first = web.cookies["issuer-session"]
    assert "alice" in web.get("/signin?reason=switch").text
    sign_in(web, **BOB, path="/signin?reason=switch")
    assert issuer.sessions.store.find(first, clock()) is None
    session = session_of(web, issuer)
    user = issuer.accounts.store.by_id(session.user_id) if session else None
    assert user
    assert user.username == "bob"
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"], **app.credentials}
    assert web.post("/oauth2/token", data=form).json()["error"] == "invalid_grant"


def test_a_planted_session_cookie_is_never_kept(web: TestClient, alice: str, issuer: Issuer) -> None:
    """Session fixation."""
    planted = "p" * 43
    web.cookies.set("issuer-session", planted, domain="testserver.local", path="/")
    answer = sign_in(web, **ALICE)
    assert answer.status_code == 303
    assert f"issuer-session={planted}" not in str(answer.headers)
    assert issuer.sessions.store.find(planted, issuer.clock()) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1:9"},
    ],
)
def test_a_form_from_another_site_signs_nobody_in(
    web: TestClient, alice: str, issuer: Issuer, app: App, headers: dict[str, str]
) -> None:
    """Login CSRF: the victim would go on with the attacker's account."""
    shown = web.get(sent_to(web, app)).text
    answer = send(web, "/signin", shown, headers, **ALICE)
    assert answer.status_code == 400
    assert "This form was too old, or did not come from this page." in answer.text
    assert session_of(web, issuer) is None
    # Nothing is lost: sent again from the page, the same form goes on.
    assert fields_of(answer.text)["username"] == "alice"
    assert page(send(web, "/signin", answer.text, password=PASSWORD))[0] == "/oauth2/authorize"


@pytest.mark.parametrize("token", ["", "x", "é"])
def test_a_form_without_a_valid_token_signs_nobody_in(
    web: TestClient, alice: str, issuer: Issuer, token: str
) -> None:
    answer = send(web, "/signin", web.get("/signin").text, **ALICE, form_token=token)
    assert answer.status_code == 400
    assert session_of(web, issuer) is None


def test_a_token_counts_for_its_page_and_browser_only(
    web: TestClient, made: Build, settings: Settings, alice: str, issuer: Issuer
) -> None:
    signup = fields_of(web.get("/signup").text)["form_token"]
    assert send(web, "/signin", web.get("/signin").text, **ALICE, form_token=signup).status_code == 400
    theirs = fields_of(TestClient(web.app).get("/signin").text)["form_token"]
    assert send(web, "/signin", web.get("/signin").text, **ALICE, form_token=theirs).status_code == 400
    before = web.get("/signin").text
    sign_in(web, **ALICE)
    # A token from before the sign-in is not one of the session.
    assert send(web, "/signin", before, **ALICE).status_code == 400


def test_a_browser_without_cookies_is_told_so(web: TestClient, alice: str) -> None:
    shown = web.get("/signin").text
    web.cookies.clear()
    answer = send(web, "/signin", shown, **ALICE)
    assert answer.status_code == 400
    assert "Your browser sent no cookie." in answer.text


def test_a_ticket_of_another_browser_is_ignored_and_the_user_told(
    web: TestClient, alice: str, app: App, issuer: Issuer
) -> None:
    location = sent_to(TestClient(web.app), app)
    shown = web.get(location)
    assert shown.status_code == 200
    assert "is not valid in this browser" in shown.text
    assert "an app" not in shown.text
    answer = send(web, "/signin", shown.text, **ALICE)
    assert answer.headers["location"] == "/account"


def test_a_changed_ticket_is_ignored(web: TestClient, app: App) -> None:
    assert "is not valid in this browser" in web.get(f"{sent_to(web, app)}x").text
    assert web.get("/signin?ticket=%00%E4").status_code == 200


def test_a_session_that_ended_meanwhile_is_started_again(
    web: TestClient, alice: str, app: App, clock: MovableClock
) -> None:
    sign_in(web, **ALICE)
    clock.advance(minutes=5)
    shown = web.get(sent_to(web, app, prompt="select_account")).text
    clock.advance(hours=13)
    answer = send(web, "/signin", shown)
    assert answer.status_code == 400
    assert 'type="password"' in answer.text
    assert page(send(web, "/signin", answer.text, **ALICE))[0] == "/oauth2/authorize"


def test_a_disabled_user_cannot_sign_in_and_is_told_nothing(
    web: TestClient, alice: str, issuer: Issuer
) -> None:
    issuer.tokens.families.disable(alice, issuer.clock())
    answer = sign_in(web, **ALICE)
    assert (answer.status_code, WRONG in answer.text) == (401, True)


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        ("username=a&username=b", "application/x-www-form-urlencoded", 400),
        ("{}", "application/json", 400),
        ("password=%ff", "application/x-www-form-urlencoded", 400),
        ("x" * 70000, "application/x-www-form-urlencoded", 413),
    ],
)
def test_malformed_forms_are_refused_with_a_page(
    web: TestClient, body: str, content_type: str, status: int
) -> None:
    answer = web.post("/signin", content=body, headers={"Content-Type": content_type, "Accept": "text/html"})
    assert answer.status_code == status


def test_below_a_path_the_form_stays_below_it(made: Build, settings: Settings) -> None:
    issuer = made(settings.model_copy(update={"url": "https://host.example/a"}))
    with TestClient(create_app(issuer), base_url="https://host.example") as web:
        web.post("/a/users", json=ALICE)
        shown = web.get("/a/signin").text
        assert 'action="/a/signin"' in shown
        assert 'href="/a/pages/style.css' in shown
        answer = send(web, "/a/signin", shown, **ALICE)
        assert answer.headers["location"] == "/a/account"
        cookies = answer.headers.get_list("set-cookie")
        assert any(re.match(r"__Host-issuer-session-\w{8}=.*; Secure", each) for each in cookies)


def test_no_secret_of_a_sign_in_is_logged(
    web: TestClient, alice: str, app: App, capsys: pytest.CaptureFixture[str]
) -> None:
    location = sent_to(web, app)
    sign_in(web, "alice", "a wrong password", path=location)
    sign_in(web, **ALICE, path=location)
    ticket = location.partition("ticket=")[2].partition("&")[0]
    printed = "".join(capsys.readouterr())
    secret = web.cookies["issuer-session"]
    assert "/signin" in printed
    for each in (ticket, secret, PASSWORD, "a wrong password"):
        assert each not in printed


def test_without_a_session_the_choice_has_no_effect(web: TestClient, alice: str) -> None:
    sign_in(web, **ALICE)
    shown = web.get("/signin").text
    without_session(web)
    assert send(web, "/signin", shown).status_code == 400
