"""No token passes as one of another type: an id_token as an access token, or an access token as an id_token."""

import asyncio
from dataclasses import dataclass
from typing import Any

import httpx2
import jwt
import pytest
from fastapi.testclient import TestClient
from support.authorizing import an_app, sign_in
from support.defaults import MovableClock, bearer
from support.endpoints import ISSUER, SERVICE

import verifier_example.app as example
import verifier_example.settings as example_settings
from issuer.clients.key_sets import read_key_set
from issuer.services import Issuer
from issuer.tokens.inspection import Invalid, decode, require_valid
from issuer.tokens.signed_jwt import ACCESS_TOKEN, ID_TOKEN
from jwks_verifier import InvalidToken, JwksCache, TokenVerifier


@dataclass(frozen=True)
class Tokens:
    """What one sign-in returned."""

    access_token: str
    id_token: str
    client: tuple[str, str]

    def claims(self, name: str) -> dict[str, Any]:
        return dict(jwt.decode(getattr(self, name), options={"verify_signature": False}))


@pytest.fixture
def tokens(web: TestClient, issuer: Issuer, alice: str) -> Tokens:
    sign_in(web, issuer, alice)
    app = an_app(issuer)
    body = app.redeems(web, app.code(web)).json()
    return Tokens(body["access_token"], body["id_token"], (app.client_id, app.secret or ""))


@pytest.fixture
def disguised(issuer: Issuer, tokens: Tokens, clock: MovableClock) -> str:
    """A token of the type id_token with every claim of an access token, for this issuer and the service."""
    key = issuer.tokens.jwt_signer.signing_key(clock())
    return issuer.tokens.jwt_signer.sign(ID_TOKEN, tokens.claims("access_token"), key)


def verifier(web: TestClient, clock: MovableClock) -> TokenVerifier:
    """Return a verifier that fetches the keys of the issuer from `web`."""

    def fetch(request: httpx2.Request) -> httpx2.Response:
        answer = web.get(request.url.path)
        return httpx2.Response(answer.status_code, content=answer.content, headers=dict(answer.headers))

    cache = JwksCache(ISSUER, transport=httpx2.MockTransport(fetch))
    return TokenVerifier(cache, SERVICE, wall=lambda: clock().timestamp())


def test_the_issuer_accepts_no_id_token_as_an_access_token(
    web: TestClient, issuer: Issuer, tokens: Tokens, disguised: str
) -> None:
    assert web.get("/users/me", headers=bearer(tokens.access_token)).status_code == 200
    for token in (tokens.id_token, disguised):
        for path in ("/users/me", "/users/me/sessions", "/oauth2/userinfo"):
            answer = web.get(path, headers=bearer(token))
            assert (answer.status_code, answer.json()["error"]) == (401, "invalid_token")
        client_id, secret = tokens.client
        form = {"token": token, "client_id": client_id, "client_secret": secret}
        introspected = web.post("/oauth2/introspect", data=form)
        assert introspected.json() == {"active": False}


def test_an_id_token_revokes_nothing(web: TestClient, tokens: Tokens, disguised: str) -> None:
    client_id, secret = tokens.client
    for token in (tokens.id_token, disguised):
        form = {"token": token, "client_id": client_id, "client_secret": secret}
        assert web.post("/oauth2/revoke", data=form).status_code == 200  # RFC 7009 section 2.2
    assert web.get("/users/me", headers=bearer(tokens.access_token)).status_code == 200


def test_services_accept_no_id_token(
    web: TestClient, tokens: Tokens, disguised: str, clock: MovableClock
) -> None:
    async def verify(token: str) -> str:
        async with verifier(web, clock) as verifying:
            return (await verifying.verify(token)).subject

    assert asyncio.run(verify(tokens.access_token)) == tokens.claims("id_token")["sub"]
    for token in (tokens.id_token, disguised):
        with pytest.raises(InvalidToken):
            asyncio.run(verify(token))


def test_the_example_service_answers_401_to_an_id_token(
    web: TestClient, tokens: Tokens, disguised: str, clock: MovableClock
) -> None:
    settings = example_settings.Settings(_env_file=None)
    with TestClient(example.create_app(settings, verifier=verifier(web, clock))) as service:
        for token, status in ((tokens.access_token, 200), (tokens.id_token, 401), (disguised, 401)):
            assert service.get("/items", headers=bearer(token)).status_code == status


def test_token_inspect_names_an_id_token_and_calls_it_no_access_token(
    web: TestClient, tokens: Tokens, clock: MovableClock
) -> None:
    keys = read_key_set(web.get("/.well-known/jwks.json").json())
    require_valid(decode(tokens.access_token), keys, ISSUER, SERVICE, clock())
    with pytest.raises(
        Invalid, match=f"it is an id_token, .* tells the client {tokens.client[0]} who signed"
    ):
        require_valid(decode(tokens.id_token), keys, ISSUER, SERVICE, clock())


def test_an_access_token_is_no_id_token(issuer: Issuer, tokens: Tokens, clock: MovableClock) -> None:
    key = issuer.tokens.jwt_signer.signing_key(clock())
    identity = tokens.claims("id_token")
    disguised = issuer.tokens.jwt_signer.sign(ACCESS_TOKEN, identity, key)
    for token in (tokens.access_token, disguised):
        with pytest.raises(ValueError, match="not valid"):
            issuer.tokens.hints.read(token, clock())
    assert (
        jwt.get_unverified_header(tokens.access_token)["typ"]
        != jwt.get_unverified_header(tokens.id_token)["typ"]
    )
    assert isinstance(identity["aud"], str)
    assert identity["aud"] not in tokens.claims("access_token")["aud"]
