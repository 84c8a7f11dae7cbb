"""Defaults of tests: an instant, a clock that tests move, an acceptable password."""

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from issuer.services import Issuer
from issuer.settings.settings import Settings
from issuer.signing.public_key import PublicKey, thumbprint

T = TypeVar("T")

START = datetime(2026, 1, 1, tzinfo=UTC)
REFRESH_GRACE = timedelta(seconds=30)
PASSWORD = "violet otters juggle pancakes"
ALICE = {"username": "alice", "password": PASSWORD}


class MovableClock:
    """A clock that moves only when a test advances it."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **span: float) -> None:
        self.now += timedelta(**span)


Build = Callable[[Settings], Issuer]


def sound_key(seed: str) -> PublicKey:
    """Return a public key with its thumbprint as the kid; its private key does not exist."""
    number = urlsafe_b64encode(hashlib.sha256(seed.encode()).digest() * 8).rstrip(b"=").decode()
    jwk = {"e": "AQAB", "kty": "RSA", "n": number}
    kid = thumbprint(jwk)
    return PublicKey(kid, "RS256", {**jwk, "use": "sig", "alg": "RS256", "kid": kid})


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def same(value: T) -> T:
    return value
