"""The keys of an issuer are found by discovery; whatever its documents say, a failure has a reason."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from issuer.clients.outgoing_http import ExchangeFailed
from issuer.tokens.published_keys import OAUTH, OPENID, KeysNotFound, find_published_keys

ISSUER = "https://issuer.example"
METADATA, OPENID_METADATA, JWKS = f"{ISSUER}{OAUTH}", f"{ISSUER}{OPENID}", f"{ISSUER}/jwks"
PUBLIC = {
    **ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key(), as_dict=True),
    "kid": "one",
}
FOUND = {METADATA: {"issuer": ISSUER, "jwks_uri": JWKS}, JWKS: {"keys": [PUBLIC]}}


def found(documents: Mapping[str, Any], issuer: str = ISSUER) -> list[str | None]:
    """Return the kids that are found if these documents are published, each as JSON or as it is."""

    def fetch(url: str) -> bytes:
        if url not in documents:
            raise ExchangeFailed("the answer is 404")
        document = documents[url]
        return document if isinstance(document, bytes) else json.dumps(document).encode()

    return [key.kid for key in find_published_keys(issuer, fetch)]


@pytest.mark.parametrize(
    ("issuer", "location"),
    [
        (ISSUER, METADATA),
        (ISSUER, OPENID_METADATA),
        (f"{ISSUER}/a/b", f"{METADATA}/a/b"),
        (f"{ISSUER}/a/b", f"{ISSUER}/a/b{OPENID}"),
    ],
)
def test_the_keys_are_those_at_the_jwks_uri(issuer: str, location: str) -> None:
    assert found({location: {"issuer": issuer, "jwks_uri": JWKS}, JWKS: FOUND[JWKS]}, issuer) == ["one"]


def test_the_location_of_rfc_8414_comes_first() -> None:
    other = f"{ISSUER}/other"
    documents = {OPENID_METADATA: {"issuer": ISSUER, "jwks_uri": other}, other: {"keys": []}}
    assert found({**FOUND, **documents}) == ["one"]
    with pytest.raises(KeysNotFound) as failure:
        found({})
    assert str(failure.value) == (
        f"cannot fetch {METADATA}: the answer is 404; cannot fetch {OPENID_METADATA}: the answer is 404"
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {METADATA: {"issuer": "https://b.example", "jwks_uri": JWKS}},
            "is the document of the issuer 'https://b",
        ),
        ({METADATA: [JWKS]}, "is the document of the issuer None"),
        ({METADATA: {"issuer": ISSUER}}, "has no jwks_uri"),
        ({METADATA: {"issuer": ISSUER, "jwks_uri": [JWKS]}}, "has no jwks_uri"),
        ({METADATA: {"issuer": ISSUER, "jwks_uri": f"{ISSUER}:99999/jwks"}}, "is neither https nor http"),
        ({METADATA: {"issuer": ISSUER, "jwks_uri": f"{JWKS}2"}}, f"cannot fetch {JWKS}2: the answer is 404"),
        ({METADATA: b"<html>"}, f"{METADATA} is not JSON: "),
        ({METADATA: b"[" * 60_000}, f"{METADATA} is not JSON: it is nested too deeply"),
        ({JWKS: {"keys": []}}, f"the key set at {JWKS} cannot be used: "),
        ({JWKS: {"keys": [{**PUBLIC, "d": "AA"}]}}, "it holds a private or secret key"),
    ],
)
def test_what_cannot_be_used_has_a_reason(changes: Mapping[str, Any], reason: str) -> None:
    with pytest.raises(KeysNotFound) as failure:
        found({**FOUND, **changes})
    assert reason in str(failure.value)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:2375/images/json", "HTTP://localhost/", "file:///etc/passwd"]
)
def test_an_issuer_with_tls_cannot_make_this_machine_ask_itself(url: str) -> None:
    asked = []

    def fetch(location: str) -> bytes:
        asked.append(location)
        return json.dumps({"issuer": ISSUER, "jwks_uri": url}).encode()

    with pytest.raises(KeysNotFound, match="without TLS"):
        find_published_keys(ISSUER, fetch)
    assert asked == [METADATA, OPENID_METADATA]
