"""Client assertions (RFC 7523): which are accepted, and that each is accepted only once."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import jwt
import pytest
from fastapi.testclient import TestClient
from support.defaults import Build, MovableClock
from support.signing_clients import (
    ED,
    ISSUER,
    NOW,
    OTHER,
    P256,
    RSA,
    SMALL,
    assertion,
    public,
    registered,
    rejection,
    request_token,
)

from issuer.clients.client import new_secret
from issuer.maintenance.pruning import prune
from issuer.services import Issuer
from issuer.settings.settings import Settings
from issuer.web.app import create_app


@pytest.mark.parametrize(
    ("key", "alg", "kid"),
    [(RSA, "RS256", "rsa"), (RSA, "PS256", "rsa"), (P256, "ES256", "ec"), (ED, "EdDSA", "ed")],
)
def test_a_client_gets_a_token_for_an_assertion_signed_with_its_key(
    web: TestClient, client_id: str, key: Any, alg: str, kid: str
) -> None:
    answer = request_token(web, assertion(client_id, key, alg, header={"kid": kid}))
    assert (answer.status_code, answer.json()["scope"]) == (200, "items:read")


ENDPOINTS = f"{ISSUER}/oauth2/token", f"{ISSUER}/oauth2/par"
OTHER_AUDIENCES = [*ENDPOINTS, [ISSUER], [ENDPOINTS[0], "https://other.test"]]


@pytest.mark.parametrize("audience", [*OTHER_AUDIENCES, [], ISSUER.upper(), f"{ISSUER}/", {"url": ISSUER}, 1])
def test_the_audience_of_an_assertion_must_be_the_issuer_as_one_string(
    web: TestClient, client_id: str, audience: Any
) -> None:
    text = assertion(client_id, aud=audience)
    assert rejection(request_token(web, text)) in {
        f"aud of client_assertion must be {ISSUER}, as one string",
        "client authentication failed",
        "client_assertion is not a JWT that this server accepts",
    }


def test_an_assertion_with_a_duplicate_claim_is_rejected(web: TestClient, client_id: str) -> None:
    claims = json.dumps({"iss": client_id, "sub": client_id, "exp": NOW + 60, "jti": new_secret()})[1:]
    header = {"kid": "rsa", "typ": "JWT"}
    for twice in (
        f'{{"aud": "https://other.test", "aud": "{ISSUER}", {claims}',
        f'{{"iss": "x", "aud": "{ISSUER}", {claims}',
    ):
        text = jwt.PyJWS().encode(twice.encode(), RSA, "RS256", header)
        assert "not a JWT" in rejection(request_token(web, text))
    once = jwt.PyJWS().encode(f'{{"aud": "{ISSUER}", {claims}'.encode(), RSA, "RS256", header)
    assert request_token(web, once).status_code == 200


@pytest.mark.parametrize("audience", [ISSUER, *OTHER_AUDIENCES])
def test_a_setting_allows_endpoints_and_several_audiences_for_old_libraries(
    made: Build, settings: Settings, audience: Any
) -> None:
    issuer = made(settings.model_copy(update={"assertion_audience": "any"}))
    with TestClient(create_app(issuer)) as web:
        assert request_token(web, assertion(registered(issuer), aud=audience)).status_code == 200


def test_an_assertion_needs_no_kid_and_the_client_id_may_be_repeated(web: TestClient, client_id: str) -> None:
    assert (
        request_token(web, assertion(client_id, header={"kid": None}), client_id=client_id).status_code == 200
    )


@pytest.mark.parametrize(
    "typ",
    ["JWT", "jwt", "application/jwt", "client-authentication+jwt", "application/client-authentication+JWT"],
)
def test_the_type_of_an_assertion_may_be_a_full_media_type(web: TestClient, client_id: str, typ: str) -> None:
    assert request_token(web, assertion(client_id, header={"typ": typ})).status_code == 200


def test_an_assertion_is_accepted_once_even_in_simultaneous_requests(web: TestClient, client_id: str) -> None:
    text = assertion(client_id)
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: request_token(web, text).status_code, range(5)))
    assert sorted(answers) == [200, 401, 401, 401, 401]
    assert "used before" in rejection(request_token(web, text))


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "https://other.test"},
        {"aud": [f"{ISSUER}/"]},
        {"aud": None},
        {"iss": "another"},
        {"iss": None},
        {"exp": NOW - 30},
        {"exp": NOW + 3600 + 31},
        {"exp": None},
        {"exp": True},
        {"exp": "soon"},
        {"exp": 1e300},
        {"exp": 10**400},
        {"nbf": 10**400},
        {"exp": float("nan")},
        {"iat": NOW + 31},
        {"nbf": NOW + 31},
        {"jti": None},
        {"jti": ""},
        {"jti": "x" * 257},
        {"jti": 7},
        {"key": OTHER},
        {"header": {"kid": "unknown"}},
        {"header": {"typ": "at+jwt"}},
        {"key": "a secret that both know, of 32 bytes", "alg": "HS256"},
        {"key": None, "alg": "none"},
        {"key": P256, "alg": "ES256"},  # under the kid of another key
    ],
    ids=lambda changes: re.sub(r"<\S+ object at \w+>", "another", str(changes))[:60],
)
def test_an_assertion_with_an_invalid_claim_header_or_signature_is_rejected(
    web: TestClient, client_id: str, changes: dict[str, Any]
) -> None:
    rejection(request_token(web, assertion(client_id, **changes)))


def test_an_assertion_is_accepted_once_even_if_a_node_with_a_fast_clock_prunes_it(
    web: TestClient, issuer: Issuer, client_id: str, clock: MovableClock
) -> None:
    text = assertion(client_id, exp=NOW + 1)
    assert request_token(web, text).status_code == 200
    clock.advance(seconds=29)
    while prune(issuer.database, clock() + timedelta(seconds=30)):
        pass
    assert "used before" in rejection(request_token(web, text))


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "e30.e30.", "x" * 9000, "é.é.é"])
def test_a_malformed_assertion_is_rejected(web: TestClient, client_id: str, text: str) -> None:
    answer = request_token(web, text)
    assert answer.status_code in {400, 401}
    assert answer.json()["error"] in {"invalid_client", "invalid_request"}


@pytest.mark.parametrize(
    "jwks",
    [
        [public(SMALL, kid="rsa")],
        [public(RSA, kid="rsa", use="enc")],
        [public(RSA, kid="rsa", alg="RS512")],
        [public(RSA, kid="rsa", alg="PS256")],
        [{"kty": "oct", "k": "c2VjcmV0"}],
        ["nothing", {"kty": "RSA"}, {}],
        [],
    ],
    ids=["too small", "to encrypt", "RS512", "PS256", "secret", "malformed", "none"],
)
@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_an_unusable_key_verifies_nothing(web: TestClient, issuer: Issuer, jwks: list[Any]) -> None:
    client_id = registered(issuer, jwks=json.dumps({"keys": jwks}))
    key = SMALL if jwks and jwks[0] == public(SMALL, kid="rsa") else RSA
    rejection(request_token(web, assertion(client_id, key)))
