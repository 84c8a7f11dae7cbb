"""Tokens: the claims of an access token, and the rules of refresh-token sessions, as pure functions.

A refresh token is 64 bytes in base64url: a secret of its own (32), a proof that every token of its session carries
(16), and the id of the session (16). Signing is the work of `signing`, storing sessions that of `family_store`.
"""

import base64
import hashlib
import hmac
import secrets
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from issuer.digests import refresh_token_digest
from issuer.oauth import InvalidGrant, LoginFailed

REFRESH_GRACE = timedelta(seconds=30)
"""How long a used refresh token still yields its successor, once: a second tab, or a response that was lost."""

ROTATION_BURST = 10
ROTATION_INTERVAL = timedelta(seconds=5)
"""A session rotates `ROTATION_BURST` times in quick succession, and then once in this time.

In between its newest refresh token stays valid: each rotation is a durable write, and one client must not be able to
cause hundreds of them a second.
"""

_PROOF_BYTES = 16
_TOKEN_CHARACTERS = 86


@dataclass(frozen=True)
class Family:
    """All refresh tokens that descend from one log-in; it ends as a whole."""

    id: str
    user_id: str
    client_id: str
    scope: frozenset[str]
    audience: tuple[str, ...]
    created_at: datetime
    expires_at: datetime
    """The absolute end; each token's own life is the idle limit."""
    ended_at: datetime | None = None
    user_agent: str = ""
    address: str = ""


@dataclass(frozen=True)
class RefreshToken:
    """What is stored of one refresh token; the token itself never is."""

    digest: bytes = field(repr=False)
    family_id: str
    expires_at: datetime
    successor_seed: bytes = field(repr=False)
    """With the token, and only with it, this yields the successor; on its own it is noise."""
    proof_digest: bytes = field(repr=False)
    """SHA-256 of the session's proof."""
    used_at: datetime | None = None
    site: str | None = None
    """The network that the token was issued to; None: unknown."""
    paced_until: datetime | None = None
    """When the rotations of the session so far have been paid for, at one in each `ROTATION_INTERVAL`."""
    superseded: bool = False
    """The token itself is not stored any more: it carries the proof of its session and is not among the latest."""


@dataclass(frozen=True)
class Issued:
    """What is stored of the successor of a used token: when and to whom it was issued."""

    site: str | None
    age: timedelta | None
    """By the clock of the database; None where that is unknown."""


@dataclass(frozen=True)
class NewFamily:
    """A log-in that starts a family, as long as the password that was verified is still the user's."""

    verified_hash: str = field(repr=False)
    better_hash: str | None = field(repr=False)
    """To keep in place of `verified_hash`, if that is of an older scheme."""


@dataclass(frozen=True)
class Renewal:
    """Use up `token` and hand out its successor; the same one again for a repeat, or `presented` itself."""

    presented: str = field(repr=False)
    token: RefreshToken
    family: Family
    redemption: "Redemption"
    following: str | None = field(default=None, repr=False)
    """The successor that a repeat yields again."""


class Redemption(StrEnum):
    """What presenting a refresh token leads to."""

    ROTATE = "rotate"
    KEEP = "keep"
    """The newest token, after many rotations in a short time: it stays valid, and is not replaced yet."""
    REPEAT = "repeat"
    """Used within the grace, from the same site: the same successor again."""
    REUSE = "reuse"
    """Used before that: stolen, or kept by mistake. The session ends."""
    ELSEWHERE = "elsewhere"
    """Used within the grace, but from another site. The session ends."""


def redemption(
    token: RefreshToken, family: Family, issued: Issued | None, site: str, now: datetime, skew: timedelta
) -> Redemption:
    """Decide what presenting `token` from `site` leads to, RFC 9700 section 4.14.2.

    For a used token, `issued` tells of its successor. Raise InvalidGrant for an expired token or an ended session.
    """
    if family.ended_at is not None or family.expires_at <= now:
        raise InvalidGrant("the session has ended; log in again")
    if token.used_at is not None or token.superseded:
        if token.used_at is None or issued is None or not _is_recent(issued.age, now - token.used_at, skew):
            return Redemption.REUSE
        return Redemption.REPEAT if issued.site in (None, site) else Redemption.ELSEWHERE
    if token.expires_at <= now:
        raise InvalidGrant("the refresh token has expired; log in again")
    return Redemption.KEEP if _is_paced(token.paced_until, now, skew) else Redemption.ROTATE


def _is_recent(by_database: timedelta | None, by_nodes: timedelta, skew: timedelta) -> bool:
    """Return whether a token was used within the grace.

    Clocks of nodes differ, and are set back and forth; the clock of the database is one for all of them. It is not
    known after a move to another database, and on SQLite it starts anew with the machine.
    """
    if by_database is None or by_database < -skew:
        return -skew <= by_nodes <= REFRESH_GRACE
    return by_database <= REFRESH_GRACE and by_nodes <= REFRESH_GRACE + skew


def _is_paced(paced_until: datetime | None, now: datetime, skew: timedelta) -> bool:
    """Return whether a session must not rotate yet; an instant too far ahead comes from a clock that was wrong."""
    if paced_until is None:
        return False
    ahead, most = paced_until - now, ROTATION_BURST * ROTATION_INTERVAL
    return most - ROTATION_INTERVAL < ahead <= most + skew


def _paced_until(before: RefreshToken | None, now: datetime) -> datetime | None:
    if before is None:  # a log-in is not a rotation
        return None
    most = now + (ROTATION_BURST - 1) * ROTATION_INTERVAL
    paid = before.paced_until
    return (paid if paid and now < paid <= most else now) + ROTATION_INTERVAL


def new_refresh_token(family_id: str) -> str:
    """Return the first refresh token of a session: a proof of 128 and a secret of 256 random bits."""
    return _composed(family_id, secrets.token_bytes(_PROOF_BYTES), secrets.token_bytes(32))


def session_and_proof(token: str) -> tuple[str, bytes] | None:
    """Return the id of the session that `token` claims to belong to, and the digest of its proof; None without one.

    Nobody knows the proof but the holder of a token of this session: the id is in access tokens, the proof is not.
    """
    decoded = _decoded(token)
    if decoded is None:
        return None
    family, proof = decoded
    return str(family), hashlib.sha256(proof).digest()


def successor(token: str, seed: bytes, family_id: str) -> str:
    """Return the token after `token`: a keyed hash under the token itself, so only its holder can compute it.

    A lost response can thus be answered again, while nothing usable is stored.
    """
    return _composed(family_id, _proof(token), _mac(token, seed))


def stored(
    token: str,
    family: Family,
    now: datetime,
    idle: timedelta,
    site: str | None = None,
    before: RefreshToken | None = None,
) -> RefreshToken:
    """Return the record to keep of a `token` newly issued to `site`; it never outlives its session."""
    return RefreshToken(
        refresh_token_digest(token),
        family.id,
        min(now + idle, family.expires_at),
        secrets.token_bytes(32),
        hashlib.sha256(_proof(token)).digest(),
        site=site,
        paced_until=_paced_until(before, now),
    )


def _mac(token: str, message: bytes) -> bytes:
    return hmac.digest(token.encode("utf-8", "surrogatepass"), message, "sha256")


def _proof(token: str) -> bytes:
    """Return the proof in a token of this issuer; raise ValueError for any other text."""
    decoded = _decoded(token)
    if decoded is None:
        raise ValueError("not in the form of a refresh token")
    return decoded[1]


def _composed(family_id: str, proof: bytes, secret: bytes) -> str:
    return base64.urlsafe_b64encode(secret + proof + uuid.UUID(family_id).bytes).rstrip(b"=").decode()


def _decoded(token: str) -> tuple[uuid.UUID, bytes] | None:
    """Return session and proof of a token in the form that `_composed` writes, and in no other spelling."""
    if len(token) != _TOKEN_CHARACTERS:
        return None
    try:
        raw = base64.b64decode(token + "==", altchars=b"-_", validate=True)
    except ValueError:
        return None
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != token:
        return None
    return uuid.UUID(bytes=raw[48:]), raw[32:48]


class Replayed(InvalidGrant):
    """A used refresh token was presented again, after its grace or from another site: its session ends."""

    def __init__(self, description: str, family: Family, *, elsewhere: bool = False) -> None:
        super().__init__(description)
        self.family = family
        self.elsewhere = elsewhere
        """Whether it came within its grace, from another site."""


class RepeatRefused(InvalidGrant):
    """A used refresh token came within its grace, but has yielded its successor a second time already."""

    def __init__(self) -> None:
        super().__init__("the refresh token was used, and its successor given twice; use the successor")


class AccountChanged(LoginFailed):
    """The account is not as it was when its password was verified; the pipeline asks the grant once more."""
