"""Attributes of users: short texts by name, which operators set and access tokens may have as claims.

Which of them are in tokens is decided by ISSUER_CLAIMS, in `tokens.further_claims`.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Final

from issuer.oauth import InvalidRequest

ATTRIBUTES_MOST = 16
ATTRIBUTES_MOST_BYTES = 1024
"""Of all of a user as JSON, as tokens may have them all."""
VALUE_MOST_CHARACTERS = 256
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")

_RESERVED: Final = (
    "iss sub aud exp nbf iat jti client_id scope username grant_id sid roles"  # of this issuer's tokens
    " acr act amr at_hash ath atc attest auth_time authorization_details azp c_hash cnf cnonce div events"
    " htm htu may_act mky nonce opt orig origid s_hash sub_id sub_jwk toe token_introspection txn typ"
    " verified_claims vc vot vp vtm _claim_names _claim_sources"
    " address birthdate email email_verified family_name gender given_name locale middle_name name nickname"
    " phone_number phone_number_verified picture preferred_username profile updated_at website zoneinfo"
    " also_known_as birth_family_name birth_given_name birth_middle_name msisdn nationalities place_of_birth"
    " salutation title"
)
RESERVED_CLAIMS: Final = frozenset(_RESERVED.split())
"""Names with a meaning of their own: those of this issuer's tokens, and registered ones (RFC 7519 section 10.1) that
say who, when, by whom or how somebody was authenticated. `groups` and `entitlements` are for authorization, and free.
"""


def require_claim_name(name: str) -> str:
    """Return the name of an attribute or claim; raise InvalidRequest for one that is not accepted."""
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"{name[:80]!r} is no name of an attribute: 1 to 64 of a-z, 0-9 and _, the first one a letter"
        )
    if name in RESERVED_CLAIMS:
        raise InvalidRequest(
            f"{name} is a claim with a meaning of its own; choose another name, such as x_{name}"
        )
    return name


def parse_attributes(texts: Iterable[str]) -> dict[str, str]:
    """Return attributes written as `NAME=VALUE`, an empty value for one to remove; raise InvalidRequest."""
    found = dict[str, str]()
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidRequest(f"{text[:80]!r} is not of the form NAME=VALUE")
        if require_claim_name(name) in found:
            raise InvalidRequest(f"{name} is given twice")
        if len(value) > VALUE_MOST_CHARACTERS or not value.isprintable():
            raise InvalidRequest(
                f"the value of {name} must be printable, of at most {VALUE_MOST_CHARACTERS} characters"
            )
        found[name] = value
    return found


def changed(attributes: Mapping[str, str], changes: Mapping[str, str]) -> dict[str, str]:
    """Return attributes after `changes`, where an empty text removes; raise InvalidRequest for too many."""
    kept = {name: value for name, value in {**attributes, **changes}.items() if value}
    if len(kept) > ATTRIBUTES_MOST or len(json.dumps(kept)) > ATTRIBUTES_MOST_BYTES:
        raise InvalidRequest(
            f"a user has at most {ATTRIBUTES_MOST} attributes, of {ATTRIBUTES_MOST_BYTES} bytes together as JSON"
        )
    return kept
