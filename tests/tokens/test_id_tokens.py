"""ID tokens: their claims and lifetime, at each response of the token endpoint, for each algorithm."""

import hashlib
from base64 import urlsafe_b64encode
from datetime import timedelta
from typing import Any

import jwt
import pytest
from fastapi.testclient import TestClient
from support.authorizing import an_app, sign_in
from support.defaults import ALICE, Build, MovableClock
from support.endpoints import ISSUER
from support.refreshes import refresh

from issuer.oauth import GrantType
from issuer.services import Issuer
from issuer.settings.settings import Settings
from issuer.web.app import create_app

NONCE = "a nonce of more than forty-three characters, as tests send it"
NEVER_BY_THE_REAL_CLOCK = {"verify_exp": False, "verify_iat": False}


def read(web: TestClient, token: str, audience: str) -> dict[str, Any]:
    """Return the claims of an id_token as its client reads it: by the JWKS alone, with another library."""
    keys = {key["kid"]: key for key in web.get("/.well-known/jwks.json").json()["keys"]}
    header = jwt.get_unverified_header(token)
    assert header.keys() == {"alg", "kid", "typ"}
    assert header["typ"] == "JWT"
    key = jwt.PyJWK(keys[header["kid"]])
    options: Any = NEVER_BY_THE_REAL_CLOCK
    return dict(jwt.decode(token, key, [header["alg"]], audience=audience, issuer=ISSUER, options=options))


def left_half(text: str, function: str) -> str:
    digest = hashlib.new(function, text.encode()).digest()
    return urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()


@pytest.mark.parametrize(
    ("algorithm", "function"),
    [("RS256", "sha256"), ("PS256", "sha256"), ("ES256", "sha256"), ("EdDSA", "sha512")],
)
def test_a_code_is_redeemed_for_an_id_token_with_exactly_the_claims_that_are_documented(
    made: Build, settings: Settings, clock: MovableClock, algorithm: str, function: str
) -> None:
    issuer = made(settings.model_copy(update={"algorithm": algorithm}))
    with TestClient(create_app(issuer)) as web:
        user = web.post("/users", json=ALICE).json()["id"]
        app, session = an_app(issuer), sign_in(web, issuer, user)
        clock.advance(minutes=3)
        issuer.keys.node.refresh()
        body = app.redeems(web, app.code(web, scope="openid", nonce=NONCE)).json()
        claims = read(web, body["id_token"], app.client_id)
    now = int(clock().timestamp())
    assert claims == {
        "iss": ISSUER,
        "sub": user,
        "aud": app.client_id,
        "iat": now,
        "exp": now + 600,
        "auth_time": now - 180,
        "nonce": NONCE,
        "acr": "1",
        "amr": ["pwd"],
        "at_hash": left_half(body["access_token"], function),
        "sid": issuer.sessions.store.sid(session, app.client_id),
    }
    header = jwt.get_unverified_header(body["id_token"])
    assert header["alg"] == algorithm
    assert header["kid"] == jwt.get_unverified_header(body["access_token"])["kid"]


def test_a_refresh_returns_an_id_token_about_the_same_sign_in_without_the_nonce(
    web: TestClient, issuer: Issuer, alice: str, clock: MovableClock
) -> None:
    app = an_app(issuer)
    sign_in(web, issuer, alice)
    first = app.redeems(web, app.code(web, scope="openid items:read offline_access", nonce=NONCE)).json()
    clock.advance(minutes=30)
    issuer.keys.node.refresh()
    second = refresh(web, first["refresh_token"], **app.credentials).json()
    before, after = (read(web, each["id_token"], app.client_id) for each in (first, second))
    kept = ("iss", "sub", "aud", "auth_time", "acr", "amr", "sid")
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert after["iat"] == before["iat"] + 1800
    assert after["at_hash"] == left_half(second["access_token"], "sha256")
    assert before.keys() - after.keys() == {"nonce"}


def test_identity_scopes_are_kept_at_a_refresh_though_no_operator_grants_them(
    web: TestClient, issuer: Issuer, alice: str
) -> None:
    app = an_app(issuer)
    sign_in(web, issuer, alice)
    body = app.redeems(web, app.code(web, scope="openid email items:read offline_access")).json()
    issuer.accounts.store.set_scope(alice, frozenset())
    refreshed = refresh(web, body["refresh_token"], **app.credentials).json()
    assert refreshed["scope"].split() == ["email", "offline_access", "openid"]


def test_there_is_no_id_token_without_the_scope_openid_or_without_a_browser(
    web: TestClient, issuer: Issuer, alice: str, machine: tuple[str, str]
) -> None:
    app = an_app(issuer)
    sign_in(web, issuer, alice)
    offline = app.redeems(web, app.code(web, scope="openid items:read offline_access")).json()
    issuer.accounts.store.set_scope(alice, frozenset({"items:read", "openid"}))
    logged_in = web.post("/login", data=ALICE).json()
    assert "openid" in logged_in["scope"].split()
    others = [
        app.redeems(web, app.code(web, scope="items:read")).json(),
        refresh(web, offline["refresh_token"], scope="items:read", **app.credentials).json(),
        logged_in,
        web.post("/oauth2/token", data={"grant_type": "client_credentials"}, auth=machine).json(),
    ]
    assert [body["token_type"] for body in others] == ["Bearer", "Bearer", "bearer", "Bearer"]
    assert not [body for body in others if "id_token" in body]


def test_an_access_token_of_a_browser_session_carries_the_sid_of_its_client(
    web: TestClient, issuer: Issuer, alice: str
) -> None:
    session = sign_in(web, issuer, alice)
    sids = set()
    for app in (an_app(issuer), an_app(issuer)):
        body = app.redeems(web, app.code(web)).json()
        access, identity = (
            jwt.decode(body[name], options={"verify_signature": False})
            for name in ("access_token", "id_token")
        )
        assert access["sid"] == identity["sid"] == issuer.sessions.store.sid(session, app.client_id)
        sids.add(access["sid"])
    assert len(sids) == 2
    logged_in = web.post("/login", data=ALICE).json()["access_token"]
    assert "sid" not in jwt.decode(logged_in, options={"verify_signature": False})


def test_a_client_without_the_refresh_grant_gets_a_session_and_no_refresh_token(
    web: TestClient, issuer: Issuer, alice: str
) -> None:
    app = an_app(issuer, grant_types=frozenset({GrantType.AUTHORIZATION_CODE}))
    sign_in(web, issuer, alice)
    body = app.redeems(web, app.code(web)).json()
    assert "refresh_token" not in body
    session = jwt.decode(body["access_token"], options={"verify_signature": False})["grant_id"]
    assert issuer.tokens.families.is_active(session, issuer.clock())


@pytest.mark.parametrize("lifetime", [1, 45, 3600])
def test_an_id_token_lives_for_ten_minutes_or_as_short_as_access_tokens(
    made: Build, settings: Settings, clock: MovableClock, lifetime: int
) -> None:
    changes = {"access_token_lifetime": timedelta(seconds=lifetime)}
    issuer = made(settings.model_copy(update=changes))
    with TestClient(create_app(issuer)) as web:
        user = web.post("/users", json=ALICE).json()["id"]
        app = an_app(issuer)
        sign_in(web, issuer, user)
        body = app.redeems(web, app.code(web, scope="openid")).json()
        claims = read(web, body["id_token"], app.client_id)
    assert claims["exp"] - claims["iat"] == min(lifetime, 600)


def test_the_key_of_an_id_token_is_published_for_its_whole_life_under_the_shortest_settings(
    made: Build, settings: Settings, clock: MovableClock
) -> None:
    changes = {"access_token_lifetime": timedelta(seconds=1), "clock_skew": timedelta(0)}
    issuer = made(settings.model_copy(update=changes))
    with TestClient(create_app(issuer)) as web:
        user = web.post("/users", json=ALICE).json()["id"]
        app = an_app(issuer)
        sign_in(web, issuer, user)
        for _ in range(3):
            body = app.redeems(web, app.code(web, scope="openid")).json()
            issuer.keys.rotation.change(
                lambda ring, now: ring.promoted(issuer.policy, now, forced=True), "a test"
            )
            issuer.keys.node.refresh()
            claims = read(web, body["id_token"], app.client_id)
            while clock().timestamp() < claims["exp"]:
                issuer.keys.node.refresh()
                read(web, body["id_token"], app.client_id)
                clock.advance(seconds=0.25)
