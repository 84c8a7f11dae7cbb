"""The claims of an access token (RFC 9068): whether they are complete, for this service and valid now.

Header, key and signature are left to `verifier`.
"""

import copy
import re
from collections.abc import Iterator, Mapping
from operator import itemgetter
from typing import Any, NamedTuple

from .encoding import read_base64url, read_object
from .errors import InvalidToken, Reason
from .logs import shown, shown_instant, shown_list

LAST_INSTANT = 253_402_300_799  # the end of the year 9999, the last that `datetime` can represent
_TEXT = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]+")  # safe in JSON and logs
_SCOPE = re.compile(r"(?:[!\x23-\x5b\x5d-~]+(?: [!\x23-\x5b\x5d-~]+)*)?")  # RFC 6749 section 3.3
_REQUIRED = ("iss", "sub", "client_id", "jti", "aud", "iat", "exp")  # RFC 9068 section 2.2
_required_claims = itemgetter(*_REQUIRED)
_NUMBERS = frozenset({int, float})  # the types of JSON numbers; `bool` is excluded


class Claims(Mapping[str, Any]):
    """The claims under their names in the token; immutable: arrays are tuples, and objects are Claims.

    Values are converted when they are read, so that this costs a verification nothing.
    """

    __slots__ = ("_claims",)

    def __init__(self, claims: Mapping[str, Any]) -> None:
        self._claims = claims

    def __getitem__(self, name: str) -> Any:
        return _immutable(self._claims[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._claims)

    def __len__(self) -> int:
        return len(self._claims)

    def __hash__(self) -> int:
        return hash(frozenset(self.items()))

    def as_dict(self) -> dict[str, Any]:
        """Return a copy of dicts and lists, for JSON."""
        return copy.deepcopy(dict(self._claims))

    def __repr__(self) -> str:
        return f"Claims({dict(self)})"


def _immutable(value: Any) -> Any:
    if isinstance(value, dict):
        return Claims(value)
    return tuple(map(_immutable, value)) if isinstance(value, list) else value


NO_CLAIMS = Claims({})


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
    claims: Claims = NO_CLAIMS
    """All claims as the issuer signed them; of those without a field of their own, only the JSON has been checked."""


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
        missing = ", ".join(name for name in _REQUIRED if name not in claims)
        raise InvalidToken(Reason.CLAIMS, f"claims are missing: {missing}" if missing else "")
    # NumericDate (RFC 7519 section 2) is a JSON number, with a fraction or without. No isinstance: a bool is an int
    # to it. The set is built only if the three are not all integers, which is rare.
    if not type(iat) is type(exp) is type(nbf) is int and not {type(iat), type(exp), type(nbf)} <= _NUMBERS:
        raise InvalidToken(Reason.CLAIMS)
    # Infinity, the value of 1e999, is out of range, too.
    if not (0 <= iat <= LAST_INSTANT and 0 <= exp <= LAST_INSTANT and 0 <= nbf <= LAST_INSTANT):
        raise InvalidToken(Reason.CLAIMS)
    if iss != issuer:
        raise InvalidToken(Reason.ISSUER, f"iss is {shown(iss)}, expected {issuer}")
    if audience not in audiences:
        raise InvalidToken(Reason.AUDIENCE, f"aud is {shown_list(audiences)}, expected {audience}")
    if iat > now + leeway or nbf > now + leeway:
        name, instant = ("iat", iat) if iat > now + leeway else ("nbf", nbf)
        raise InvalidToken(Reason.NOT_YET_VALID, _not_now(name, instant, now))
    if exp <= now - leeway:
        raise InvalidToken(Reason.EXPIRED, _not_now("exp", exp, now))
    username, scopes = claims.get("username"), frozenset(scope.split())
    return AccessToken(sub, client_id, username, scopes, iss, audiences, iat, exp, jti, Claims(claims))


def _not_now(name: str, instant: float, now: float) -> str:
    """Describe an instant by the clock of this machine, which may be the one that is wrong."""
    seconds = abs(now - instant)
    away = f"expired {seconds:.0f} s ago" if name == "exp" else f"not valid for another {seconds:.0f} s"
    return f"{away}: {name} is {shown_instant(instant)}, and this machine's clock says {shown_instant(now)}"
