"""The OpenID Foundation's basic certification plan, module by module, and again as its form_post plan.

A test is named by its module without `oidcc-`. Modules that need dynamic registration do not apply.
"""

import base64
import hashlib
import json
import secrets
from collections.abc import Iterator

import jwt
import pytest
from support.conformance import (
    LEAST_CHARACTERS,
    LONG_STATE,
    REDIRECT_URI,
    SECOND_REDIRECT_URI,
    Conformance,
    conformance,
)
from support.endpoints import ISSUER

from issuer.oauth import AuthMethod

INTERACTION_ERRORS = {
    "login_required",
    "interaction_required",
    "consent_required",
    "account_selection_required",
}


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Conformance]:
    with conformance(tmp_path_factory.mktemp("basic")) as suite:
        yield suite


@pytest.fixture(params=["query", "form_post"])
def suite(request: pytest.FixtureRequest, plan: Conformance) -> Conformance:
    plan.begin(request.param)
    return plan


def pages_of(suite: Conformance) -> list[str]:
    """The pages that the browser was shown since it was new."""
    return [
        url for url in suite.browser.visited if "/oauth2/authorize" not in url and REDIRECT_URI not in url
    ]


def test_server(suite: Conformance) -> None:
    for client in (suite.first, suite.second):
        suite.new_browser()
        tokens = suite.sign_in(client)
        assert suite.userinfo(tokens)["sub"] == tokens.claims["sub"]


def test_response_type_missing(suite: Conformance) -> None:
    request = suite.request(response_type=None)
    assert suite.error(suite.open(request), request) in {"invalid_request", "unsupported_response_type"}


def test_idtoken_signature(suite: Conformance) -> None:
    token = suite.sign_in().response["id_token"]
    assert jwt.get_unverified_header(token)["kid"]


def test_idtoken_unsigned(suite: Conformance) -> None:
    assert "none" not in suite.metadata["id_token_signing_alg_values_supported"]


def test_userinfo_get(suite: Conformance) -> None:
    suite.userinfo(suite.sign_in())


def test_userinfo_post_header(suite: Conformance) -> None:
    tokens = suite.sign_in()
    headers = {"Authorization": f"Bearer {tokens.access}"}
    answer = suite.web.post(suite.metadata["userinfo_endpoint"], headers=headers)
    assert answer.json()["sub"] == tokens.claims["sub"]


def test_userinfo_post_body(suite: Conformance) -> None:
    tokens = suite.sign_in()
    answer = suite.web.post(suite.metadata["userinfo_endpoint"], data={"access_token": tokens.access})
    assert answer.json()["sub"] == tokens.claims["sub"]


def test_ensure_request_without_nonce_succeeds_for_code_flow(suite: Conformance) -> None:
    assert "nonce" not in suite.sign_in(nonce=None).claims


def test_scope_profile(suite: Conformance) -> None:
    claims = suite.userinfo(suite.sign_in(scope="openid profile"))
    assert (claims["name"], claims["preferred_username"]) == ("Alice Example", "alice")
    assert isinstance(claims["updated_at"], int)


def test_scope_email(suite: Conformance) -> None:
    tokens = suite.sign_in(scope="openid email")
    claims = suite.userinfo(tokens)
    assert (claims["email"], claims["email_verified"]) == ("alice@example.com", True)
    assert "email" not in tokens.claims


@pytest.mark.parametrize("scope", ["address", "phone"])
def test_scope_address_and_scope_phone(suite: Conformance, scope: str) -> None:
    assert scope not in suite.metadata["scopes_supported"]  # the suite skips the module then
    suite.userinfo(suite.sign_in(scope=f"openid {scope}"))


def test_scope_all(suite: Conformance) -> None:
    claims = suite.userinfo(suite.sign_in(scope="openid profile email address phone"))
    assert claims.keys() >= {"sub", "name", "preferred_username", "updated_at", "email", "email_verified"}


def test_alternate_happy_flow(suite: Conformance) -> None:
    request = dict(reversed(suite.request(scope="email profile openid").items()))
    tokens = suite.tokens(
        suite.redeem(suite.code(suite.respond(request), request)), suite.first, request["nonce"]
    )
    assert suite.userinfo(tokens)["email"]


@pytest.mark.parametrize("display", ["page", "popup"])
def test_display_page_and_display_popup(suite: Conformance, display: str) -> None:
    suite.sign_in(display=display)


def test_prompt_login(suite: Conformance) -> None:
    before = suite.sign_in()
    suite.wait(2)
    request = suite.request(prompt="login")
    page = suite.open(request)
    assert page.path == "/signin"
    code = suite.code(suite.browser.finish(page), request)
    after = suite.tokens(suite.redeem(code), suite.first, request["nonce"])
    assert after.claims["auth_time"] > before.claims["auth_time"]
    assert after.claims["sub"] == before.claims["sub"]


def test_prompt_none_not_logged_in(suite: Conformance) -> None:
    request = suite.request(prompt="none", state=LONG_STATE)
    assert suite.error(suite.open(request), request) in INTERACTION_ERRORS
    assert pages_of(suite) == []


def test_prompt_none_logged_in(suite: Conformance) -> None:
    before = suite.sign_in()
    suite.wait(2)
    request = suite.request(prompt="none")
    after = suite.tokens(
        suite.redeem(suite.code(suite.open(request), request)), suite.first, request["nonce"]
    )
    same = ("sub", "auth_time")
    assert [after.claims[name] for name in same] == [before.claims[name] for name in same]


def test_max_age_1(suite: Conformance) -> None:
    before = suite.sign_in()
    suite.wait(2)
    request = suite.request(max_age="1")
    page = suite.open(request)
    assert page.path == "/signin"
    code = suite.code(suite.browser.finish(page), request)
    after = suite.tokens(suite.redeem(code), suite.first, request["nonce"])
    assert after.claims["auth_time"] > before.claims["auth_time"]
    assert suite.clock.now.timestamp() - after.claims["auth_time"] <= 1


def test_max_age_10000(suite: Conformance) -> None:
    before = suite.sign_in(max_age="15000")
    suite.wait(2)
    request = suite.request(max_age="10000")
    after = suite.tokens(
        suite.redeem(suite.code(suite.open(request), request)), suite.first, request["nonce"]
    )
    assert after.claims["auth_time"] == before.claims["auth_time"]


def test_ensure_request_with_unknown_parameter_succeeds(suite: Conformance) -> None:
    suite.sign_in(extra="foobar")


def test_id_token_hint(suite: Conformance) -> None:
    before = suite.sign_in()
    request = suite.request(prompt="none", id_token_hint=before.response["id_token"])
    after = suite.tokens(
        suite.redeem(suite.code(suite.open(request), request)), suite.first, request["nonce"]
    )
    assert after.claims["sub"] == before.claims["sub"]


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("login_hint", "buffy@www.certification.openid.net"), ("ui_locales", "se"), ("claims_locales", "se")],
)
def test_login_hint_and_ui_locales_and_claims_locales(suite: Conformance, parameter: str, value: str) -> None:
    suite.sign_in(**{parameter: value})


def test_ensure_request_with_acr_values_succeeds(suite: Conformance) -> None:
    values = suite.metadata.get("acr_values_supported", ["1", "2"])
    assert suite.sign_in(acr_values=" ".join(values)).claims["acr"] in values


def test_codereuse(suite: Conformance) -> None:
    request = suite.request()
    code = suite.code(suite.respond(request), request)
    suite.tokens(suite.redeem(code), suite.first, request["nonce"])
    again = suite.redeem(code)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")


def test_codereuse_30seconds(suite: Conformance) -> None:
    request = suite.request()
    code = suite.code(suite.respond(request), request)
    tokens = suite.tokens(suite.redeem(code), suite.first, request["nonce"])
    suite.wait(30)
    again = suite.redeem(code)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    headers = {"Authorization": f"Bearer {tokens.access}"}
    answer = suite.web.get(suite.metadata["userinfo_endpoint"], headers=headers)
    assert (answer.status_code, 'error="invalid_token"' in answer.headers["www-authenticate"]) == (401, True)


def test_ensure_registered_redirect_uri(suite: Conformance) -> None:
    page = suite.open(suite.request(redirect_uri=f"{REDIRECT_URI}/not-registered"))
    assert (page.status, page.path) == (400, "/oauth2/authorize")
    assert "<h1>" in page.text


def test_ensure_post_request_succeeds(suite: Conformance) -> None:
    request = suite.request()
    page = suite.browser.post(f"{ISSUER}/oauth2/authorize", request)
    page = suite.arrived(suite.browser.finish(page))
    suite.tokens(suite.redeem(suite.code(page, request)), suite.first, request["nonce"])


def test_server_client_secret_post(suite: Conformance) -> None:
    suite.userinfo(suite.sign_in(suite.registered(AuthMethod.POST)))


def unsigned(**claims: str) -> str:
    """An unsigned request object."""
    return jwt.encode(claims, None, algorithm="none")


def test_request_uri_unsigned_supported_correctly_or_rejected_as_unsupported(suite: Conformance) -> None:
    assert suite.metadata["request_uri_parameter_supported"] is False
    request = suite.request(request_uri="https://www.certification.openid.net/test/a/issuer/request.jwt")
    assert suite.error(suite.open(request), request) == "request_uri_not_supported"


def test_unsigned_request_object_supported_correctly_or_rejected_as_unsupported(suite: Conformance) -> None:
    assert suite.metadata["request_parameter_supported"] is False
    request = suite.request()
    signed_by_nobody = {**request, "request": unsigned(**request)}
    assert suite.error(suite.open(signed_by_nobody), request) == "request_not_supported"


def test_claims_essential(suite: Conformance) -> None:
    claims = json.dumps({"userinfo": {"name": {"essential": True}}})
    assert suite.userinfo(suite.sign_in(claims=claims))["name"] == "Alice Example"


def test_ensure_request_object_with_redirect_uri(suite: Conformance) -> None:
    request = suite.request(redirect_uri=f"{REDIRECT_URI}/not-registered")
    inner = {**request, "redirect_uri": REDIRECT_URI}
    page = suite.open({**request, "request": unsigned(**inner)})
    assert (page.status, page.path) == (400, "/oauth2/authorize")


def test_refresh_token(suite: Conformance) -> None:
    assert "offline_access" in suite.metadata["scopes_supported"]
    first = suite.sign_in(scope="openid offline_access", prompt="consent")
    second = suite.sign_in(suite.second, scope="openid offline_access", prompt="consent")
    suite.wait(2)
    token = first.response["refresh_token"]
    assert len(token) >= LEAST_CHARACTERS
    form = {"grant_type": "refresh_token", "refresh_token": token, "scope": "openid offline_access"}
    refreshed = suite.tokens(suite.ask(suite.first, form), suite.first, None)
    same = ("iss", "sub", "aud", "auth_time", "acr", "sid")
    assert [refreshed.claims[name] for name in same] == [first.claims[name] for name in same]
    assert refreshed.claims["iat"] > first.claims["iat"]
    assert refreshed.response["refresh_token"] != token
    foreign = {"grant_type": "refresh_token", "refresh_token": second.response["refresh_token"]}
    refused = suite.ask(suite.first, foreign)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")


def test_ensure_request_with_valid_pkce_succeeds(suite: Conformance) -> None:
    verifier = secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    request = suite.request(code_challenge=challenge, code_challenge_method="S256")
    code = suite.code(suite.respond(request), request)
    suite.tokens(suite.redeem(code, code_verifier=verifier), suite.first, request["nonce"])


def test_the_second_clients_redirect_uri_keeps_its_query(suite: Conformance) -> None:
    request = suite.request(suite.second)
    page = suite.respond(request)
    assert page.url.startswith(SECOND_REDIRECT_URI)
    suite.code(page, request)
