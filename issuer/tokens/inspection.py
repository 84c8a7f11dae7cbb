"""Decodes an access token for a developer, and gives the reason in words why it is not valid; recognises id_tokens.

The header is judged as by services, RFC 9068 section 4; the issuer itself is stricter, see `signed_jwt`. No response
over HTTP contains these reasons.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from jwt.utils import base64url_decode, base64url_encode

from issuer.clients.key_sets import ALGORITHMS, ClientKey
from issuer.clock import instant
from issuer.jose import MALFORMED
from issuer.strict_json import read_document
from issuer.tokens.claims import AccessTokenClaims
from issuer.tokens.refresh_text import family_and_proof
from issuer.tokens.signed_jwt import ACCESS_TOKEN, ID_TOKEN, TOKEN_MOST_CHARACTERS, TokenType, verified_claims

INSTANTS = ("iat", "nbf", "exp", "auth_time")
LEEWAY = timedelta(seconds=10)
"""How far a token may be issued in the future: the clocks of two hosts differ."""
PARTS = 3
FORBIDDEN_HEADERS = ("crit", "b64", "jwk", "jku", "x5u", "x5c", "zip", "enc", "cty")
"""Those with which `jwks_verifier` refuses a token, too."""
_ID_TOKEN_MARKS = frozenset({"auth_time", "nonce", "at_hash"})
"""OpenID Connect Core section 2; an id_token of another issuer may have only one of them."""
_ID_TOKEN = TokenType(ID_TOKEN.typ, ("iss", "sub", "aud", "exp", "iat"))
"""What section 2 requires of an id_token of any issuer."""
_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


class Invalid(Exception):
    """The token is not valid; the message says why."""


@dataclass(frozen=True)
class DecodedToken:
    """The contents of a token, not verified."""

    text: str = field(repr=False)
    header: Mapping[str, Any]
    claims: Mapping[str, Any]

    @property
    def instants(self) -> dict[str, datetime]:
        """The claims that are instants."""
        found = {name: _instant(self.claims.get(name)) for name in INSTANTS}
        return {name: when for name, when in found.items() if when is not None}

    @property
    def typ(self) -> str:
        """The type in the header, without the prefix that RFC 9068 section 4 allows."""
        return str(self.header.get("typ")).lower().removeprefix("application/")

    @property
    def is_id_token(self) -> bool:
        """Whether it has the form of an id_token, which services never accept."""
        return self.typ == ID_TOKEN.typ.lower() and not _ID_TOKEN_MARKS.isdisjoint(self.claims)


def decode(text: str) -> DecodedToken:
    """Return the contents of a JWT; raise Invalid if it is none."""
    if len(text) > TOKEN_MOST_CHARACTERS:
        raise Invalid(
            f"it has more than {TOKEN_MOST_CHARACTERS} characters, more than any service should read"
        )
    parts = text.split(".")
    if len(parts) != PARTS:
        if len(parts) == 1 and family_and_proof(text) is not None:
            raise Invalid(
                "not a JWT but an opaque refresh token; only its issuer can check it, by introspection"
            )
        found = "1 part" if len(parts) == 1 else f"{len(parts)} parts separated by dots"
        raise Invalid(f"not a JWT: it has {found}, not {PARTS}")
    header, claims = (_read(name, part) for name, part in zip(("header", "claims"), parts[:2], strict=True))
    return DecodedToken(text, header, claims)


def require_header(token: DecodedToken) -> None:
    """Raise Invalid for a header that no service accepts, whatever the keys are."""
    alg = token.header.get("alg")
    if isinstance(alg, str) and alg.lower() == "none":
        raise Invalid("alg is none: the token is not signed")
    if alg not in ALGORITHMS:
        raise Invalid(f"alg is {alg}, expected one of {', '.join(ALGORITHMS)}")
    if token.typ != ACCESS_TOKEN.typ and not token.is_id_token:
        raise Invalid(f"typ is {token.header.get('typ')}, expected {ACCESS_TOKEN.typ}")
    forbidden = [name for name in FORBIDDEN_HEADERS if name in token.header]
    if forbidden:
        raise Invalid(f"the header has {', '.join(forbidden)}, which services do not accept")
    try:
        _octets(token.text.rpartition(".")[2])
    except ValueError:
        raise Invalid("the signature is not base64url; check that the token is complete") from None


def require_valid(
    token: DecodedToken, keys: Sequence[ClientKey], issuer: str, audience: str | None, now: datetime
) -> None:
    """Raise Invalid unless it is a valid access token of `issuer`, by one of `keys`, for `audience` if given."""
    require_header(token)
    alg, kid = token.header["alg"], token.header.get("kid")
    named = [key for key in keys if key.kid == kid and kid is not None]
    if not named:
        other = token.claims.get("iss")
        raise Invalid(
            f"unknown kid {kid}: it is not among the keys of {issuer}"
            + (f"; the token names another issuer, {other}" if other != issuer else "")
        )
    key = next((key for key in named if key.suits(alg, kid)), None)
    if key is None:
        raise Invalid(f"alg is {alg}, but the key with this kid is for another algorithm")
    _require_claims(token, key, issuer, audience)
    _require_times(token, now)
    if token.is_id_token:
        raise Invalid(
            f"it is an id_token, signed by a key of {issuer}: it tells the client {token.claims['aud']} who signed"
            f" in; services accept access tokens only (typ {ACCESS_TOKEN.typ})"
        )


def _require_claims(token: DecodedToken, key: ClientKey, issuer: str, audience: str | None) -> None:
    expected = None if token.is_id_token else audience
    kind = _ID_TOKEN if token.is_id_token else ACCESS_TOKEN
    try:
        claims = verified_claims(
            kind, token.text, key.key, token.header["alg"], issuer=issuer, audience=expected
        )
        if not token.is_id_token:
            AccessTokenClaims.parsed(claims)
    except MALFORMED as error:
        raise Invalid(_reason(error, token, issuer, audience)) from None


def _reason(error: Exception, token: DecodedToken, issuer: str, audience: str | None) -> str:
    match error:
        case jwt.InvalidSignatureError():
            return "bad signature: the key with this kid did not sign these contents"
        case jwt.InvalidIssuerError():
            return f"iss is {token.claims.get('iss')}, expected {issuer}"
        case jwt.InvalidAudienceError():
            aud = token.claims.get("aud")
            listed = [str(each) for each in aud] if isinstance(aud, list) else [str(aud)]
            shown = listed[0] if len(listed) == 1 else f"[{', '.join(listed)}]"
            return f"aud is {shown}, expected {audience}"
        case jwt.MissingRequiredClaimError():
            return f"the claim {error.claim} is missing"
    return f"it is malformed: {error}"


def _require_times(token: DecodedToken, now: datetime) -> None:
    instants = token.instants
    for name in ("exp", "iat", *token.claims.keys() & {"nbf"}):
        if name not in instants:
            raise Invalid(f"{name} is not an instant")
    if instants["exp"] <= now:
        raise Invalid(f"expired {in_words(now - instants['exp'])} ago, at {instant(instants['exp'])}")
    for name in ("nbf", "iat"):
        if name in instants and instants[name] > now + LEEWAY:
            raise Invalid(f"{name} is in the future: in {in_words(instants[name] - now)}; check the clocks")


def in_words(span: timedelta) -> str:
    """Return a duration in its largest unit: `9 min`."""
    seconds = int(span.total_seconds())
    name, length = next((unit for unit in _UNITS if seconds >= unit[1]), _UNITS[-1])
    return f"{seconds // length} {name}"


def _read(name: str, part: str) -> dict[str, Any]:
    """Return the JSON object in a part of the token; raise Invalid."""
    try:
        document = read_document(_octets(part))
        json.dumps(document, allow_nan=False)  # a number such as 1e999 has no JSON, and depth has a limit
    except (*MALFORMED, OverflowError) as error:
        raise Invalid(f"not a JWT: its {name} cannot be decoded: {error}") from None
    if not isinstance(document, dict):
        raise Invalid(f"not a JWT: its {name} is not a JSON object")
    return document


def _octets(part: str) -> bytes:
    """Return what a part of a token encodes; raise ValueError unless it is the one base64url without padding."""
    octets: bytes = base64url_decode(part)  # ignores characters that are not base64url
    if base64url_encode(octets).decode() != part:
        raise ValueError("it is not base64url")
    return octets


def _instant(value: object) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (OverflowError, ValueError, OSError):
        return None
