"""The rules of refresh tokens and their families, as pure functions: rotation, repeats and reuse.

The form of the tokens is defined in `refresh_text`. Families are stored by `family_store`; users see them
as sessions.
"""

import hashlib
import secrets
import uuid
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from issuer.accounts.user import VerifiedPassword
from issuer.digests import digest
from issuer.oauth import InvalidGrant
from issuer.sessions.session import SignIn
from issuer.tokens.refresh_text import proof_of

ROTATION_BURST = 10
ROTATION_INTERVAL = timedelta(seconds=5)
"""A family rotates `ROTATION_BURST` times in quick succession, and then once in this time.

In between its newest refresh token stays valid: each rotation is a durable write, and one client must not cause
hundreds of them a second.
"""


@dataclass(frozen=True)
class Grace:
    """How long a used refresh token is answered with its successor again: for a second tab or a lost response."""

    period: timedelta = timedelta(0)
    skew: timedelta = timedelta(0)
    """How far the clocks of nodes may differ."""

    @property
    def kept(self) -> timedelta:
        """How long a used token is stored: as long as any node may answer it, and a minute for slow requests."""
        return self.period + self.skew + timedelta(minutes=1)


@dataclass(frozen=True)
class Family:
    """All refresh tokens that descend from one log-in. They end together."""

    id: str
    user_id: str
    client_id: str
    scope: frozenset[str]
    audience: tuple[str, ...]
    created_at: datetime
    expires_at: datetime
    """The absolute end; the idle limit is the lifetime of each token."""
    ended_at: datetime | None = None
    user_agent: str = ""
    address: str = ""
    browser_session: str | None = None
    """The browser session that it ends with; None: it outlives it, or was started without one."""
    sid: str | None = None
    """The id of the browser session for this client, OpenID Connect Back-Channel Logout section 2.1."""
    auth_time: datetime | None = None
    """When the user was authenticated in a browser; None: for a family that was started without one."""
    acr: str | None = None
    amr: tuple[str, ...] | None = None
    userinfo_claims: tuple[str, ...] = ()
    """Claims that were requested from the userinfo endpoint by name, OpenID Connect Core section 5.5."""

    @property
    def sign_in(self) -> SignIn | None:
        """The sign-in with a browser that started it, or None."""
        if self.auth_time is None or self.sid is None or self.acr is None or self.amr is None:
            return None
        end, names = self.expires_at, self.userinfo_claims
        return SignIn(self.browser_session, self.sid, self.auth_time, self.acr, self.amr, end, names)


@dataclass(frozen=True)
class RefreshToken:
    """What is stored of a refresh token; the token itself is not."""

    digest: bytes = field(repr=False)
    family_id: str
    expires_at: datetime
    successor_seed: bytes = field(repr=False)
    """Computes the successor together with the token; useless alone."""
    proof_digest: bytes = field(repr=False)
    """SHA-256 of the session's proof."""
    used_at: datetime | None = None
    subnet: str | None = None
    """The network that the token was issued to; None: unknown."""
    paced_until: datetime | None = None
    """When the rotations so far would be done at a pace of one for each `ROTATION_INTERVAL`."""
    superseded: bool = False
    """No longer stored: it was recognised by the proof of its family, and is not among the latest tokens."""


@dataclass(frozen=True)
class Issued:
    """What is stored of the successor of a used token: when it was issued, and to which subnet."""

    subnet: str | None
    age: timedelta | None
    """By the clock of the database; None: unknown."""


@dataclass(frozen=True)
class NewFamily:
    """Start a family for the user of the authorization, who must exist and not be disabled."""

    password: VerifiedPassword | None = None
    """For a log-in by password: the family starts only while its hash is still the user's."""
    sign_in: SignIn | None = None
    """For a sign-in with a browser."""
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(frozen=True)
class Renewal:
    """What a presented refresh token leads to, and what that needs."""

    presented: str = field(repr=False)
    token: RefreshToken
    family: Family
    redemption: "Redemption"
    following: str | None = field(default=None, repr=False)
    """The successor that a repeat is answered with."""


@dataclass(frozen=True)
class RefreshRotation:
    """A decided rotation: mark `used` as used and store its `successor`, unless it was used meanwhile."""

    used: RefreshToken
    successor: RefreshToken
    now: datetime
    forget_before: datetime
    """Tokens of the family that were used before are deleted; they are recognised by their proof."""


@dataclass(frozen=True)
class Renewed:
    """The refresh token that a renewal is answered with."""

    token: str = field(repr=False)
    is_repeat: bool = False
    """Whether it was given before."""
    rotation: RefreshRotation | None = field(default=None, repr=False)
    """What has to be stored before the token is valid; None: nothing."""


class Redemption(StrEnum):
    """What presenting a refresh token leads to."""

    ROTATE = "rotate"
    KEEP = "keep"
    """The newest token, after many rotations in a short time: it stays valid and is not replaced."""
    REPEAT = "repeat"
    """Used within the grace period, from the same subnet: the same successor again."""
    REUSE = "reuse"
    """Used before that: perhaps stolen. The family ends."""
    REUSE_FROM_OTHER_ADDRESS = "reuse_from_other_address"
    """Used within the grace period, but presented from another subnet. The family ends."""


def signed_in(family: Family, sign_in: SignIn) -> Family:
    """Return a new family that was started by a sign-in with a browser."""
    return replace(
        family,
        browser_session=sign_in.browser_session,
        sid=sign_in.sid,
        auth_time=sign_in.auth_time,
        acr=sign_in.acr,
        amr=sign_in.amr,
        expires_at=min(family.expires_at, sign_in.expires_at or family.expires_at),
        userinfo_claims=sign_in.userinfo_claims,
    )


def redemption(
    token: RefreshToken, family: Family, issued: Issued | None, subnet: str, now: datetime, grace: Grace
) -> Redemption:
    """Decide what presenting `token` from `subnet` leads to, RFC 9700 section 4.14.2.

    For a used token, `issued` is its successor. Raise InvalidGrant for an expired token or an ended family.
    """
    if family.ended_at is not None or family.expires_at <= now:
        raise InvalidGrant("the session has ended; log in again")
    if token.used_at is not None or token.superseded:
        if token.used_at is None or issued is None or not _is_recent(issued.age, now - token.used_at, grace):
            return Redemption.REUSE
        return Redemption.REPEAT if issued.subnet in (None, subnet) else Redemption.REUSE_FROM_OTHER_ADDRESS
    if token.expires_at <= now:
        raise InvalidGrant("the refresh token has expired; log in again")
    return Redemption.KEEP if _is_paced(token.paced_until, now, grace.skew) else Redemption.ROTATE


def _is_recent(by_database: timedelta | None, by_nodes: timedelta, grace: Grace) -> bool:
    """Return whether a token was used within the grace period.

    Clocks of nodes differ, and are set back and forth; the clock of the database is one for all of them. It is not
    known after a move to another database, and on SQLite it starts anew with the machine.
    """
    if by_database is None or by_database < -grace.skew:
        return -grace.skew <= by_nodes <= grace.period
    return by_database <= grace.period and by_nodes <= grace.period + grace.skew


def _is_paced(paced_until: datetime | None, now: datetime, skew: timedelta) -> bool:
    """Return whether a family must not rotate yet; an instant too far ahead is from a wrong clock and ignored."""
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


def stored(
    token: str,
    family: Family,
    now: datetime,
    idle: timedelta,
    subnet: str | None = None,
    before: RefreshToken | None = None,
) -> RefreshToken:
    """Return the record of a `token` newly issued to `subnet`; it expires no later than its family."""
    return RefreshToken(
        digest(token),
        family.id,
        min(now + idle, family.expires_at),
        secrets.token_bytes(32),
        hashlib.sha256(proof_of(token)).digest(),
        subnet=subnet,
        paced_until=_paced_until(before, now),
    )


class ReuseDetected(InvalidGrant):
    """A used refresh token was presented again, after its grace period or from another subnet: its family ends."""

    def __init__(self, family: Family, *, from_other_address: bool = False) -> None:
        super().__init__()
        self.family = family
        self.from_other_address = from_other_address
        """Whether that was within its grace period, from another subnet."""


class RepeatRefused(InvalidGrant):
    """A used refresh token was presented within its grace period, but its successor was repeated already."""

    description = "the refresh token was used, and its successor was returned twice; use the successor"
