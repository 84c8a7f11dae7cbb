"""Tokens that no verifier should accept, and which stacks accept some of them with the documented configuration.

`test_documented` compares this with the table in docs/verifying.md; `test_interop` tests each stack.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from jwks_verifier.testing import KeyPair, make_token

Claims = Mapping[str, Any]


def segment(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).decode().rstrip("=")


def under(header: Claims, token: str, mac: Callable[[bytes], bytes]) -> str:
    """Replace the header of a token, and sign header and claims with a function."""
    signing_input = f"{segment(json.dumps(header).encode())}.{token.split('.')[1]}"
    return f"{signing_input}.{segment(mac(signing_input.encode()))}"


def unsigned(key: KeyPair, claims: Claims) -> str:
    header = {"alg": "none", "typ": "at+jwt", "kid": key.kid}
    return under(header, make_token(key, **claims), lambda _: b"")


def by_the_public_key(key: KeyPair, claims: Claims) -> str:
    """Sign with HMAC and the public key as secret (RFC 8725 section 2.1)."""
    secret = key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    header = {"alg": "HS256", "typ": "at+jwt", "kid": key.kid}
    return under(header, make_token(key, **claims), lambda text: hmac.digest(secret, text, hashlib.sha256))


def with_changes(header: Claims | None = None, **changes: Any) -> Callable[[KeyPair, Claims], str]:
    return lambda key, claims: make_token(key, header=header, **{**claims, **changes})


OTHER = "https://other.example"
INVALID: Mapping[str, Callable[[KeyPair, Claims], str]] = {
    "`alg` is `none`": unsigned,
    "HS256, the public key as secret": by_the_public_key,
    "RS512": with_changes({"alg": "RS512"}),
    "another audience": with_changes(aud=OTHER),
    "another issuer": with_changes(iss=OTHER),
    "`typ` is `JWT`": with_changes({"typ": "JWT"}),
    "no `typ`": with_changes({"typ": None}),
    "no `exp`": with_changes(exp=None),
    "`nbf` in the future": lambda key, claims: make_token(key, nbf=2**32, **claims),
}
"""Tokens signed with the issuer's key that are invalid in one respect, by the description in docs/verifying.md."""

RETIRED, OUTAGE = "of a retired key, later", "a good one, in a long outage"
"""Tokens that are tested after the cache lifetime of the keys."""

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
"""The invalid tokens that a stack accepts."""

AFTER_THE_CACHE = (RETIRED, OUTAGE)
FIXED_CACHE = frozenset({"mod_auth_openidc"})
"""Stacks whose cache lifetime cannot be set short enough for a test; AFTER_THE_CACHE is not tested with them."""
