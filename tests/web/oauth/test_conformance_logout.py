"""The OpenID Foundation's plans for RP-initiated and back-channel logout, module by module.

A test is named by its module without `oidcc-`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlencode

import jwt
import pytest
from support.conformance import (
    ID_TOKEN_MOST_AGE,
    LONG_STATE,
    SIGNED_OUT_URI,
    Conformance,
    Tokens,
    conformance,
)
from support.endpoints import ISSUER
from support.servers import HOST, eventually
from support.sign_in_browser import Page

from issuer.oauth import AuthMethod
from jwks_verifier.testing import KeyPair, make_token

EVENT = "http://schemas.openid.net/event/backchannel-logout"
FORGED = KeyPair()


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Conformance]:
    with conformance(tmp_path_factory.mktemp("logout")) as suite:
        yield suite


@pytest.fixture
def suite(plan: Conformance) -> Conformance:
    plan.begin()
    return plan


@pytest.fixture
def tokens(suite: Conformance) -> Tokens:
    """Tokens of the person who is signed in."""
    return suite.sign_in()


def log_out(suite: Conformance, **parameters: str) -> Page:
    return suite.browser.open(f"{suite.metadata['end_session_endpoint']}?{urlencode(parameters)}")


def confirmed(suite: Conformance, page: Page) -> Page:
    """Answer the question whether to sign out, if that is what the page is."""
    return suite.browser.submit(page, page.forms[0], "Sign out") if page.forms else page


def require_page(page: Page) -> None:
    assert page.url.startswith(ISSUER), page
    assert "<h1>" in page.text


def test_rp_initiated_logout_discovery_endpoint_verification(suite: Conformance) -> None:
    assert suite.metadata["end_session_endpoint"] == f"{ISSUER}/oauth2/logout"


def test_rp_initiated_logout(suite: Conformance, tokens: Tokens) -> None:
    hint = tokens.response["id_token"]
    page = log_out(suite, id_token_hint=hint, post_logout_redirect_uri=SIGNED_OUT_URI, state=LONG_STATE)
    assert (page.url.partition("?")[0], page.parameters) == (SIGNED_OUT_URI, {"state": LONG_STATE})
    assert not suite.is_signed_in()


def test_rp_initiated_logout_no_state(suite: Conformance, tokens: Tokens) -> None:
    page = log_out(suite, id_token_hint=tokens.response["id_token"], post_logout_redirect_uri=SIGNED_OUT_URI)
    assert page.url == SIGNED_OUT_URI
    assert not suite.is_signed_in()


def test_rp_initiated_logout_bad_post_logout_redirect_uri(suite: Conformance, tokens: Tokens) -> None:
    uri = f"{SIGNED_OUT_URI}/not-registered"
    require_page(log_out(suite, id_token_hint=tokens.response["id_token"], post_logout_redirect_uri=uri))


def test_rp_initiated_logout_query_added_to_post_logout_redirect_uri(
    suite: Conformance, tokens: Tokens
) -> None:
    uri = f"{SIGNED_OUT_URI}?foo=bar"
    require_page(log_out(suite, id_token_hint=tokens.response["id_token"], post_logout_redirect_uri=uri))


def test_rp_initiated_logout_modified_id_token_hint(suite: Conformance, tokens: Tokens) -> None:
    unsigned = jwt.encode(dict(tokens.claims), None, algorithm="none")
    require_page(log_out(suite, id_token_hint=unsigned, post_logout_redirect_uri=SIGNED_OUT_URI))


def test_rp_initiated_logout_bad_id_token_hint(suite: Conformance, tokens: Tokens) -> None:
    kid = jwt.get_unverified_header(tokens.response["id_token"])["kid"]
    by_another_key = make_token(FORGED, header={"kid": kid, "typ": "JWT"}, **tokens.claims)
    require_page(log_out(suite, id_token_hint=by_another_key, post_logout_redirect_uri=SIGNED_OUT_URI))


def test_rp_initiated_logout_no_id_token_hint(suite: Conformance, tokens: Tokens) -> None:
    require_page(log_out(suite, post_logout_redirect_uri=SIGNED_OUT_URI, state=LONG_STATE))


@pytest.mark.parametrize("parameters", [{}, {"state": LONG_STATE}])
def test_rp_initiated_logout_no_params_and_only_state(
    suite: Conformance, tokens: Tokens, parameters: dict[str, str]
) -> None:
    require_page(confirmed(suite, log_out(suite, **parameters)))
    assert not suite.is_signed_in()


def test_rp_initiated_logout_no_post_logout_redirect_uri(suite: Conformance, tokens: Tokens) -> None:
    require_page(log_out(suite, id_token_hint=tokens.response["id_token"], state=LONG_STATE))
    assert not suite.is_signed_in()


@contextmanager
def receiver() -> Iterator[tuple[str, list[tuple[str, dict[str, list[str]]]]]]:
    """A client's server for logout tokens: its URI, and the media type and form of each request."""
    received: list[tuple[str, dict[str, list[str]]]] = []

    class Receiving(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            received.append((self.headers["Content-Type"], parse_qs(body)))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((HOST, 0), Receiving) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://{HOST}:{server.server_port}/backchannel_logout", received
        finally:
            server.shutdown()


def require_logout_token(suite: Conformance, token: str, tokens: Tokens) -> None:
    header = jwt.get_unverified_header(token)
    keys = {key["kid"]: key for key in suite.web.get(suite.metadata["jwks_uri"]).json()["keys"]}
    never_by_the_real_clock: Any = {"verify_exp": False, "verify_iat": False}
    claims = jwt.decode(
        token,
        jwt.PyJWK(keys[header["kid"]]),
        ["RS256"],
        audience=tokens.claims["aud"],
        issuer=ISSUER,
        options=never_by_the_real_clock,
    )
    assert (header["alg"], claims["events"]) == ("RS256", {EVENT: {}})
    assert claims["jti"]
    assert 0 <= suite.clock.now.timestamp() - claims["iat"] <= ID_TOKEN_MOST_AGE.total_seconds()
    assert (claims["sub"], claims["sid"]) == (tokens.claims["sub"], tokens.claims["sid"])
    assert "nonce" not in claims


def test_backchannel_rp_initiated_logout_discovery_endpoint_verification(suite: Conformance) -> None:
    assert suite.metadata["backchannel_logout_supported"] is True
    assert suite.metadata["backchannel_logout_session_supported"] is True


def test_backchannel_rp_initiated_logout(suite: Conformance) -> None:
    with receiver() as (uri, received):
        tokens = suite.sign_in(suite.registered(AuthMethod.BASIC, backchannel_logout_uri=uri))
        hint = tokens.response["id_token"]
        log_out(suite, id_token_hint=hint, post_logout_redirect_uri=SIGNED_OUT_URI, state=LONG_STATE)
        eventually(lambda: received, "the client is told")
        [(media_type, form)] = received
    assert media_type.startswith("application/x-www-form-urlencoded")
    assert form.keys() == {"logout_token"}
    require_logout_token(suite, form["logout_token"][0], tokens)
    assert not suite.is_signed_in()
