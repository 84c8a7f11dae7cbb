"""Members of a key set that must not verify anything, next to valid keys that continue to work.

Each row names its section or advisory; `test_attacks` runs them. Responses that are not a key set are in `answers`.
"""

import base64
import json
from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice
from math import prod
from typing import Any, NamedTuple

Jwk = dict[str, Any]


class KeyRow(NamedTuple):
    """A member of a key set, made from a valid one."""

    name: str
    source: str
    change: Callable[[Jwk], Any]


def number(value: int) -> str:
    """Encode a number for a JWK (RFC 7518 section 2, Base64urlUInt)."""
    raw = value.to_bytes((value.bit_length() + 7) // 8 or 1, "big")
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def value(text: str) -> int:
    return int.from_bytes(base64.urlsafe_b64decode(text + "=="), "big")


def without(jwk: Jwk, *names: str) -> Jwk:
    return {name: member for name, member in jwk.items() if name not in names}


def of_bits(jwk: Jwk, bits: int) -> Jwk:
    """Return an odd modulus with so many bits; its factors do not matter, as no verifier checks them."""
    n = value(jwk["n"])
    grown = n << max(0, bits - n.bit_length())
    return {**jwk, "n": number(grown >> max(0, grown.bit_length() - bits) | 1)}


def another(jwk: Jwk) -> Jwk:
    """Return another usable key; the factors of its modulus do not matter, as no verifier checks them."""
    n = value(jwk["n"]) - 2
    while not all(n % prime for prime in islice(primes(), 100)):
        n -= 2
    return {**jwk, "n": number(n)}


def primes() -> Iterator[int]:
    found: list[int] = []
    candidate = 2
    while True:
        if all(candidate % prime for prime in found):
            found.append(candidate)
            yield candidate
        candidate += 1


def of_infineon(jwk: Jwk) -> Jwk:
    """Return a modulus with the pattern of ROCA keys: a power of 65537 modulo the product of the first 126 primes."""
    modulus = prod(islice(primes(), 126))
    k = (1 << 2047) // modulus + 1
    return {**jwk, "n": number(k * modulus + pow(65537, 65537, modulus))}


@cache
def primes_of_infineon() -> tuple[int, int]:
    """Return primes like those of CVE-2017-15361: each a power of 65537 modulo the product."""
    product = prod(islice(primes(), 126))
    found: list[int] = []
    candidate = (3 << 1022) - (3 << 1022) % product + pow(65537, 12345, product)
    while len(found) < 2:
        candidate += product
        if pow(2, candidate - 1, candidate) == 1:
            found.append(candidate)
            candidate += product << 20
    return found[0], found[1]


_P256 = {
    "kty": "EC",
    "crv": "P-256",
    "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
    "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
}  # RFC 7517 appendix A.1
_ED25519 = {
    "kty": "OKP",
    "crv": "Ed25519",
    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
}  # RFC 8037 appendix A.2


def named(jwk: Jwk, **members: Any) -> Jwk:
    """Return other members with the kid and use of a key."""
    return {"kid": jwk["kid"], "use": "sig", **members}


SKIPPED = [
    KeyRow("RSA of 512 bits", "RFC 7518 section 3.3", lambda k: of_bits(k, 512)),
    KeyRow("RSA of 1024 bits", "RFC 8725 section 3.2", lambda k: of_bits(k, 1024)),
    KeyRow("RSA of 2047 bits", "RFC 7518 section 3.3", lambda k: of_bits(k, 2047)),
    KeyRow("RSA of 8193 bits", "RFC 8725 section 3.2", lambda k: of_bits(k, 8193)),
    KeyRow("RSA of 16384 bits", "RFC 8725 section 3.2", lambda k: of_bits(k, 16384)),
    KeyRow("RSA of a million bits", "CVE-2025-61920 (Authlib)", lambda k: {**k, "n": "_" * 40000}),
    KeyRow("RSA with n = 0", "RFC 8725 section 3.4", lambda k: {**k, "n": "AA"}),
    KeyRow("RSA with n even", "RFC 8725 section 3.4", lambda k: {**k, "n": number(value(k["n"]) - 1)}),
    KeyRow("RSA with e = 1", "RFC 8725 section 3.4", lambda k: {**k, "e": "AQ"}),
    KeyRow("RSA with e = 2", "RFC 8725 section 3.4", lambda k: {**k, "e": "Ag"}),
    KeyRow("RSA with e = 3", "RFC 8725 section 3.4", lambda k: {**k, "e": "Aw"}),
    KeyRow("RSA with e = 65539", "RFC 8725 section 3.4", lambda k: {**k, "e": number(65539)}),
    KeyRow("RSA with e of 64 bits", "RFC 8725 section 3.4", lambda k: {**k, "e": number(2**64 - 1)}),
    KeyRow("RSA with e as large as n", "RFC 8725 section 3.4", lambda k: {**k, "e": k["n"]}),
    KeyRow("RSA with the pattern of ROCA", "CVE-2017-15361", of_infineon),
    KeyRow(
        "RSA of primes of ROCA", "CVE-2017-15361", lambda k: {**k, "n": number(prod(primes_of_infineon()))}
    ),
    KeyRow(
        "RSA with n = 3 m", "RFC 8725 section 3.4", lambda k: {**k, "n": number(value(k["n"]) // 6 * 6 + 3)}
    ),
    KeyRow("RSA with its private half", "RFC 7517 section 9.2", lambda k: {**k, "d": "AQAB"}),
    KeyRow("RSA with a prime factor", "RFC 7517 section 9.2", lambda k: {**k, "p": "AQAB"}),
    KeyRow("RSA with k", "CVE-2026-48526 (PyJWT)", lambda k: {**k, "k": "AQAB"}),
    KeyRow("for encryption", "RFC 7517 section 4.2", lambda k: {**k, "use": "enc"}),
    KeyRow("use in capitals", "RFC 7517 section 4.2", lambda k: {**k, "use": "SIG"}),
    KeyRow("use a list", "RFC 7517 section 4.2", lambda k: {**k, "use": ["sig"]}),
    KeyRow("use null", "RFC 7517 section 4.2", lambda k: {**k, "use": None}),
    KeyRow("to sign only", "RFC 7517 section 4.3", lambda k: {**k, "key_ops": ["sign"]}),
    KeyRow("to encrypt only", "RFC 7517 section 4.3", lambda k: {**k, "key_ops": ["encrypt", "wrapKey"]}),
    KeyRow("for nothing", "RFC 7517 section 4.3", lambda k: {**k, "key_ops": []}),
    KeyRow("key_ops a number", "CVE-2026-102274 (PyJWT)", lambda k: {**k, "key_ops": 1}),
    KeyRow("alg RS512", "CVE-2026-48523 (PyJWT)", lambda k: {**k, "alg": "RS512"}),
    KeyRow("alg HS256", "CVE-2026-44699 (LibJWT)", lambda k: {**k, "alg": "HS256"}),
    KeyRow("alg none", "RFC 8725 section 3.2", lambda k: {**k, "alg": "none"}),
    KeyRow("alg RSA-OAEP", "RFC 7517 section 4.4", lambda k: {**k, "alg": "RSA-OAEP"}),
    KeyRow("alg a list", "RFC 7517 section 4.4", lambda k: {**k, "alg": ["RS256"]}),
    KeyRow("symmetric", "RFC 8725 section 3.1", lambda k: named(k, kty="oct", k="AQAB", alg="HS256")),
    KeyRow(
        "symmetric and empty", "CVE-2026-102266 (PyJWT)", lambda k: named(k, kty="oct", k="", alg="HS256")
    ),
    KeyRow(
        "symmetric, said to be RS256",
        "RFC 8725 section 3.1",
        lambda k: named(k, kty="oct", k="AQAB", alg="RS256"),
    ),
    KeyRow(
        "RSA that says it is symmetric", "RFC 8725 section 3.1", lambda k: {**k, "kty": "oct", "k": "AQAB"}
    ),
    KeyRow("kty absent", "RFC 7517 section 4.1", lambda k: without(k, "kty")),
    KeyRow("kty in small letters", "RFC 7517 section 4.1", lambda k: {**k, "kty": "rsa"}),
    KeyRow("kty a list", "CVE-2026-102274 (PyJWT)", lambda k: {**k, "kty": ["RSA"]}),
    KeyRow("kty of the future", "RFC 7517 section 5", lambda k: {**k, "kty": "AKP"}),
    KeyRow("a curve that is not configured", "RFC 7518 section 3.4", lambda k: named(k, **_P256)),
    KeyRow("Ed25519, which is not configured", "RFC 8037 section 2", lambda k: named(k, **_ED25519)),
    KeyRow("without kid", "RFC 7517 section 4.5", lambda k: without(k, "kid")),
    KeyRow("kid a number", "RFC 7517 section 4.5", lambda k: {**k, "kid": 1}),
    KeyRow("kid empty", "RFC 7517 section 4.5", lambda k: {**k, "kid": ""}),
    KeyRow("kid with a newline", "RFC 8725 section 3.10", lambda k: {**k, "kid": "a\nb"}),
    KeyRow("kid of 10 KB", "RFC 8725 section 3.10", lambda k: {**k, "kid": "k" * 10_000}),
    KeyRow("without n", "CVE-2026-102274 (PyJWT)", lambda k: without(k, "n")),
    KeyRow("without e", "CVE-2026-102274 (PyJWT)", lambda k: without(k, "e")),
    KeyRow("n empty", "CVE-2026-102274 (PyJWT)", lambda k: {**k, "n": ""}),
    KeyRow("n a number", "CVE-2026-102274 (PyJWT)", lambda k: {**k, "n": 5}),
    KeyRow("n null", "CVE-2026-102274 (PyJWT)", lambda k: {**k, "n": None}),
    KeyRow("n beyond ASCII", "CVE-2026-102274 (PyJWT)", lambda k: {**k, "n": "é" * 300}),
    KeyRow("n a lone surrogate", "CVE-2026-102274 (PyJWT)", lambda k: {**k, "n": "\udc80" * 300}),
    KeyRow("e a list", "CVE-2026-102274 (PyJWT)", lambda k: {**k, "e": ["AQAB"]}),
    KeyRow("null", "RFC 7517 section 5", lambda _: None),
    KeyRow("a number", "RFC 7517 section 5", lambda _: 7),
    KeyRow("a string", "RFC 7517 section 5", json.dumps),
    KeyRow("a list", "RFC 7517 section 5", lambda k: [k]),
    KeyRow("an empty object", "RFC 7517 section 5", lambda _: {}),
]

USED = [
    KeyRow("as it is", "RFC 7517 section 4", lambda k: k),
    KeyRow("without alg", "RFC 7517 section 4.4", lambda k: without(k, "alg")),
    KeyRow("without use", "RFC 7517 section 4.2", lambda k: without(k, "use")),
    KeyRow("to verify", "RFC 7517 section 4.3", lambda k: {**k, "key_ops": ["verify"]}),
    KeyRow(
        "with members that nobody knows", "RFC 7517 section 4", lambda k: {**k, "x-rotated": [1, {"a": None}]}
    ),
    KeyRow("with a certificate", "RFC 7517 section 4.7", lambda k: {**k, "x5c": ["junk"], "x5t": "junk"}),
]

UNUSABLE_FOR_ES256 = [
    KeyRow(
        "a point off the curve", "CVE-2017-12974 (Nimbus)", lambda k: named(k, **_P256) | {"y": _P256["x"]}
    ),
    KeyRow(
        "the point at infinity", "RFC 8725 section 3.4", lambda k: named(k, **_P256) | {"x": "AA", "y": "AA"}
    ),
    KeyRow("P-384", "RFC 7518 section 3.4", lambda k: named(k, **_P256) | {"crv": "P-384"}),
    KeyRow("secp256k1", "RFC 7518 section 3.4", lambda k: named(k, **_P256) | {"crv": "secp256k1"}),
    KeyRow("a curve of no name", "RFC 7518 section 6.2.1", lambda k: without(named(k, **_P256), "crv")),
    KeyRow(
        "a coordinate short", "RFC 7518 section 6.2.1.2", lambda k: named(k, **_P256) | {"x": _P256["x"][:40]}
    ),
    KeyRow("with its private half", "RFC 7517 section 9.2", lambda k: named(k, **_P256) | {"d": _P256["x"]}),
    KeyRow("Ed448", "RFC 8037 section 2", lambda k: named(k, **_ED25519) | {"crv": "Ed448"}),
    KeyRow("X25519", "RFC 8037 section 2", lambda k: named(k, **_ED25519) | {"crv": "X25519"}),
    KeyRow(
        "Ed25519 of 31 bytes",
        "RFC 8037 section 2",
        lambda k: named(k, **_ED25519) | {"x": _ED25519["x"][:42]},
    ),
]


class UnreadableRow(NamedTuple):
    """An unreadable member in a readable document: only this member may be lost."""

    name: str
    source: str
    member: str


UNREADABLE = [
    UnreadableRow("a member twice", "RFC 7517 section 4", '{"kty": "RSA", "kid": "x", "kid": "y"}'),
    UnreadableRow("NaN", "RFC 8259 section 6", '{"kty": "RSA", "kid": "x", "nbf": NaN}'),
    UnreadableRow(
        "a number of 5000 digits", "CVE-2026-102274 (PyJWT)", '{"kid": "x", "exp": ' + "9" * 5000 + "}"
    ),
]
