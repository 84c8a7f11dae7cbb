"""The grant `authorization_code`: what a code is bound to, that it works once, and what it leads to."""

from typing import Any

import jwt
import pytest
from fastapi.testclient import TestClient
from support.authorizing import CALLBACK, VERIFIER, App, an_app, answer, sign_in
from support.defaults import MovableClock, bearer
from support.endpoints import ISSUER, SERVICE

from issuer.accounts.profile import Profile
from issuer.oauth import AuthMethod, GrantType
from issuer.services import Issuer

PROFILE = Profile(name="Alice", email="alice@example.com")
WITHOUT_PKCE = {"code_challenge": None, "code_challenge_method": None}


@pytest.fixture
def app(issuer: Issuer) -> App:
    return an_app(issuer)


@pytest.fixture(autouse=True)
def _signed_in(web: TestClient, issuer: Issuer, alice: str) -> None:
    sign_in(web, issuer, alice)


def claims(token: str) -> dict[str, Any]:
    return dict(jwt.decode(token, options={"verify_signature": False}))


def refused(response: Any) -> str:
    """Return the description of an invalid grant."""
    assert (response.status_code, response.json()["error"]) == (400, "invalid_grant"), response.text
    assert response.headers["cache-control"] == "no-store"
    return str(response.json()["error_description"])


def is_active(web: TestClient, access_token: str) -> bool:
    return web.get("/users/me", headers=bearer(access_token)).status_code == 200


@pytest.mark.parametrize("method", [AuthMethod.POST, AuthMethod.NONE])
def test_a_code_becomes_tokens_of_the_user_for_what_was_requested(
    web: TestClient, issuer: Issuer, alice: str, method: AuthMethod
) -> None:
    app = an_app(issuer, method, scope="items:read items:write admin")
    code = app.code(web, scope="openid items:read admin unknown", nonce="a nonce")
    body = app.redeems(web, code).json()
    access, identity = claims(body["access_token"]), claims(body["id_token"])
    assert (access["sub"], access["client_id"], access["aud"]) == (alice, app.client_id, [SERVICE, ISSUER])
    assert body["scope"] == access["scope"] == "items:read openid", "the user has no scope admin"
    assert (identity["aud"], identity["nonce"], identity["sub"]) == (app.client_id, "a nonce", alice)
    assert identity["sid"] == access["sid"]
    assert body["refresh_token"]
    assert is_active(web, body["access_token"])


def test_a_code_works_once_and_a_retry_of_the_client_ends_nothing(
    web: TestClient, app: App, clock: MovableClock
) -> None:
    code = app.code(web)
    body = app.redeems(web, code).json()
    clock.advance(seconds=5)
    assert "was used" in refused(app.redeems(web, code))
    assert is_active(web, body["access_token"])
    clock.advance(seconds=5)
    assert "was used" in refused(app.redeems(web, code))
    assert not is_active(web, body["access_token"])
    refresh = {"grant_type": "refresh_token", "refresh_token": body["refresh_token"], **app.credentials}
    refused(web.post("/oauth2/token", data=refresh))


def test_a_used_code_with_a_wrong_verifier_or_of_another_client_ends_the_session(
    web: TestClient, issuer: Issuer, app: App
) -> None:
    other = an_app(issuer)
    for client, changes in ((app, {"code_verifier": "x" * 43}), (app, {"code_verifier": None}), (other, {})):
        code = app.code(web)
        body = app.redeems(web, code).json()
        refused(client.redeems(web, code, **changes))
        assert not is_active(web, body["access_token"])


def test_a_code_is_bound_to_its_client_its_redirect_uri_and_its_challenge(
    web: TestClient, issuer: Issuer
) -> None:
    app = an_app(issuer, redirect_uris=[CALLBACK, "https://app.example/other"])
    other = an_app(issuer)
    code = app.code(web)
    assert "another client" in refused(other.redeems(web, code))
    assert "redirect_uri" in refused(app.redeems(web, code, redirect_uri="https://app.example/other"))
    assert "redirect_uri" in refused(app.redeems(web, code, redirect_uri=CALLBACK + "/"))
    for verifier in (None, "x" * 43, VERIFIER[:-1], VERIFIER + "x", "short", "é" * 50):
        assert "code_verifier" in refused(app.redeems(web, code, code_verifier=verifier))
    for unknown in (code[:-1], code + "x", "x", "é"):
        assert "unknown" in refused(app.redeems(web, unknown))
    assert app.redeems(web, "").json()["error"] == "invalid_request"
    assert app.redeems(web, code).status_code == 200, "a refused attempt does not use up the code"


def test_the_redirect_uri_may_be_left_out(web: TestClient, app: App) -> None:
    assert app.redeems(web, app.code(web), redirect_uri=None).status_code == 200


def test_a_code_lives_for_a_minute(web: TestClient, issuer: Issuer, app: App, clock: MovableClock) -> None:
    first, second = app.code(web), app.code(web)
    clock.advance(seconds=59.9)
    issuer.keys.node.refresh()
    assert app.redeems(web, first).status_code == 200
    clock.advance(seconds=0.1)
    assert "expired" in refused(app.redeems(web, second))


def test_a_code_of_a_disabled_user_or_after_a_sign_out_starts_no_session(
    web: TestClient, issuer: Issuer, app: App, alice: str, clock: MovableClock
) -> None:
    session = sign_in(web, issuer, alice)
    code = app.code(web)
    assert issuer.tokens.families.end_browser_session(session.id, clock())
    assert "signed out" in refused(app.redeems(web, code))
    sign_in(web, issuer, alice)
    code = app.code(web)
    issuer.tokens.families.disable(alice, clock())
    refused(app.redeems(web, code))


def test_a_client_without_pkce_must_use_it_for_ever_once_it_has(web: TestClient, issuer: Issuer) -> None:
    app = an_app(issuer, requires_pkce=False)
    code = app.code(web, **WITHOUT_PKCE)
    assert "code_verifier" in refused(app.redeems(web, code)), "RFC 9700 section 4.8.2"
    assert app.redeems(web, code, code_verifier=None).status_code == 200
    assert "code_verifier" in refused(app.redeems(web, app.code(web), code_verifier=None))
    assert app.code(web, **WITHOUT_PKCE), "a challenge that was never redeemed may be of an attacker"
    assert app.redeems(web, app.code(web)).status_code == 200
    assert answer(app.asks(web, **WITHOUT_PKCE))["error"] == "invalid_request"


def test_without_the_grant_refresh_token_there_is_none(web: TestClient, issuer: Issuer) -> None:
    app = an_app(issuer, grant_types=frozenset({GrantType.AUTHORIZATION_CODE}))
    body = app.redeems(web, app.code(web)).json()
    assert "refresh_token" not in body
    assert is_active(web, body["access_token"]), "there is a session all the same"


def test_tokens_end_with_the_browser_session_unless_offline_access_was_requested(
    web: TestClient, issuer: Issuer, app: App, alice: str, clock: MovableClock
) -> None:
    session = sign_in(web, issuer, alice)
    bound = app.redeems(web, app.code(web)).json()
    offline = app.redeems(web, app.code(web, scope="openid offline_access")).json()
    issuer.tokens.families.end_browser_session(session.id, clock())
    for body, status in ((bound, 400), (offline, 200)):
        form = {"grant_type": "refresh_token", "refresh_token": body["refresh_token"], **app.credentials}
        assert web.post("/oauth2/token", data=form).status_code == status
    assert "offline_access" in offline["scope"]


def test_a_resource_limits_the_audience_and_leaves_out_the_issuer(web: TestClient, issuer: Issuer) -> None:
    one, two = "https://one.example", "https://two.example/"
    app = an_app(issuer, audiences=(one, two))
    body = app.redeems(web, app.code(web)).json()
    assert claims(body["access_token"])["aud"] == [one, two, ISSUER]
    body = app.redeems(web, app.code(web, resource="https://TWO.example")).json()
    assert claims(body["access_token"])["aud"] == [two], "as registered"
    code = app.code(web)
    assert app.redeems(web, code, resource="https://other.example").json()["error"] == "invalid_target"
    body = app.redeems(web, code, resource=one).json()
    assert claims(body["access_token"])["aud"] == [one]
    code = app.code(web, resource=one)
    assert app.redeems(web, code, resource=two).json()["error"] == "invalid_target"
    form = {"grant_type": "refresh_token", "refresh_token": body["refresh_token"], **app.credentials}
    assert claims(web.post("/oauth2/token", data=form).json()["access_token"])["aud"] == [one, two, ISSUER]


def test_a_client_without_the_grant_and_the_built_in_one_redeem_nothing(
    web: TestClient, machine: tuple[str, str]
) -> None:
    form = {"grant_type": "authorization_code", "code": "x"}
    assert web.post("/oauth2/token", data=form, auth=machine).json()["error"] == "unauthorized_client"
    first_party = {**form, "client_id": "first-party"}
    assert web.post("/oauth2/token", data=first_party).json()["error"] == "unauthorized_client"


def test_an_id_token_has_the_claims_that_the_client_is_registered_for_as_far_as_the_user_released_them(
    web: TestClient, issuer: Issuer, alice: str
) -> None:
    issuer.accounts.store.set_profile(alice, PROFILE, issuer.clock())
    app = an_app(issuer, id_token_claims=["email", "email_verified", "name"])
    body = app.redeems(web, app.code(web, scope="openid email")).json()
    identity = claims(body["id_token"])
    assert (identity["email"], identity["email_verified"]) == ("alice@example.com", False)
    assert "name" not in identity
    refresh = {"grant_type": "refresh_token", "refresh_token": body["refresh_token"], **app.credentials}
    narrowed = web.post("/oauth2/token", data={**refresh, "scope": "openid"}).json()
    assert "email" not in claims(narrowed["id_token"])


def test_claims_about_users_stay_out_of_the_id_tokens_of_other_clients(
    web: TestClient, issuer: Issuer, app: App, alice: str
) -> None:
    issuer.accounts.store.set_profile(alice, PROFILE, issuer.clock())
    identity = claims(app.redeems(web, app.code(web, scope="openid email profile")).json()["id_token"])
    assert not {"email", "email_verified", "name", "preferred_username"} & identity.keys()
