"""A public key and its id: JWK members by algorithm (RFC 7517, RFC 7518) and thumbprints (RFC 7638).

When a key may sign is decided in `keyring`.
"""

import hashlib
import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

_COORDINATE: Final = "[A-Za-z0-9_-]{43}"
_RSA: Final = {"kty": "RSA", "n": "[A-Za-z0-9_-]{342,1366}", "e": "AQAB"}  # 2048 to 8192 bits

JWK_MEMBERS: Final[Mapping[str, Mapping[str, str]]] = {
    "RS256": _RSA,
    "PS256": _RSA,
    "ES256": {"kty": "EC", "crv": "P-256", "x": _COORDINATE, "y": _COORDINATE},
    "EdDSA": {"kty": "OKP", "crv": "Ed25519", "x": _COORDINATE},
}
"""The members of a public key of each algorithm (RFC 7518 section 6, RFC 8037), as regular expressions.

They are also the members of the thumbprint (RFC 7638 section 3.2).
"""

_THUMBPRINT: Final = {members["kty"]: sorted(members) for members in JWK_MEMBERS.values()}
_KID: Final = re.compile("[A-Za-z0-9_-]{43}")


def thumbprint(jwk: Mapping[str, str]) -> str:
    """Return the SHA-256 thumbprint of the public `jwk`, base64url, RFC 7638 section 3."""
    members = {name: jwk[name] for name in _THUMBPRINT[jwk["kty"]]}
    canonical = json.dumps(members, sort_keys=True, separators=(",", ":")).encode()
    return urlsafe_b64encode(hashlib.sha256(canonical).digest()).rstrip(b"=").decode()


def is_kid(text: str) -> bool:
    """Whether `text` has the form of a kid; anything else must not name a file or an object in a token."""
    return _KID.fullmatch(text) is not None


@dataclass(frozen=True)
class PublicKey:
    """A public key: `kid` is the RFC 7638 SHA-256 thumbprint of `jwk` (RFC 7517)."""

    kid: str
    alg: str
    jwk: Mapping[str, str] = field(repr=False)

    def integrity_error(self) -> str | None:
        """Return why this cannot be a key that this program made, or None.

        A kid is used as the name of a file, of an object in a token and in a header: if it is not the thumbprint of
        its key, another program wrote it.
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
