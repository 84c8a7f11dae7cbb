"""Rules for JWTs and JWKs of unknown origin that PyJWT does not check."""

import binascii
import re
from collections.abc import Mapping
from typing import Any

import jwt
from jwt.types import Options

MALFORMED = (jwt.PyJWTError, ValueError, TypeError, AttributeError, KeyError, RecursionError)
"""What PyJWT may raise for hostile input."""


def timeless(*required: str) -> Options:
    """Return options for `jwt.decode` without checks of time, which callers make with their own clock."""
    return {"require": list(required), "verify_exp": False, "verify_iat": False, "verify_nbf": False}


PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
"""Members of private and secret keys in a JWK, RFC 7518 section 6."""
_NUMBERS = {"RSA": ("n", "e"), "EC": ("x", "y"), "OKP": ("x",)}
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
_OTHER_OPERATIONS = frozenset({"encrypt", "decrypt", "wrapKey", "unwrapKey", "deriveKey", "deriveBits"})


def is_for_verifying(jwk: Mapping[str, Any]) -> bool:
    """Whether `use` and `key_ops` allow verification and agree, RFC 7517 sections 4.2 and 4.3."""
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list):
        return False
    if not all(isinstance(each, str) for each in operations) or len(set(operations)) != len(operations):
        return False
    return "verify" in operations and not ("use" in jwk and _OTHER_OPERATIONS & set(operations))


def is_canonical(jwk: Mapping[str, Any]) -> bool:
    """Whether the numbers of a key are encoded as in RFC 7518 section 2; PyJWT accepts other encodings, too."""
    kty = jwk.get("kty")
    names = _NUMBERS.get(kty, ()) if isinstance(kty, str) else ()
    return bool(names) and all(_is_base64url(jwk.get(name), minimal=kty == "RSA") for name in names)


def _is_base64url(text: object, *, minimal: bool) -> bool:
    if not isinstance(text, str) or not _BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        return False
    octets = binascii.a2b_base64(text.replace("-", "+").replace("_", "/") + "==")
    return bool(octets[0]) or not minimal
