"""Strict JSON and base64url, so that no document or token is read in two ways.

What members mean is left to `jwk`, `discovery`, `claims` and `verifier`.
"""

import binascii
import json
import re
import string
from typing import Any

BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
MALFORMED = (ValueError, TypeError, RecursionError)
"""What parsing raises."""

_LAST_CHARACTERS = (string.ascii_letters + string.digits + "-_", "", "AQgw", "AEIMQUYcgkosw048")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):  # parsers differ in which of the two they use
        raise ValueError("duplicate member")
    return members


_STRICT = json.JSONDecoder(object_pairs_hook=_members, parse_constant=int)  # int("NaN") raises ValueError
KEY_SET = json.JSONDecoder(
    object_pairs_hook=lambda pairs: dict(pairs) if len(dict(pairs)) == len(pairs) else None,
    parse_constant=str,
    parse_int=float,
)
"""Reads a key set: a member that is repeated, or a number that int() refuses, makes only its own key unusable."""


def read_object(raw: bytes | bytearray, decoder: json.JSONDecoder = _STRICT) -> dict[str, Any]:
    """Return the one JSON object that `raw` holds, in UTF-8; raise one of MALFORMED for anything else."""
    text = raw.strip(b" \t\r\n").decode()
    document, end = decoder.raw_decode(text)
    if end != len(text) or not isinstance(document, dict):
        raise ValueError("not one JSON object")
    return document


def read_base64url(segment: str) -> bytes:
    """Decode base64url without padding; `segment` consists of its characters, see BASE64URL."""
    if segment[-1] not in _LAST_CHARACTERS[len(segment) % 4]:
        raise ValueError("not canonical")  # else one token would have several encodings
    return binascii.a2b_base64(segment.replace("-", "+").replace("_", "/") + "==")  # padding enough for any
