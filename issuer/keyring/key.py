"""One key: its public key, and the instants and durations of its life; phases among other keys are left to `keyring`.

Making keys, and signing with them, is `signing`'s work.
"""

import hashlib
import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Self

from issuer.keyring.policy import Policy

_COORDINATE: Final = "[A-Za-z0-9_-]{43}"
_RSA: Final = {"kty": "RSA", "n": "[A-Za-z0-9_-]{342,1366}", "e": "AQAB"}  # 2048 to 8192 bits
JWK_MEMBERS: Final[Mapping[str, Mapping[str, str]]] = {
    "RS256": _RSA,
    "PS256": _RSA,
    "ES256": {"kty": "EC", "crv": "P-256", "x": _COORDINATE, "y": _COORDINATE},
    "EdDSA": {"kty": "OKP", "crv": "Ed25519", "x": _COORDINATE},
}
"""For each algorithm the members that make its public key (RFC 7518 section 6, RFC 8037), as regular expressions.

They are also those of the thumbprint (RFC 7638 section 3.2).
"""

_THUMBPRINT: Final = {members["kty"]: sorted(members) for members in JWK_MEMBERS.values()}
_KID: Final = re.compile("[A-Za-z0-9_-]{43}")


def thumbprint(jwk: Mapping[str, str]) -> str:
    """Return the SHA-256 thumbprint of the public `jwk`, base64url, RFC 7638 section 3."""
    members = {name: jwk[name] for name in _THUMBPRINT[jwk["kty"]]}
    canonical = json.dumps(members, sort_keys=True, separators=(",", ":")).encode()
    return urlsafe_b64encode(hashlib.sha256(canonical).digest()).rstrip(b"=").decode()


def is_kid(text: str) -> bool:
    """Whether `text` has the form of a kid: nothing else may become the name of a file or of an object."""
    return _KID.fullmatch(text) is not None


@dataclass(frozen=True)
class PublicKey:
    """A public key: `kid` is the RFC 7638 SHA-256 thumbprint of `jwk` (RFC 7517)."""

    kid: str
    alg: str
    jwk: Mapping[str, str] = field(repr=False)

    def integrity_error(self) -> str | None:
        """Return why this cannot be a key that this program made, or None.

        A kid becomes the name of a file, of an object in a token and a header: one that is not the thumbprint of its
        key was put there by somebody else.
        """
        members = JWK_MEMBERS.get(self.alg)
        if members is None:
            return "a key is for an algorithm that this program does not know"
        if self.jwk != {**{name: self.jwk.get(name) for name in members}, **self._labels}:
            return "a public key has members that this program does not write"
        if not all(re.fullmatch(form, self.jwk[name]) for name, form in members.items()):
            return "a public key is not one of its algorithm"
        if not is_kid(self.kid) or thumbprint(self.jwk) != self.kid:
            return "a kid is not the thumbprint of its public key (RFC 7638)"
        return None

    @property
    def _labels(self) -> Mapping[str, str]:
        return {"use": "sig", "alg": self.alg, "kid": self.kid}


@dataclass(frozen=True)
class Key(PublicKey):
    """The facts about one key. It signs from `activates_at` until its successor's `activates_at`."""

    published_at: datetime
    activates_at: datetime | None
    """None: published, and activated by manual rotation only."""
    token_lifetime: timedelta
    """The longest life that any node was allowed to give a token this key signed."""
    margin: timedelta
    """The longest in force while it could sign; see `Policy.margin`."""
    lead: timedelta
    """How long it is published before it may sign; zero in the ring's first save."""
    revoked_at: datetime | None = None
    revoked_reason: str | None = None
    compromised: bool = False
    """Revoked because somebody else may have the private key."""
    imported: bool = False
    """Imported: its private key existed outside once."""
    withdrawn: bool = False
    """A rollback took its place: going back does not lead to it again."""

    def activated_by(self, now: datetime) -> bool:
        """Whether the key had begun to sign at `now`; one revoked before its turn never did."""
        if self.activates_at is None or self.activates_at > now:
            return False
        return self.revoked_at is None or self.revoked_at > self.activates_at

    @property
    def ever_activated(self) -> bool:
        """Whether the key has signed or will sign: it has an activation time and was not revoked before it."""
        return self.activates_at is not None and self.activated_by(self.activates_at)

    @classmethod
    def standby(cls, public: PublicKey, policy: Policy, now: datetime, lead: timedelta) -> Self:
        """Return `public` as a key published at `now`, whose turn is not set."""
        return cls(public.kid, public.alg, public.jwk, now, None, policy.token_lifetime, policy.margin, lead)
