"""Refused authorization requests: which are shown as a page, and which are sent to the client."""

from urllib.parse import urlencode

import pytest
from fastapi.testclient import TestClient
from support.authorizing import (
    CALLBACK,
    STATE,
    App,
    a_state,
    an_app,
    answer,
    refused_by_page,
    sign_in,
)
from support.endpoints import ISSUER

from issuer.services import Issuer


@pytest.fixture
def app(issuer: Issuer) -> App:
    return an_app(issuer)


@pytest.fixture
def signed_in(web: TestClient, issuer: Issuer, alice: str) -> str:
    """The id of alice, who is signed in."""
    sign_in(web, issuer, alice)
    return alice


TRICKS = [
    CALLBACK + "/",
    CALLBACK + "?",
    CALLBACK + "#",
    CALLBACK + "#@evil.example",
    CALLBACK + "/../evil",
    CALLBACK + "/..%2fevil",
    CALLBACK + "%00",
    CALLBACK + "\x00",
    CALLBACK + " ",
    CALLBACK + "\n",
    CALLBACK + "\tx",
    CALLBACK + "?next=https://evil.example",
    CALLBACK + "&x=1",
    CALLBACK + ";x",
    CALLBACK[:-1],
    CALLBACK.upper(),
    CALLBACK.replace("app.example", "APP.example"),
    CALLBACK.replace("app.example", "app.example."),
    CALLBACK.replace("app.example", "app.example:443"),
    CALLBACK.replace("app.example", "app.example:8443"),
    CALLBACK.replace("app.example", "sub.app.example"),
    CALLBACK.replace("app.example", "evil.example"),
    CALLBACK.replace("app.example", "app.example@evil.example"),
    CALLBACK.replace("app.example", "user@app.example"),
    CALLBACK.replace("app.example", "app.example.evil.example"),
    CALLBACK.replace("app.example", "app%2eexample"),
    CALLBACK.replace("app.example", "аpp.example"),  # noqa: RUF001 - a Cyrillic letter
    CALLBACK.replace("https", "http"),
    CALLBACK.replace("https", "HTTPS"),
    CALLBACK.replace("https://", "https:"),
    CALLBACK.replace("https://", "https:/"),
    CALLBACK.replace("https://", "https:///"),
    CALLBACK.replace("https://", "//"),
    CALLBACK.replace("https://", "\\\\"),
    CALLBACK.replace("https://", "https:\\\\"),
    CALLBACK.replace("https://", "https://evil.example\\@"),
    CALLBACK.replace("/callback", "/%63allback"),
    CALLBACK.replace("/callback", "//callback"),
    CALLBACK.replace("/callback", "/./callback"),
    CALLBACK.replace("/callback", "/x/../callback"),
    CALLBACK.replace("/callback", "\\callback"),
    CALLBACK.replace("/callback", "/Callback"),
    "https://app.example",
    "/callback",
    "callback",
    "javascript:alert(1)//" + CALLBACK,
    "data:text/html,<script>alert(1)</script>",
    " " + CALLBACK,
    "http://127.0.0.1:3000/other",
    "http://127.0.0.1:3000/cb/",
    "http://127.0.0.1:3000/cb?x",
    "http://127.0.0.1:99999/cb",
    "http://127.0.0.1:0/cb",
    "http://127.0.0.1:/cb",
    "http://127.0.0.1:3000@evil.example/cb",
    "http://127.0.0.1.evil.example:3000/cb",
    "http://127.0.0.2:3000/cb",
    "http://127.1:3000/cb",
    "http://2130706433:3000/cb",
    "http://0x7f.1:3000/cb",
    "http://0177.0.0.1:3000/cb",
    "http://127.000.000.001:3000/cb",
    "http://localhost:3000/cb",
    "http://localhost.evil.example:3000/cb",
    "http://[::1]:3000/cb",
    "http://[::ffff:127.0.0.1]:3000/cb",
    "https://127.0.0.1:3000/cb",
    "HTTP://127.0.0.1:3000/cb",
    "com.example.app:/other",
    "com.example.app2:/cb",
    "com.example.app://cb",
    "COM.example.app:/cb",
]


def test_no_trick_with_the_redirect_uri_sends_the_browser_anywhere(
    web: TestClient, issuer: Issuer, alice: str
) -> None:
    app = an_app(issuer, redirect_uris=[CALLBACK, "http://127.0.0.1/cb", "com.example.app:/cb"])
    sign_in(web, issuer, alice)
    assert len(TRICKS) > 50
    for trick in TRICKS:
        for more in ({}, {"response_type": "x"}, {"response_mode": "form_post"}, {"prompt": "none"}):
            shown = refused_by_page(web, urlencode(app.request(redirect_uri=trick, **more)))
            assert "<script" not in shown, trick
    repeated = [*app.request().items(), ("redirect_uri", "https://evil.example/")]
    assert "repeated" in refused_by_page(web, urlencode(repeated))
    assert "redirect_uri is missing" in refused_by_page(web, urlencode(app.request(redirect_uri=None)))


@pytest.mark.parametrize(
    ("registered", "sent"),
    [
        ("http://127.0.0.1/cb", "http://127.0.0.1:51004/cb"),
        ("http://[::1]:8001/cb?a=b", "http://[::1]:51004/cb?a=b"),
        ("http://localhost/callback", "http://localhost:3118/callback"),
        ("cursor://anysphere.cursor-mcp/oauth/callback", "cursor://anysphere.cursor-mcp/oauth/callback"),
        (f"{CALLBACK}?dummy1=lorem&dummy2=ipsum", f"{CALLBACK}?dummy1=lorem&dummy2=ipsum"),
    ],
)
def test_the_response_goes_to_the_uri_that_was_sent_with_its_query(
    web: TestClient, issuer: Issuer, alice: str, registered: str, sent: str
) -> None:
    app = an_app(issuer, redirect_uris=[registered])
    sign_in(web, issuer, alice)
    location = app.asks(web, redirect_uri=sent).headers["location"]
    assert location.startswith(f"{sent}{'&' if '?' in sent else '?'}code=")
    assert location.endswith(f"&{urlencode({'state': STATE, 'iss': ISSUER})}")


def test_errors_before_the_redirect_uri_is_known_are_pages(
    web: TestClient, issuer: Issuer, app: App, signed_in: str
) -> None:
    others = an_app(issuer, redirect_uris=["https://other.example/"])
    disabled = an_app(issuer)
    issuer.clients.store.set_disabled(disabled.client_id, issuer.clock())
    for client_id in (None, "", "unknown", "é", "\x00", "x" * 600, others.client_id, disabled.client_id):
        refused_by_page(web, urlencode(app.request(client_id=client_id)))
    assert "first-party" not in refused_by_page(web, urlencode(app.request(client_id="first-party")))
    refused_by_page(web, "")
    for name in ("state", "scope", "client_id", "code_challenge"):
        assert "repeated" in refused_by_page(web, urlencode([*app.request().items(), (name, "x")]))
    assert "UTF-8" in refused_by_page(web, urlencode(app.request()) + "&x=%ff")
    assert "more than 50" in refused_by_page(web, urlencode(app.request()) + "&x=" * 50)
    assert "larger than 7168" in refused_by_page(web, urlencode(app.request(login_hint="x" * 7168)))
    assert "state has more than 2048" in refused_by_page(web, urlencode(app.request(state="x" * 2049)))
    assert signed_in


REFUSALS = [
    ({"response_type": None}, "invalid_request"),
    ({"response_type": "token"}, "unsupported_response_type"),
    ({"response_type": "code id_token"}, "unsupported_response_type"),
    ({"response_type": "none"}, "unsupported_response_type"),
    ({"response_mode": "fragment"}, "invalid_request"),
    ({"response_mode": "query.jwt"}, "invalid_request"),
    ({"request": "eyJhbGciOiJub25lIn0.e30."}, "request_not_supported"),
    ({"request_uri": "https://app.example/request.jwt"}, "request_uri_not_supported"),
    ({"request_uri": "urn:example:x", "response_type": None}, "request_uri_not_supported"),
    ({"registration": "{}"}, "registration_not_supported"),
    ({"prompt": "none login"}, "invalid_request"),
    ({"prompt": "perhaps"}, "invalid_request"),
    ({"prompt": "Login"}, "invalid_request"),
    ({"code_challenge": None}, "invalid_request"),
    ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
    ({"code_challenge_method": None}, "invalid_request"),
    ({"code_challenge_method": "plain"}, "invalid_request"),
    ({"code_challenge": "short"}, "invalid_request"),
    ({"resource": "https://other.example"}, "invalid_target"),
    ({"scope": "unknown"}, "invalid_scope"),
    ({"scope": 'openid "'}, "invalid_scope"),
    ({"claims": "name"}, "invalid_request"),
    ({"max_age": "-1"}, "invalid_request"),
    ({"max_age": "1.5"}, "invalid_request"),
    ({"max_age": "٣"}, "invalid_request"),
    ({"max_age": "9" * 11}, "invalid_request"),
    ({"id_token_hint": "x"}, "invalid_request"),
    ({"nonce": "a\x00b"}, "invalid_request"),
    ({"nonce": "n" * 1025}, "invalid_request"),
    (
        {"claims": '{"id_token":{"acr":{"essential":true,"values":["2"]}}}'},
        "unmet_authentication_requirements",
    ),
    ({"claims": '{"id_token":{"sub":{"value":"bob"}}}', "prompt": "none"}, "login_required"),
]


def test_all_other_errors_are_sent_to_the_client_with_state_and_issuer(
    web: TestClient, app: App, signed_in: str
) -> None:
    for changes, error in REFUSALS:
        state = a_state()
        answered = answer(app.asks(web, **changes, state=state))
        assert answered.pop("error_description").isascii(), changes
        assert answered == {"error": error, "state": state, "iss": ISSUER}, changes
    assert signed_in


def test_a_description_has_no_characters_that_the_standard_forbids(
    web: TestClient, app: App, signed_in: str
) -> None:
    described = answer(app.asks(web, claims='{"userinfo":{"\\"\\\\\\n":1}}'))["error_description"]
    assert not {'"', "\\", "\r", "\n", "\t"} & set(described)
    assert signed_in


def test_what_is_unknown_or_voluntary_is_ignored(web: TestClient, app: App, signed_in: str) -> None:
    for changes in (
        {"extra": "foobar"},
        {"display": "popup"},
        {"display": "hologram"},
        {"ui_locales": "se xx"},
        {"claims_locales": "se"},
        {"acr_values": "2 phr"},
        {"login_hint": "buffy@host"},
        {"scope": "openid unknown"},
        {"scope": None},
        {"state": None},
        {"prompt": ""},
        {"nonce": "n" * 1024},
        {"claims": '{"userinfo":{"name":{"essential":true}}}'},
        {"max_age": "10000"},
    ):
        assert "code" in answer(app.asks(web, **changes)), changes
    assert signed_in


def test_a_page_for_developers_on_loopback_says_where_the_redirect_uri_differs(
    web: TestClient, app: App
) -> None:
    shown = refused_by_page(web, urlencode(app.request(redirect_uri="https://app.example/<b>")))
    assert "&lt;b&gt;" in shown
    assert CALLBACK in shown
    assert "character 21" in shown
