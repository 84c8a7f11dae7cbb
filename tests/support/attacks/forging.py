"""The rows of attack tables, and the ways in which attackers change valid tokens.

The tables are in `forms`, `headers` and `claims`, each row with its section or advisory; `test_attacks` runs them.
`f` is a `support.verifier.Forge`, which signs anything with the key that the issuer publishes.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from jwks_verifier import Reason

AUDIENCE = "https://api.test"
NOW = 1_800_000_000
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

Make = Callable[[Any], str]


class Row(NamedTuple):
    """A token, the source of the attack, and the reason for the rejection; None: it is accepted."""

    name: str
    source: str
    make: Make
    reason: Reason | None = None
    may_fetch: bool = False
    """Whether it may cause a fetch, at most one per cooldown."""


def hs256(f: Any, secret: bytes, alg: str = "HS256") -> str:
    signing_input = f.unsigned(f.header(alg=alg), f.claims())
    return f"{signing_input}.{f.segment(hmac.digest(secret, signing_input.encode(), hashlib.sha256))}"


def public(f: Any, encoding: Encoding = Encoding.PEM, form: Any = PublicFormat.SubjectPublicKeyInfo) -> bytes:
    return bytes(f.key.private.public_key().public_bytes(encoding, form))


def with_signature(token: str, change: Callable[[str], str]) -> str:
    head, _, signature = token.rpartition(".")
    return f"{head}.{change(signature)}"


def same_bits(segment: str) -> str:
    """Return another encoding of the same bytes, with an unused bit of the last character set."""
    return segment[:-1] + ALPHABET[ALPHABET.index(segment[-1]) + 1]


def twice(members: dict[str, Any], name: str, value: str) -> bytes:
    return (json.dumps(members)[:-1] + f', "{name}": "{value}"}}').encode()


def swap(token: str, other: str, position: int) -> str:
    segments = token.split(".")
    segments[position] = other.split(".")[position]
    return ".".join(segments)


def padded(token: str, position: int) -> str:
    segments = token.split(".")
    segments[position] += "=" * (-len(segments[position]) % 4 or 4)
    return ".".join(segments)


def serialized(f: Any, **members: Any) -> str:
    return json.dumps({"payload": f.segment(f.claims()), **members})


def own_key(f: Any, **header: Any) -> str:
    """Sign with a key that only the token itself names."""
    return str(f.signed(f.header(**header), f.claims(), f.stranger))


def signed_as(f: Any, alg: str) -> str:
    """Sign with another algorithm than the header names."""
    signing_input = f.unsigned(f.header(), f.claims())
    signature = jwt.get_algorithm_by_name(alg).sign(signing_input.encode(), f.key.private)
    return f"{signing_input}.{f.segment(signature)}"


def jwe(**header: Any) -> str:
    """Return five segments that look like an encrypted token."""
    head = base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip("=")
    return f"{head}.YWJj.YWJj.YWJj.YWJj"
