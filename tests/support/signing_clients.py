"""Clients that authenticate with `private_key_jwt`: their keys, assertions, and a server for their key sets."""

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from fastapi.testclient import TestClient
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from issuer.administration.clients import register_client
from issuer.clients.assertion import ASSERTION_TYPE
from issuer.clients.client import new_secret
from issuer.oauth import AuthMethod
from issuer.services import Issuer
from support.defaults import START

ISSUER = "http://127.0.0.1:8000"
NOW = int(START.timestamp())
RSA = rsa.generate_private_key(65537, 2048)
OTHER = rsa.generate_private_key(65537, 2048)
SMALL = rsa.generate_private_key(65537, 1024)  # noqa: S505 - to be rejection
P256 = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def public(key: Any, **members: str) -> dict[str, str]:
    to_jwk = {"RSAPrivateKey": RSAAlgorithm, "ECPrivateKey": ECAlgorithm, "Ed25519PrivateKey": OKPAlgorithm}
    algorithm: Any = to_jwk[type(key).__name__]
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), **members}


KEY_SET = {"keys": [public(RSA, kid="rsa"), public(P256, kid="ec"), public(ED, kid="ed")]}


def registered(issuer: Issuer, **keys: str) -> str:
    keys = keys or {"jwks": json.dumps(KEY_SET)}
    scope = frozenset({"items:read"})
    client, secret = register_client(
        issuer.clients.store, "signs", AuthMethod.PRIVATE_KEY_JWT, scope, (), START, **keys
    )
    assert secret is None
    return client.id


def assertion(client_id: str, key: Any = RSA, alg: str = "RS256", **changes: Any) -> str:
    header = {"kid": "rsa", **changes.pop("header", {})}
    claims = {
        "iss": client_id,
        "sub": client_id,
        "aud": ISSUER,
        "iat": NOW,
        "exp": NOW + 60,
        "jti": new_secret(),
        **changes,
    }
    present = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(present, key, alg, {name: value for name, value in header.items() if value})


def request_token(web: TestClient, text: str, **more: str) -> httpx2.Response:
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": text,
        **more,
    }
    return web.post("/oauth2/token", data=form)


def rejection(answer: httpx2.Response) -> str:
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    description: str = answer.json()["error_description"]
    return description


class KeySetServer(ThreadingHTTPServer):
    """A server for a client's key set, with a configurable response; counts its fetches."""

    def __init__(self) -> None:
        self.body = json.dumps(KEY_SET).encode()
        self.status = 200
        self.headers: dict[str, str] = {}
        self.fetches = 0
        super().__init__(("127.0.0.1", 0), _Answer)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/jwks"


class _Answer(BaseHTTPRequestHandler):
    server: KeySetServer

    def do_GET(self) -> None:
        self.server.fetches += 1
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: object) -> None:
        pass


RequestToken = Callable[..., httpx2.Response]
