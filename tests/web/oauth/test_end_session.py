"""The end session endpoint, RP-Initiated Logout 1.0: what the certification modules check, and more."""

from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from fastapi.testclient import TestClient
from support.authorizing import sign_in
from support.defaults import START, MovableClock
from support.page_forms import fields_of
from support.signing_out import RETURN_URI, application, hint_for, is_signed_in

from issuer.clients.client import Client
from issuer.services import Issuer
from issuer.sessions.session import BrowserSession

LOGOUT = "/oauth2/logout"
STATE = "s" * 128

Request = Callable[..., httpx2.Response]


@pytest.fixture
def client(issuer: Issuer) -> Client:
    return application(issuer)


@pytest.fixture
def session(issuer: Issuer, web: TestClient, alice: str) -> BrowserSession:
    return sign_in(web, issuer, alice)


@pytest.fixture
def hint(issuer: Issuer, session: BrowserSession, client: Client) -> str:
    """An ID token of the client for alice's session."""
    return hint_for(issuer, session, client)


@pytest.fixture
def log_out(web: TestClient) -> Request:
    def send(**parameters: str) -> httpx2.Response:
        return web.get(LOGOUT, params=parameters, follow_redirects=False)

    return send


def is_page(answer: httpx2.Response, status: int) -> bool:
    is_html = answer.headers["content-type"].startswith("text/html")
    return answer.status_code == status and is_html and "location" not in answer.headers


def test_a_hint_and_a_registered_uri_sign_out_and_return_with_the_state_alone(
    log_out: Request, hint: str, issuer: Issuer, session: BrowserSession
) -> None:
    answer = log_out(id_token_hint=hint, post_logout_redirect_uri=RETURN_URI, state=STATE)
    assert answer.status_code == 303
    location = urlsplit(answer.headers["location"])
    assert location._replace(query="").geturl() == RETURN_URI
    assert parse_qs(location.query) == {"state": [STATE]}
    assert not is_signed_in(issuer, session)


def test_without_a_state_nothing_is_added_to_the_uri(log_out: Request, hint: str) -> None:
    answer = log_out(id_token_hint=hint, post_logout_redirect_uri=RETURN_URI)
    assert (answer.status_code, answer.headers["location"]) == (303, RETURN_URI)


def test_the_query_of_a_registered_uri_is_kept(
    log_out: Request, issuer: Issuer, session: BrowserSession
) -> None:
    uri = "https://app.example/out?from=issuer"
    hint = hint_for(issuer, session, application(issuer, uri=uri))
    answer = log_out(id_token_hint=hint, post_logout_redirect_uri=uri, state="a b&c")
    assert answer.headers["location"] == f"{uri}&state=a+b%26c"


@pytest.mark.parametrize(
    "uri", ["https://other.example/", f"{RETURN_URI}?foo=bar", f"{RETURN_URI}/", RETURN_URI.upper()]
)
def test_an_unregistered_uri_is_never_followed_and_nobody_is_signed_out(
    log_out: Request, hint: str, uri: str, issuer: Issuer, session: BrowserSession
) -> None:
    answer = log_out(id_token_hint=hint, post_logout_redirect_uri=uri, state=STATE)
    assert is_page(answer, 400)
    assert uri not in answer.text
    assert is_signed_in(issuer, session)


def test_a_hint_that_is_unsigned_or_signed_by_others_is_refused(
    log_out: Request, hint: str, issuer: Issuer, session: BrowserSession
) -> None:
    head, claims, signature = hint.split(".")
    for forged in (f"eyJhbGciOiJub25lIn0.{claims}.", f"{head}.{claims}.{signature[::-1]}", "x", hint[:-3]):
        assert is_page(log_out(id_token_hint=forged, post_logout_redirect_uri=RETURN_URI), 400)
    assert is_signed_in(issuer, session)


def test_a_uri_without_a_hint_or_a_client_is_refused(
    log_out: Request, client: Client, session: BrowserSession, issuer: Issuer, web: TestClient
) -> None:
    assert is_page(log_out(post_logout_redirect_uri=RETURN_URI, state=STATE), 400)
    assert is_signed_in(issuer, session)


@pytest.mark.parametrize("parameters", [{}, {"state": STATE}, {"logout_hint": "alice", "ui_locales": "de"}])
def test_without_a_hint_the_user_is_asked_and_then_signed_out(
    web: TestClient, log_out: Request, session: BrowserSession, parameters: dict[str, str], issuer: Issuer
) -> None:
    page = log_out(**parameters)
    assert is_page(page, 200)
    assert is_signed_in(issuer, session)
    answer = web.post("/signout", data=fields_of(page.text))
    assert is_page(answer, 200)
    assert "You are signed out" in answer.text
    assert not is_signed_in(issuer, session)


def test_a_hint_alone_signs_out_at_once(
    log_out: Request, hint: str, issuer: Issuer, session: BrowserSession
) -> None:
    answer = log_out(id_token_hint=hint)
    assert is_page(answer, 200)
    assert "You are signed out" in answer.text
    assert not is_signed_in(issuer, session)


def test_a_head_request_signs_nobody_out(
    web: TestClient, hint: str, issuer: Issuer, session: BrowserSession
) -> None:
    assert web.head(LOGOUT, params={"id_token_hint": hint}).status_code == 405
    assert is_signed_in(issuer, session)


def test_a_client_id_and_a_registered_uri_return_only_after_the_question(
    web: TestClient, log_out: Request, client: Client, session: BrowserSession, issuer: Issuer
) -> None:
    page = log_out(client_id=client.id, post_logout_redirect_uri=RETURN_URI, state="x y")
    assert is_page(page, 200)
    assert client.name in page.text
    assert is_signed_in(issuer, session)
    answer = web.post("/signout", data=fields_of(page.text), follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, f"{RETURN_URI}?state=x+y")
    assert not is_signed_in(issuer, session)


def test_the_page_may_lead_to_a_client_only_if_it_shows_one(
    log_out: Request, client: Client, session: BrowserSession
) -> None:
    """Browsers check `form-action` against redirects after the submission, too."""
    leaving = log_out(client_id=client.id, post_logout_redirect_uri=RETURN_URI)
    assert "form-action" not in leaving.headers["content-security-policy"]
    assert "form-action 'self'" in log_out().headers["content-security-policy"]


def test_a_hint_for_another_user_asks(
    log_out: Request, hint: str, issuer: Issuer, web: TestClient, alice: str, session: BrowserSession
) -> None:
    assert (
        web.post("/users", json={"username": "bob", "password": "quiet lamps drift home"}).status_code == 201
    )
    bob = issuer.accounts.store.by_username("bob")
    assert bob
    session = sign_in(web, issuer, bob.id)
    page = log_out(id_token_hint=hint, post_logout_redirect_uri=RETURN_URI)
    assert is_page(page, 200)
    assert "bob" in page.text
    assert is_signed_in(issuer, session)


def test_a_hint_of_an_earlier_session_of_the_same_user_asks(
    log_out: Request, hint: str, issuer: Issuer, web: TestClient, session: BrowserSession
) -> None:
    issuer.sessions.sign_out.end(session, issuer.clock())
    present = sign_in(web, issuer, session.user_id)
    assert is_page(log_out(id_token_hint=hint, post_logout_redirect_uri=RETURN_URI), 200)
    assert is_signed_in(issuer, present)


def test_an_expired_hint_is_accepted(
    log_out: Request, hint: str, issuer: Issuer, clock: MovableClock, session: BrowserSession
) -> None:
    clock.advance(hours=1)
    issuer.keys.node.refresh()
    assert log_out(id_token_hint=hint, post_logout_redirect_uri=RETURN_URI).status_code == 303
    assert not is_signed_in(issuer, session)


def test_a_hint_of_another_client_than_client_id_is_refused(
    log_out: Request, hint: str, issuer: Issuer, session: BrowserSession
) -> None:
    other = application(issuer, "Other")
    assert is_page(log_out(id_token_hint=hint, client_id=other.id), 400)
    assert is_signed_in(issuer, session)


def test_without_a_session_a_hint_returns_and_a_client_id_gives_a_link(
    log_out: Request, hint: str, client: Client, web: TestClient
) -> None:
    web.cookies.clear()
    answer = log_out(id_token_hint=hint, post_logout_redirect_uri=RETURN_URI, state="x")
    assert (answer.status_code, answer.headers["location"]) == (303, f"{RETURN_URI}?state=x")
    page = log_out(client_id=client.id, post_logout_redirect_uri=RETURN_URI, state="x")
    assert is_page(page, 200)
    assert f'href="{RETURN_URI}?state=x"' in page.text


def test_a_disabled_or_unknown_client_is_refused(
    log_out: Request, hint: str, client: Client, issuer: Issuer
) -> None:
    issuer.clients.store.set_disabled(client.id, START)
    for parameters in ({"id_token_hint": hint}, {"client_id": client.id}, {"client_id": "x\0y"}):
        assert is_page(log_out(**parameters), 400)


def test_a_repeated_parameter_is_refused(
    web: TestClient, hint: str, issuer: Issuer, session: BrowserSession
) -> None:
    query = f"{LOGOUT}?id_token_hint={hint}&state=a&state=b"
    assert is_page(web.get(query, follow_redirects=False), 400)
    form = "client_id=a&client_id=b"
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert is_page(web.post(LOGOUT, content=form, headers=headers, follow_redirects=False), 400)
    assert is_signed_in(issuer, session)


def test_a_form_continues_by_get_as_it_carries_no_cookies(
    web: TestClient, hint: str, issuer: Issuer, session: BrowserSession
) -> None:
    form = {"id_token_hint": hint, "post_logout_redirect_uri": RETURN_URI, "state": "x", "other": "y"}
    answer = web.post(LOGOUT, data=form, follow_redirects=False)
    assert answer.status_code == 303
    location = urlsplit(answer.headers["location"])
    assert (location.path, parse_qs(location.query)) == (
        LOGOUT,
        {name: [value] for name, value in form.items() if name != "other"},
    )
    assert is_signed_in(issuer, session)
    answer = web.get(answer.headers["location"], follow_redirects=False)
    assert answer.headers["location"] == f"{RETURN_URI}?state=x"


def test_a_form_that_fits_in_no_url_is_refused(web: TestClient) -> None:
    assert is_page(web.post(LOGOUT, data={"state": "x" * 8000}, follow_redirects=False), 400)


def test_discovery_names_the_endpoint(web: TestClient, issuer: Issuer) -> None:
    metadata = web.get("/.well-known/openid-configuration").json()
    assert metadata["end_session_endpoint"] == f"{issuer.settings.url}{LOGOUT}"
