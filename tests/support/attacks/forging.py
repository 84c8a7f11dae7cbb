"""Owns how attackers make tokens: what a row of their tables is, and what they do to a good token.

The tables are `form_attacks`, `header_attacks` and `claim_attacks`, each row with the section or advisory it comes
from; what must come of each is judged in `test_attacks`. `f` is the forge of `conftest`, which signs whatever it is
given with the key that the issuer publishes.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from verifier_example.verifier import Reason

AUDIENCE = "https://api.test"
NOW = 1_800_000_000
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

Make = Callable[[Any], str]


class Row(NamedTuple):
    """A token, where it is known from, and for what it must be refused; None: it is accepted."""

    name: str
    source: str
    make: Make
    reason: Reason | None = None
    may_fetch: bool = False
    """Whether it may cost a fetch, of which there is one at most in each cooldown."""


def hs256(f: Any, secret: bytes, alg: str = "HS256") -> str:
    signing_input = f.unsigned(f.header(alg=alg), f.claims())
    return f"{signing_input}.{f.segment(hmac.digest(secret, signing_input.encode(), hashlib.sha256))}"


def public(f: Any, encoding: Encoding = Encoding.PEM, form: Any = PublicFormat.SubjectPublicKeyInfo) -> bytes:
    return bytes(f.key.private.public_key().public_bytes(encoding, form))


def with_signature(token: str, change: Callable[[str], str]) -> str:
    head, _, signature = token.rpartition(".")
    return f"{head}.{change(signature)}"


def same_bits(segment: str) -> str:
    """Write the same bytes in another way: the last character's unused bits set."""
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
    """Sign with a key that only the token itself vouches for."""
    return str(f.signed(f.header(**header), f.claims(), f.stranger))


def signed_as(f: Any, alg: str) -> str:
    """Sign by another algorithm than the header says."""
    signing_input = f.unsigned(f.header(), f.claims())
    signature = jwt.get_algorithm_by_name(alg).sign(signing_input.encode(), f.key.private)
    return f"{signing_input}.{f.segment(signature)}"


def jwe(**header: Any) -> str:
    """Return an encrypted token of five segments, as far as anybody can tell without decrypting it."""
    head = base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip("=")
    return f"{head}.YWJj.YWJj.YWJj.YWJj"
