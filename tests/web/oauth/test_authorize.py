"""The authorization endpoint: to whom it answers what, and that a browser is sent nowhere else."""

import secrets
from html.parser import HTMLParser
from urllib.parse import urlencode

import pytest
from fastapi.testclient import TestClient
from support.authorizing import (
    AUTHORIZE,
    CALLBACK,
    STATE,
    App,
    a_state,
    an_app,
    answer,
    asked,
    challenge,
    page,
    refused_by_page,
    sign_in,
)
from support.defaults import Build, MovableClock
from support.endpoints import ISSUER

from issuer.oauth import AuthMethod, GrantType
from issuer.services import Issuer
from issuer.settings.settings import Settings
from issuer.web.app import create_app
from issuer.web.oauth.authorize import REQUEST_MOST_BYTES


@pytest.fixture
def app(issuer: Issuer) -> App:
    return an_app(issuer)


@pytest.fixture
def signed_in(web: TestClient, issuer: Issuer, alice: str) -> str:
    """The id of alice, who is signed in."""
    sign_in(web, issuer, alice)
    return alice


def test_a_user_who_is_signed_in_is_sent_back_with_a_code_the_state_and_the_issuer(
    web: TestClient, app: App, signed_in: str
) -> None:
    response = app.asks(web)
    answered = answer(response)
    assert {name: value for name, value in answered.items() if name != "code"} == {
        "state": STATE,
        "iss": ISSUER,
    }
    assert len(answered["code"]) == 43
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-frame-options"] == "DENY"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in response.headers
    assert answered["code"] != app.code(web)
    assert signed_in


def test_without_a_session_the_browser_goes_to_sign_in_and_comes_back_with_the_ticket(
    web: TestClient, app: App, issuer: Issuer, alice: str
) -> None:
    response = app.asks(web, nonce="n")
    path, given = page(response)
    assert (path, given.keys()) == ("/signin", {"ticket"})
    assert response.headers["x-frame-options"] == "DENY"
    assert asked(web, given).headers["location"].startswith("/signin?ticket=")
    sign_in(web, issuer, alice)
    assert answer(asked(web, given))["state"] == STATE
    assert answer(asked(web, given))["code"], "the back button gives another code"


def test_a_ticket_of_another_browser_or_a_changed_one_is_no_request(
    web: TestClient, app: App, issuer: Issuer
) -> None:
    _, given = page(app.asks(web))
    ticket = given["ticket"]
    assert "another browser" in refused_by_page(web, f"ticket={ticket[:-1]}")
    web.cookies.clear()
    assert "another browser" in refused_by_page(web, f"ticket={ticket}")
    assert "another browser" in refused_by_page(web, "ticket=x")
    assert issuer.authorize.flow.pending(ticket, "another device", issuer.clock()) is None


def test_a_ticket_counts_only_without_a_client_id(web: TestClient, app: App, signed_in: str) -> None:
    assert answer(app.asks(web, ticket="x"))["code"]
    assert signed_in


def test_after_an_hour_a_ticket_begins_its_request_anew(
    web: TestClient, app: App, issuer: Issuer, clock: MovableClock, alice: str
) -> None:
    _, given = page(app.asks(web, prompt="login"))
    sign_in(web, issuer, alice)
    clock.advance(minutes=61)
    path, again = page(asked(web, given))
    assert (path, again["reason"]) == ("/signin", "expired")
    sign_in(web, issuer, alice)
    assert answer(asked(web, again))["code"]


@pytest.mark.parametrize(
    "state", ["a b+c&d=e%20", "é\U0001f98a", "\r\nSet-Cookie: x=y", '"<script>\\', " x "]
)
def test_the_state_comes_back_unchanged(web: TestClient, app: App, signed_in: str, state: str) -> None:
    response = app.asks(web, state=state)
    assert answer(response)["state"] == state
    assert "x" not in response.cookies
    assert fields(app.asks(web, state=state, response_mode="form_post").text)["state"] == state
    assert signed_in


class _Fields(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, str] = {}
        self.action = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "input":
            self.values[given["name"] or ""] = given["value"] or ""
        if tag == "form":
            self.action = given["action"] or ""


def fields(text: str) -> dict[str, str]:
    """Return the hidden fields of a page."""
    parser = _Fields()
    parser.feed(text)
    return {**parser.values, "action": parser.action}


def test_a_response_by_form_is_a_page_that_sends_itself_and_has_a_button(
    web: TestClient, app: App, signed_in: str, clock: MovableClock
) -> None:
    response = app.asks(web, response_mode="form_post")
    assert response.status_code == 200
    sent = fields(response.text)
    assert len(sent.pop("code")) == 43
    assert sent == {"action": CALLBACK, "state": STATE, "iss": ISSUER}
    assert '<button class="primary" type="submit">' in response.text
    policy = response.headers["content-security-policy"]
    assert "script-src 'sha256-" in policy
    assert "form-action" not in policy, "browsers would check it against redirects of the client"
    assert response.headers["cache-control"] == "no-store"
    clock.advance(seconds=1)
    refused = fields(app.asks(web, response_mode="form_post", prompt="none", max_age="0").text)
    assert (refused["error"], refused["iss"]) == ("login_required", ISSUER)
    assert signed_in


def test_the_longest_request_that_is_accepted_comes_back_from_the_sign_in_page(
    web: TestClient, app: App, issuer: Issuer, alice: str
) -> None:
    request = app.request(state=a_state() * 8, nonce=a_state() * 4)
    room = REQUEST_MOST_BYTES - len(urlencode({**request, "login_hint": ""}))
    request["login_hint"] = secrets.token_urlsafe(room)[:room]
    assert len(urlencode(request)) == REQUEST_MOST_BYTES
    path, given = page(asked(web, request))
    assert len(f"{path}?{urlencode({**given, 'reason': 'other_account'})}") < 8 * 1024, "docs/deploy.md"
    sign_in(web, issuer, alice)
    assert answer(asked(web, given))["state"] == request["state"]


def test_a_form_is_answered_by_the_same_request_as_a_get(web: TestClient, app: App, signed_in: str) -> None:
    response = web.post(AUTHORIZE, data=app.request(state=" a&b "), follow_redirects=False)
    assert response.status_code == 303
    location = response.headers["location"]
    assert location.startswith(f"{AUTHORIZE}?")
    assert answer(web.get(location, follow_redirects=False))["state"] == " a&b "
    for body in ("client_id=a&client_id=b", "x=%ff", "x=" + "y" * 8192, "x=" + ":" * 3000):
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert web.post(AUTHORIZE, content=body, headers=form, follow_redirects=False).status_code == 400
    assert web.post(AUTHORIZE, json={}).status_code == 400
    assert signed_in


def test_a_program_that_previews_links_gets_no_code_and_scripts_read_no_response(
    made: Build, settings: Settings
) -> None:
    issuer = made(settings.model_copy(update={"cors_origins": ("https://app.example",)}))
    with TestClient(create_app(issuer)) as web:
        head = web.head(AUTHORIZE)
        assert (head.status_code, head.headers["allow"]) == (405, "GET, OPTIONS, POST")
        foreign = {"Origin": "https://app.example", "Access-Control-Request-Method": "GET"}
        for response in (web.options(AUTHORIZE, headers=foreign), web.get(AUTHORIZE, headers=foreign)):
            assert not [name for name in response.headers if name.startswith("access-control")]
        assert web.delete(AUTHORIZE).status_code == 405


def test_the_request_and_its_code_are_not_logged(
    web: TestClient, app: App, signed_in: str, clock: MovableClock, capfd: pytest.CaptureFixture[str]
) -> None:
    clock.advance(seconds=1)
    _, given = page(app.asks(web, prompt="login", login_hint="a-secret-hint"))
    code = app.code(web, state="a-secret-state")
    output = "".join(capfd.readouterr())
    assert "/oauth2/authorize" in output
    for secret in (given["ticket"], code, "a-secret", challenge()):
        assert secret not in output
    assert signed_in


def test_where_registration_is_closed_prompt_create_is_not_supported(made: Build, settings: Settings) -> None:
    for registration, expected in (("open", "/signup"), ("closed", None)):
        issuer = made(settings.model_copy(update={"registration": registration}))
        with TestClient(create_app(issuer)) as web:
            response = an_app(issuer).asks(web, prompt="create")
            if expected:
                assert page(response)[0] == expected
            else:
                assert answer(response)["error"] == "invalid_request"


def test_a_client_may_use_only_what_it_is_registered_for(web: TestClient, issuer: Issuer, alice: str) -> None:
    sign_in(web, issuer, alice)
    pushes = an_app(issuer, requires_par=True)
    assert "push" in answer(pushes.asks(web))["error_description"]
    public = an_app(issuer, AuthMethod.NONE)
    assert (
        answer(public.asks(web, code_challenge=None, code_challenge_method=None))["error"]
        == "invalid_request"
    )
    by_nonce = an_app(issuer, requires_pkce=False)
    assert answer(by_nonce.asks(web, code_challenge=None, code_challenge_method=None))["code"]
    never_refreshes = an_app(issuer, grant_types=frozenset({GrantType.AUTHORIZATION_CODE}))
    assert answer(never_refreshes.asks(web, scope="offline_access"))["error"] == "invalid_scope"


def test_without_consent_the_user_is_asked_and_a_denial_is_sent_to_the_client(
    web: TestClient, issuer: Issuer, alice: str
) -> None:
    app = an_app(issuer, is_trusted=False)
    sign_in(web, issuer, alice)
    path, given = page(app.asks(web))
    assert path == "/consent"
    assert answer(app.asks(web, prompt="none"))["error"] == "consent_required"
    flow = issuer.authorize.flow
    device = next(value for name, value in web.cookies.items() if "device" in name)
    pending = flow.pending(given["ticket"], device, issuer.clock())
    assert pending
    assert pending.request.client.id == app.client_id
    assert ("error", "access_denied") in flow.denied(pending).parameters
    issuer.clients.store.set_disabled(app.client_id, issuer.clock())
    assert flow.pending(given["ticket"], device, issuer.clock()) is None


def test_below_a_path_pages_and_the_endpoint_are_below_it(made: Build, settings: Settings) -> None:
    issuer = made(settings.model_copy(update={"url": "https://host.example/auth"}))
    with TestClient(create_app(issuer), base_url="https://host.example") as web:
        app = an_app(issuer)
        response = web.get(f"/auth{AUTHORIZE}?{urlencode(app.request())}", follow_redirects=False)
        assert page(response)[0] == "/auth/signin"
        posted = web.post(f"/auth{AUTHORIZE}", data=app.request(), follow_redirects=False)
        assert posted.headers["location"].startswith(f"/auth{AUTHORIZE}?client_id=")
        refused = web.get(f"/auth{AUTHORIZE}?{urlencode(app.request(redirect_uri='https://a.example/'))}")
        assert CALLBACK not in refused.text, "only on loopback is it said what is registered"
