"""Owns the tokens that no verifier should accept, and which stacks accept some all the same, set as told.

docs/verifying.md has the same table, which `test_documented` compares; each stack judges them in `test_interop`.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from verifier_example.testing import KeyPair, make_token

Claims = Mapping[str, Any]


def segment(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).decode().rstrip("=")


def under(header: Claims, token: str, mac: Callable[[bytes], bytes]) -> str:
    """Put another header over the claims of a token, and what a function makes of both behind them."""
    signing_input = f"{segment(json.dumps(header).encode())}.{token.split('.')[1]}"
    return f"{signing_input}.{segment(mac(signing_input.encode()))}"


def unsigned(key: KeyPair, claims: Claims) -> str:
    header = {"alg": "none", "typ": "at+jwt", "kid": key.kid}
    return under(header, make_token(key, **claims), lambda _: b"")


def by_the_public_key(key: KeyPair, claims: Claims) -> str:
    """Make an HMAC whose secret everybody knows (RFC 8725 section 2.1)."""
    secret = key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    header = {"alg": "HS256", "typ": "at+jwt", "kid": key.kid}
    return under(header, make_token(key, **claims), lambda text: hmac.digest(secret, text, hashlib.sha256))


def having(header: Claims | None = None, **changes: Any) -> Callable[[KeyPair, Claims], str]:
    return lambda key, claims: make_token(key, header=header, **{**claims, **changes})


OTHER = "https://other.example"
REFUSABLE: Mapping[str, Callable[[KeyPair, Claims], str]] = {
    "`alg` is `none`": unsigned,
    "HS256, the public key as secret": by_the_public_key,
    "RS512": having({"alg": "RS512"}),
    "another audience": having(aud=OTHER),
    "another issuer": having(iss=OTHER),
    "`typ` is `JWT`": having({"typ": "JWT"}),
    "no `typ`": having({"typ": None}),
    "no `exp`": having(exp=None),
    "`nbf` in the future": lambda key, claims: make_token(key, nbf=2**32, **claims),
}
"""Tokens of the issuer's own key, wrong in one way: what its mistake, or the thief of its key, could sign."""

RETIRED, OUTAGE = "of a retired key, later", "a good one, in a long outage"
"""What is judged once the keys have been kept for as long as they may be."""

ACCEPTED: Mapping[str, frozenset[str]] = {
    "PyJWT": frozenset(),
    "joserfc": frozenset(),
    "jose": frozenset(),
    "go-oidc": frozenset({RETIRED, OUTAGE}),
    "Spring Security": frozenset(),
    "Envoy": frozenset({OUTAGE}),
    "nginx": frozenset({OUTAGE}),
    "mod_oauth2": frozenset({"RS512", "`typ` is `JWT`", "no `typ`", "`nbf` in the future"}),
    "mod_auth_openidc": frozenset({"RS512", "`typ` is `JWT`", "no `typ`", "no `exp`", "`nbf` in the future"}),
}
"""What of all this a stack accepts."""

AFTER_THE_CACHE = (RETIRED, OUTAGE)
CANNOT_HURRY = frozenset({"mod_auth_openidc"})
"""Stacks that keep keys for longer than a test may take, whatever they are told: what comes after is not run."""
