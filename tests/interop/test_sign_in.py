"""Third-party libraries sign people in at a real issuer, given only its URL, and validate what it answers.

The person's browser runs no JavaScript. Applications with pages of their own are tested in
`test_sign_in_to_applications`.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest
from interop.relying_parties import RELYING_PARTIES, Registered, RelyingParty, SignedIn
from support.components import missing_for, require
from support.servers import Installation, eventually, free_port, kid_of
from support.sign_in_browser import Page, SignInBrowser

STATE = "a state of the sign-out"


@pytest.fixture(scope="module")
def registered(signing_in: Installation) -> Registered:
    home = f"http://127.0.0.1:{free_port()}"
    uris = ("--redirect-uri", f"{home}/callback", "--post-logout-redirect-uri", f"{home}/signed-out")
    made = signing_in.command("clients", "add", "an app", "--scope", "items:read", *uris, "--json")
    assert made.code == 0, made
    client = made.document
    return Registered(
        signing_in.url, client["client_id"], client["client_secret"], f"{home}/callback", f"{home}/signed-out"
    )


class Conversation(NamedTuple):
    """One person with one relying party, through a rotation of the issuer's key, until the person is signed out."""

    request: Mapping[str, str]
    """The parameters of the authorization request."""
    callback: Page
    signed_in: SignedIn
    refreshed: SignedIn
    after_rotation: SignedIn
    signed_out: Page
    """With the id_token by the old key as the hint."""
    afterwards: Page
    """The answer to the next request."""


@contextmanager
def signed_in(
    name: str, registered: Registered, **more: Any
) -> Iterator[tuple[RelyingParty, SignInBrowser, Page]]:
    """Start a relying party, and sign in until the browser is back there."""
    clients = (registered.redirect_uri, registered.post_logout_redirect_uri)
    with RELYING_PARTIES[name](registered) as party, SignInBrowser(*clients) as browser:
        page = browser.visit(party.begin(**more))
        assert page.url.startswith(registered.redirect_uri), (page.url, page.text)
        yield party, browser, page


@pytest.fixture(scope="module")
def conversations(signing_in: Installation, registered: Registered) -> Mapping[str, Conversation]:
    """The conversations of all installed libraries, with one rotation in the middle."""
    found: dict[str, Conversation] = {}
    with ExitStack() as ends:
        libraries = [name for name in RELYING_PARTIES if missing_for(name) is None]
        begun = {name: ends.enter_context(signed_in(name, registered)) for name in libraries}
        finished = {name: party.finish(callback) for name, (party, _, callback) in begun.items()}
        refreshed = {name: party.refresh() for name, (party, _, _) in begun.items()}
        rotate(signing_in)
        for name, (party, browser, callback) in begun.items():
            asked = browser.visited[0]
            found[name] = Conversation(
                {each: value for each, [value] in parse_qs(urlsplit(asked).query).items()},
                callback,
                finished[name],
                refreshed[name],
                party.refresh(),
                browser.open(party.log_out(STATE)),
                browser.open(asked),
            )
    return found


def rotate(issuer: Installation) -> None:
    """Rotate, and wait until the new key signs."""
    old = kid_of(issuer.token())
    done = issuer.command("keys", "rotate")
    assert done.code == 0, done
    eventually(lambda: kid_of(issuer.token()) != old, "the new key signs")


@pytest.fixture(params=RELYING_PARTIES)
def conversation(request: pytest.FixtureRequest) -> Conversation:
    """The conversation of each library."""
    require(request.param)
    found: Mapping[str, Conversation] = request.getfixturevalue("conversations")
    return found[request.param]


def test_a_library_sends_pkce_state_and_nonce_to_the_discovered_endpoint(conversation: Conversation) -> None:
    request = conversation.request
    assert request.keys() >= {"state", "nonce", "code_challenge"}
    assert (request["response_type"], request["code_challenge_method"]) == ("code", "S256")


def test_the_response_has_the_state_the_code_and_the_issuer(
    conversation: Conversation, registered: Registered
) -> None:
    response = conversation.callback.parameters
    assert response.keys() == {"code", "state", "iss"}
    assert (response["state"], response["iss"]) == (conversation.request["state"], registered.issuer)


def test_a_library_accepts_the_id_token(conversation: Conversation, registered: Registered) -> None:
    claims = conversation.signed_in.claims
    assert claims["iss"] == registered.issuer
    assert claims["aud"] in (registered.client_id, [registered.client_id])
    assert claims["nonce"] == conversation.request["nonce"]
    assert (claims["acr"], claims["amr"]) == ("1", ["pwd"])


def test_a_library_accepts_the_userinfo_of_the_same_person(conversation: Conversation) -> None:
    userinfo = conversation.signed_in.userinfo
    assert userinfo
    assert userinfo["sub"] == conversation.signed_in.claims["sub"]
    assert userinfo["preferred_username"] == "alice"


def test_a_library_accepts_the_id_token_of_a_refresh(conversation: Conversation) -> None:
    first, second = conversation.signed_in.claims, conversation.refreshed.claims
    same = ("iss", "sub", "aud", "auth_time", "sid")
    assert [second[name] for name in same] == [first[name] for name in same]
    assert second["iat"] >= first["iat"]


def test_a_library_accepts_the_id_token_of_the_next_key(conversation: Conversation) -> None:
    first, second = conversation.signed_in, conversation.after_rotation
    assert kid_of(second.id_token) != kid_of(first.id_token)
    assert second.claims["sub"] == first.claims["sub"]


def test_a_library_signs_the_person_out_with_an_id_token_of_the_key_before(
    conversation: Conversation, registered: Registered
) -> None:
    assert conversation.signed_out.url.startswith(registered.post_logout_redirect_uri)
    assert conversation.signed_out.parameters.keys() == {"state"}
    assert conversation.afterwards.path == "/signin"


def test_a_library_receives_the_response_by_a_form_without_javascript(registered: Registered) -> None:
    require("openid-client")
    with signed_in("openid-client", registered, response_mode="form_post") as (party, _, callback):
        assert callback.url == registered.redirect_uri
        assert callback.posted
        assert party.finish(callback).claims["iss"] == registered.issuer


def test_a_library_pushes_its_request(registered: Registered) -> None:
    require("openid-client")
    with signed_in("openid-client", registered, pushed=True) as (party, browser, callback):
        asked = parse_qs(urlsplit(browser.visited[0]).query)
        assert asked.keys() == {"client_id", "request_uri"}
        assert party.finish(callback).claims["iss"] == registered.issuer


def test_a_person_who_is_signed_in_reaches_a_second_client_without_a_password(registered: Registered) -> None:
    require("openid-client")
    require("oauth4webapi")
    with signed_in("openid-client", registered) as (party, browser, callback):
        party.finish(callback)
        with RELYING_PARTIES["oauth4webapi"](registered) as other:
            seen = len(browser.visited)
            page = browser.visit(other.begin())
            assert not any("/signin" in url for url in browser.visited[seen:])
            assert other.finish(page).claims["iss"] == registered.issuer
