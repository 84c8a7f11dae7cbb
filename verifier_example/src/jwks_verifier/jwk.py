"""Imports JSON Web Keys (RFC 7517, RFC 7518, RFC 8037): which keys of a key set may verify tokens.

Fetching the key set is left to `fetching`, the use of keys to `verifier`.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK

from .encoding import BASE64URL, read_base64url
from .errors import is_shortage
from .events import Event, Report

MAX_KEYS = 256  # members read from a key set; more fit into MAX_BODY only if they are too small to be keys
RSA_BITS, RSA_EXPONENT = range(2048, 8192 + 1), 65537
P256_COORDINATE = 32  # octets, RFC 7518 section 6.2.1.2
KID = re.compile(r"[A-Za-z0-9._~:+/=@#-]{1,256}")
KTY = {"RS256": "RSA", "PS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}
"""The kty for each algorithm."""

_CURVES = {"EC": "P-256", "OKP": "Ed25519"}  # the crv for each kty that has one
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
# The operations registered by RFC 7517 section 4.3, without `sign` and `verify`.
_OTHER_OPS = frozenset({"encrypt", "decrypt", "wrapKey", "unwrapKey", "deriveKey", "deriveBits"})
# Modulo each of these primes, a modulus of CVE-2017-15361 (ROCA) is a power of 65537; other numbers hardly ever are.
_PRIMES = [p for p in range(3, 168) if all(p % divisor for divisor in range(2, p))]
_POWERS = {p: {pow(RSA_EXPONENT, k, p) for k in range(p)} for p in _PRIMES}


def import_key(jwk: object, algorithms: Sequence[str]) -> PyJWK:
    """Import a JWK (RFC 7517 section 4) for the first of `algorithms` that matches; raise if the key is unusable.

    Unknown members are ignored, as that section requires.
    """
    if not isinstance(jwk, dict) or _PRIVATE_MEMBERS & jwk.keys():
        raise ValueError("not a public key")
    kid, kty = jwk.get("kid"), jwk.get("kty")
    if not isinstance(kid, str) or not KID.fullmatch(kid):
        raise ValueError("no usable kid")
    alg = next((a for a in algorithms if KTY[a] == kty and jwk.get("alg", a) == a), None)
    if alg is None or not _is_for_verifying(jwk):
        raise ValueError("for another use or another algorithm")
    if kty in _CURVES and jwk.get("crv") != _CURVES[kty]:
        raise ValueError("of another curve")
    _check_numbers(jwk)
    key = PyJWK(jwk, alg)
    if isinstance(key.key, RSAPublicKey):
        n, e = key.key.public_numbers().n, key.key.public_numbers().e
        sound = key.key.key_size in RSA_BITS and e == RSA_EXPONENT and all(n % p for p in (2, *_PRIMES))
        if not sound or all(n % p in _POWERS[p] for p in _PRIMES):
            raise ValueError("an RSA key that is weak, oversized or of CVE-2017-15361")
    return key


async def import_keys(members: object, algorithms: Sequence[str], report: Report) -> dict[str, PyJWK]:
    """Import key by key, so that an unusable key affects no other, and many keys do not block the event loop.

    Skipped keys are reported. Raises ValueError if none is usable.
    """
    if not isinstance(members, list):
        raise ValueError("not a key set")  # noqa: TRY004 - an error of the sender, not of the caller
    keys: dict[str, PyJWK | None] = {}
    rank = list(algorithms).index
    exposed = {  # kids with a published private key
        str(jwk.get("kid"))
        for jwk in members[:MAX_KEYS]
        if isinstance(jwk, dict) and _PRIVATE_MEMBERS & jwk.keys()
    }
    for position, jwk in enumerate(members[:MAX_KEYS]):
        try:
            key, kid = import_key(jwk, algorithms), jwk["kid"]
            known = keys.setdefault(kid, key)
            if known is None or known.key != key.key:
                keys[kid] = None  # ambiguous; the same key listed twice is not
            elif rank(key.algorithm_name) < rank(known.algorithm_name):
                keys[kid] = key  # the same key listed for several algorithms
        except Exception as error:  # a hostile JWK may raise anything
            if is_shortage(error):  # the key may be usable: better no new keys than fewer
                raise
            report(Event.KEY_SKIPPED, f"#{position}: {str(error)!a:.200}")
        await asyncio.sleep(0)
    if len(members) > MAX_KEYS:
        report(Event.KEY_SKIPPED, f"all after the first {MAX_KEYS}")
    usable = {kid: key for kid, key in keys.items() if key and kid not in exposed}
    for kid in keys.keys() - usable.keys():
        reason = "its private key is published" if kid in exposed else "different keys of this kid"
        report(Event.KEY_SKIPPED, f"{kid}: {reason}")
    if not usable:
        raise ValueError("no usable key")
    return usable


def _is_for_verifying(jwk: Mapping[str, Any]) -> bool:
    """Whether `use` and `key_ops`, where present, allow verifying and are consistent (RFC 7517 section 4.3)."""
    if jwk.get("use", "sig") != "sig":
        return False
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or not all(isinstance(each, str) for each in operations):
        return False
    contradicts = "use" in jwk and not _OTHER_OPS.isdisjoint(operations)
    return "verify" in operations and len(set(operations)) == len(operations) and not contradicts


def _check_numbers(jwk: Mapping[str, Any]) -> None:
    """Raise ValueError unless the numbers are encoded as RFC 7518 section 6 and RFC 8037 section 2 require."""
    if jwk["kty"] == "RSA":
        for name in ("n", "e"):
            if not _octets(jwk, name)[0]:  # Base64urlUInt, RFC 7518 section 2
                raise ValueError(f"{name} does not use the minimum number of octets")
        return
    for name in ("x", "y") if jwk["kty"] == "EC" else ("x",):
        if len(_octets(jwk, name)) != P256_COORDINATE:  # as many as Ed25519 has, RFC 8032 section 5.1.5
            raise ValueError(f"{name} has not {P256_COORDINATE} octets")


def _octets(jwk: Mapping[str, Any], name: str) -> bytes:
    """Decode a member in base64url without padding (RFC 7515 section 2); PyJWT accepts other encodings, too."""
    text = jwk.get(name)
    if not isinstance(text, str) or not BASE64URL.fullmatch(text):
        raise ValueError(f"{name} is not base64url without padding")
    return read_base64url(text)
