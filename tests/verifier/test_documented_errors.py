"""Each error in the OpenAPI document of the example is answered to a real request, with the body of its example."""

from fastapi.testclient import TestClient
from support.defaults import bearer
from support.documented import Requests
from support.verifier import AUDIENCE, Clock, Forge

from jwks_verifier import JwksCache, TokenVerifier
from jwks_verifier.testing import InProcessIssuer
from verifier_example.app import create_app
from verifier_example.settings import Settings

PROTECTED = ["GET /protected_route", "GET /me", "GET /items"]


def test_refused_tokens_are_answered_as_documented(client: TestClient, forge: Forge, clock: Clock) -> None:
    requests = Requests(client)
    token = forge.token()
    requests.send("GET /items", 403, headers=bearer(forge.token(scope="")))
    for operation in PROTECTED:
        twice = [("Authorization", f"Bearer {token}"), ("Authorization", "Bearer x")]
        requests.send(operation, 400, headers=twice)
        requests.send(operation, 401)
        requests.send(operation, 401, headers=bearer("x"))
    clock.advance(3600)
    for operation in PROTECTED:
        requests.send(operation, 401, headers=bearer(token))
    assert requests.answered == requests.documented(400, 401, 403)


def test_outages_are_answered_as_documented(
    client: TestClient, issuer: InProcessIssuer, forge: Forge, clock: Clock
) -> None:
    issuer.down = True
    clock.rest(24 * 3600)
    requests = Requests(client)
    requests.send("GET /readyz", 503)
    for operation in PROTECTED:
        requests.send(operation, 503, headers=bearer(forge.token()))
    started_now = TokenVerifier(JwksCache(issuer.url, transport=issuer.transport), AUDIENCE)
    with TestClient(create_app(Settings(_env_file=None), verifier=started_now)) as empty:
        requests.web = empty
        requests.send("GET /readyz", 503)
    assert requests.answered == requests.documented(503)
