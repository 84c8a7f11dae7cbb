"""Replaces the issuer in a service's tests: a key pair, tokens with any claims, a JWKS without a network.

The tokens are verified by the real verifier, with the same checks as in production:

    issuer = InProcessIssuer("https://issuer.test")
    cache = JwksCache(issuer.url, transport=issuer.transport)
    app = create_app(verifier=TokenVerifier(cache, "https://api.test"))
    with TestClient(app) as client:
        token = issuer.make_token(aud="https://api.test", scope="items:read")
        client.get("/items", headers={"Authorization": f"Bearer {token}"})

If a test needs no token, override the dependency itself, for routes and WebSockets alike; this skips the check of
scopes, too:

    app.dependency_overrides[app.state.current_user] = lambda: access_token(username="alice")
"""

import base64
import hashlib
import json
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import httpx2
import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from jwt.algorithms import RSAAlgorithm

from .claims import AccessToken, Claims

JWKS_PATH = "/.well-known/jwks.json"
METADATA_PATHS = ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration")


@dataclass(frozen=True)
class KeyPair:
    """An RSA key pair; its kid is the thumbprint (RFC 7638), as at the issuer."""

    private: RSAPrivateKey = field(default_factory=lambda: generate_private_key(65537, 2048), repr=False)

    @cached_property
    def jwk(self) -> dict[str, str]:
        """The public key as the issuer publishes it (RFC 7517)."""
        public = RSAAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        required = {"e": public["e"], "kty": "RSA", "n": public["n"]}
        digest = hashlib.sha256(json.dumps(required, separators=(",", ":")).encode()).digest()
        kid = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        return {**required, "use": "sig", "alg": "RS256", "kid": kid}

    @property
    def kid(self) -> str:
        """The key id in headers and key sets."""
        return self.jwk["kid"]


def make_token(key: KeyPair, *, header: Mapping[str, Any] | None = None, **claims: Any) -> str:
    """Sign an access token (RFC 9068), valid for ten minutes unless the claims say otherwise.

    A header parameter or claim that is None is left out.
    """
    now = int(time.time())  # noqa: TID251 - tokens for tests are valid now
    base = {
        "iat": now,
        "exp": now + 600,
        "jti": str(uuid.uuid4()),
        "sub": "u1",
        "client_id": "test",
        "scope": "",
    }
    payload = {name: value for name, value in {**base, **claims}.items() if value is not None}
    named = {"typ": "at+jwt", "kid": key.kid, **(header or {})}
    algorithm = named.pop("alg", "RS256")
    headers = {name: value for name, value in named.items() if value is not None}
    return jwt.encode(payload, key.private, algorithm, headers)


def access_token(**changes: Any) -> AccessToken:
    """Return a verified token with the given changes, for `dependency_overrides`.

    `claims`, a dict, adds to the claims that the other fields imply.
    """
    now = int(time.time())  # noqa: TID251 - tokens for tests are valid now
    plain = AccessToken(
        subject="u1",
        client_id="test",
        username="alice",
        scopes=frozenset(),
        issuer="https://issuer.test",
        audience=("https://api.test",),
        issued_at=now,
        expires_at=now + 600,
        jti=str(uuid.uuid4()),
    )
    token = plain._replace(**changes)
    claims = {
        "iss": token.issuer,
        "sub": token.subject,
        "aud": list(token.audience),
        "client_id": token.client_id,
        "username": token.username,
        "scope": " ".join(sorted(token.scopes)),
        "iat": token.issued_at,
        "exp": token.expires_at,
        "jti": token.jti,
    }
    if token.username is None:
        del claims["username"]
    return token._replace(claims=Claims({**claims, **token.claims}))


class InProcessIssuer:
    """The public endpoints of an issuer without a network; records the requests.

    Change `keys`, `max_age` or `down` at any time; `requests` contains the path of every request.
    """

    def __init__(
        self, url: str = "https://issuer.test", *, keys: Iterable[KeyPair] = (), max_age: int = 300
    ) -> None:
        self.url = url
        self.keys = list(keys) or [KeyPair()]
        self.max_age = max_age
        self.down = False
        self.requests: list[str] = []
        self.transport = httpx2.MockTransport(self._answer)

    def make_token(self, *, header: Mapping[str, Any] | None = None, **claims: Any) -> str:
        """Sign a token of this issuer with its last key, as `make_token` of this module does."""
        return make_token(self.keys[-1], header=header, **{"iss": self.url, **claims})

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        self.requests.append(path)
        if self.down:
            raise httpx2.ConnectError("the issuer is down", request=request)
        if path in METADATA_PATHS:
            return httpx2.Response(200, json={"issuer": self.url, "jwks_uri": self.url + JWKS_PATH})
        if path != JWKS_PATH:
            return httpx2.Response(404)
        body = json.dumps({"keys": [key.jwk for key in self.keys]}).encode()
        etag = f'"{hashlib.sha256(body).hexdigest()}"'
        headers = {"ETag": etag, "Cache-Control": f"public, max-age={self.max_age}"}
        if request.headers.get("if-none-match") == etag:
            return httpx2.Response(304, headers=headers)
        return httpx2.Response(200, content=body, headers=headers)
