"""The claims of an access token (RFC 9068): whether they are complete, for this service and valid now.

Header, key and signature are left to `verifier`.
"""

import re
from operator import itemgetter
from typing import NamedTuple

from .encoding import read_base64url, read_object
from .errors import InvalidToken, Reason

LAST_INSTANT = 253_402_300_799  # the end of the year 9999, the last that `datetime` can represent
_TEXT = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]+")  # safe in JSON and logs
_SCOPE = re.compile(r"(?:[!\x23-\x5b\x5d-~]+(?: [!\x23-\x5b\x5d-~]+)*)?")  # RFC 6749 section 3.3
_required_claims = itemgetter("iss", "sub", "client_id", "jti", "aud", "iat", "exp")  # RFC 9068 section 2.2
_NUMBERS = frozenset({int, float})  # the types of JSON numbers; `bool` is excluded


class AccessToken(NamedTuple):  # created in a third of the time of a frozen dataclass
    """The claims of a verified token (RFC 9068 section 2.2); instants in seconds since 1970."""

    subject: str
    client_id: str
    username: str | None  # None for a token of client credentials
    scopes: frozenset[str]
    issuer: str
    audience: tuple[str, ...]
    issued_at: float  # an int, unless the issuer sends fractions
    expires_at: float
    jti: str


def read_claims(segment: str, issuer: str, audience: str, now: float, leeway: float) -> AccessToken:
    """Return the claims if they are complete, of this issuer, for this audience and valid now.

    Raises InvalidToken, or one of MALFORMED.
    """
    claims = read_object(read_base64url(segment))
    try:
        iss, sub, client_id, jti, aud, iat, exp = _required_claims(claims)
        scope, nbf = claims.get("scope", ""), claims.get("nbf", 0)
        audiences = tuple(aud) if isinstance(aud, list) else (aud,)
        texts = (iss, sub, client_id, jti, claims.get("username", "-"), *audiences)
        text = "".join(texts)
        printable = text.isprintable() or _TEXT.fullmatch(text)  # the first is fast and usually enough
        complete = printable and all(texts) and _SCOPE.fullmatch(scope)
    except (KeyError, TypeError):  # missing, or not a string
        complete = None
    if not complete:
        raise InvalidToken(Reason.CLAIMS)
    # NumericDate (RFC 7519 section 2) is a JSON number, with a fraction or without. No isinstance: a bool is an int
    # to it. The set is built only if the three are not all integers, which is rare.
    if not type(iat) is type(exp) is type(nbf) is int and not {type(iat), type(exp), type(nbf)} <= _NUMBERS:
        raise InvalidToken(Reason.CLAIMS)
    # Infinity, the value of 1e999, is out of range, too.
    if not (0 <= iat <= LAST_INSTANT and 0 <= exp <= LAST_INSTANT and 0 <= nbf <= LAST_INSTANT):
        raise InvalidToken(Reason.CLAIMS)
    if iss != issuer:
        raise InvalidToken(Reason.ISSUER)
    if audience not in audiences:
        raise InvalidToken(Reason.AUDIENCE)
    if iat > now + leeway or nbf > now + leeway:
        raise InvalidToken(Reason.NOT_YET_VALID)
    if exp <= now - leeway:
        raise InvalidToken(Reason.EXPIRED)
    username, scopes = claims.get("username"), frozenset(scope.split())
    return AccessToken(sub, client_id, username, scopes, iss, audiences, iat, exp, jti)
