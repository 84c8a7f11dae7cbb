"""Client authentication by a signed assertion, `private_key_jwt`: RFC 7523 section 3, RFC 7521 section 4.2.

Keys are found by `key_sets`; `store` enforces that an assertion is used once.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import jwt
from jwt.utils import base64url_decode

from issuer.clients.key_sets import ALGORITHMS, ClientKey
from issuer.jose import MALFORMED, timeless
from issuer.oauth import InvalidClient
from issuer.strict_json import read_document

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_MOST_CHARACTERS = 8192
LONGEST_LIFE = timedelta(hours=1)
"""Some libraries allow no shorter one. An assertion is used once in any case."""
JTI_MOST_CHARACTERS = 256
_TYPES = {"jwt", "client-authentication+jwt"}
_OPTIONS = timeless("iss", "sub", "aud", "exp", "jti")


@dataclass(frozen=True)
class Assertion:
    """The contents of an assertion, not verified yet."""

    text: str = field(repr=False)
    client_id: str
    alg: str
    kid: str | None

    @classmethod
    def read(cls, text: str) -> Self:
        """Return the contents of `text`; raise InvalidClient for what cannot be an assertion."""
        try:
            if len(text) > ASSERTION_MOST_CHARACTERS:
                raise ValueError(ASSERTION_MOST_CHARACTERS)
            header = jwt.get_unverified_header(text)
            claims = jwt.decode(text, options={"verify_signature": False})
            for part in text.split(".")[:2]:  # PyJWT accepts a member twice, RFC 7519 section 4
                read_document(base64url_decode(part))
            # "application/" may be left out, RFC 7515 section 4.1.9.
            typ = header.get("typ", "JWT").lower().removeprefix("application/")
            if header["alg"] not in ALGORITHMS or typ not in _TYPES:
                raise ValueError(header)
            return cls(text, str(claims["sub"]), header["alg"], header.get("kid"))
        except MALFORMED:
            raise InvalidClient("client_assertion is not a JWT that this server accepts") from None

    def verify(
        self, keys: Iterable[ClientKey], audiences: Iterable[str], leeway: timedelta, now: datetime
    ) -> tuple[str, datetime]:
        """Return `jti` and expiry if one of the `keys` signed it for one of the `audiences`; raise InvalidClient.

        With a single audience `aud` must be that string alone: an assertion for several servers could be replayed by
        one of them to another (draft-ietf-oauth-rfc7523bis section 4).
        """
        claims = self._signed_by(keys, list(audiences))
        if claims["iss"] != self.client_id:
            raise InvalidClient("iss and sub of client_assertion must be the client_id")
        jti = claims["jti"]
        if not isinstance(jti, str) or not 1 <= len(jti) <= JTI_MOST_CHARACTERS:
            raise InvalidClient(f"jti of client_assertion must be a string of at most {JTI_MOST_CHARACTERS}")
        expires_at = _instant(claims, "exp")
        if not now - leeway < expires_at <= now + LONGEST_LIFE + leeway:
            raise InvalidClient("client_assertion has expired, or its lifetime is more than an hour")
        for name in ("iat", "nbf"):
            if name in claims and _instant(claims, name) > now + leeway:
                raise InvalidClient(f"{name} of client_assertion is in the future")
        # Twice the leeway: the clock of the node that prunes may be ahead.
        return jti, expires_at + 2 * leeway

    def _signed_by(self, keys: Iterable[ClientKey], audiences: list[str]) -> dict[str, Any]:
        decode: Callable[..., dict[str, Any]] = jwt.decode
        for each in keys:
            if each.suits(self.alg, self.kid):
                try:
                    return decode(
                        self.text,
                        each.key,
                        algorithms=[self.alg],
                        audience=audiences[0] if len(audiences) == 1 else audiences,
                        subject=self.client_id,
                        options={**_OPTIONS, "strict_aud": len(audiences) == 1},
                    )
                except jwt.InvalidSignatureError:
                    continue
                except jwt.InvalidAudienceError:
                    raise InvalidClient(
                        f"aud of client_assertion must be {audiences[0]}, as one string"
                    ) from None
                except MALFORMED:
                    break
        raise InvalidClient


def _instant(claims: dict[str, Any], name: str) -> datetime:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidClient(f"{name} of client_assertion must be a number")
    try:
        return datetime.fromtimestamp(value, UTC)
    except (OverflowError, ValueError, OSError):
        raise InvalidClient(f"{name} of client_assertion must be an instant") from None
