"""Refresh families: started, renewed, and ended when a used token is reused; recorded for operators.

What presenting a token leads to is decided in `refresh`; `refresh_rotation` enforces single use.
"""

from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from issuer.accounts.login import AccountChanged
from issuer.audit.event import ISSUER
from issuer.digests import digest
from issuer.oauth import InvalidGrant
from issuer.throttling.limits import subnet
from issuer.throttling.origin import Origin
from issuer.tokens.authorization import Authorization
from issuer.tokens.event_store import SessionEventStore
from issuer.tokens.family_store import FamilyStore
from issuer.tokens.redemption import redeem
from issuer.tokens.refresh import (
    Family,
    Grace,
    NewFamily,
    Redemption,
    RefreshRotation,
    Renewal,
    Renewed,
    RepeatRefused,
    ReuseDetected,
    signed_in,
    stored,
)
from issuer.tokens.refresh_text import new_refresh_token, successor
from issuer.tokens.session_events import SessionEvent

FAMILY_IDLE_LIFETIMES = 12
"""A session ends for good after this many lifetimes of an unused refresh token."""

log = structlog.get_logger("issuer.sessions")


class Sessions:
    """Starts, renews and ends refresh families. Users and operators see a family as a session."""

    def __init__(
        self, families: FamilyStore, events: SessionEventStore, idle_lifetime: timedelta, grace: Grace
    ) -> None:
        self._families = families
        self._events = events
        self._idle_lifetime = idle_lifetime
        self._grace = grace

    def start(
        self, new: NewFamily, authorization: Authorization, origin: Origin, now: datetime
    ) -> tuple[Renewed, Family]:
        """Start a session; return its first refresh token and its family. Raise AccountChanged if the account did."""
        family = Family(
            id=new.id,
            user_id=authorization.subject,
            client_id=authorization.client_id,
            scope=authorization.scope,
            audience=authorization.audience,
            created_at=now,
            expires_at=now + FAMILY_IDLE_LIFETIMES * self._idle_lifetime,
            user_agent=origin.user_agent,
            address=origin.address,
        )
        if new.sign_in is not None:
            family = signed_in(family, new.sign_in)
        token = new_refresh_token(family.id)
        record = stored(token, family, now, self._idle_lifetime, subnet(origin.address))
        if not self._families.start(family, record, new.password):
            raise AccountChanged
        return Renewed(token), family

    def renew(self, renewal: Renewal, origin: Origin, now: datetime) -> Renewed:
        """Decide which refresh token to answer with: the successor, or the presented one if it must not rotate yet.

        Nothing is stored here: see `rotate` and `claim_repeat`.
        """
        if renewal.redemption is Redemption.ROTATE:
            token = successor(renewal.presented, renewal.token.successor_seed, renewal.family.id)
            here = subnet(origin.address)
            record = stored(token, renewal.family, now, self._idle_lifetime, here, renewal.token)
            return Renewed(
                token, rotation=RefreshRotation(renewal.token, record, now, now - self._grace.kept)
            )
        if renewal.following is None:
            return Renewed(renewal.presented)
        return Renewed(renewal.following, is_repeat=True)

    def claim_repeat(self, following: str, family: Family, now: datetime) -> None:
        """Record that the successor of a used token is returned again; raise RepeatRefused if it was already."""
        if not self._families.claim_repeat(digest(following), now):
            self._record(SessionEvent.REPEAT_REFUSED, family, now)
            raise RepeatRefused
        self._record(SessionEvent.REPEATED, family, now)

    def rotate(self, renewal: Renewal, renewed: Renewed, origin: Origin, now: datetime) -> Renewed:
        """Store the rotation of `renewed`, if it has one. If another request used the token first, this is a repeat.

        Raise ReuseDetected, or InvalidGrant if the session has ended.
        """
        if renewed.rotation is None or self._families.rotate(renewed.rotation):
            return replace(renewed, rotation=None)
        return self.renew(self._decided_again(renewal, subnet(origin.address), now), origin, now)

    def end_reused(self, reuse: ReuseDetected, now: datetime) -> None:
        """End the session of a used token: it may be in the hands of an attacker (RFC 9700 section 4.14.2)."""
        if self._families.end(reuse.family.id, now, actor=ISSUER):
            other = SessionEvent.REUSED_FROM_OTHER_ADDRESS
            self._record(other if reuse.from_other_address else SessionEvent.REUSED, reuse.family, now)

    def _decided_again(self, renewal: Renewal, here: str, now: datetime) -> Renewal:
        found = self._families.find(digest(renewal.presented))
        again = redeem(self._families, renewal.presented, found, here, now, self._grace) if found else None
        if again is None or again.redemption is not Redemption.REPEAT:
            raise InvalidGrant("the session has ended; log in again")
        return again

    def _record(self, event: SessionEvent, family: Family, now: datetime) -> None:
        """Record and log an event; log a failure to record it, without raising it."""
        try:
            self._events.record(event, family, now)
        except Exception:  # the request is answered in any case
            with suppress(Exception):
                log.exception("cannot record an event of a session", happened=event.value)
        with suppress(Exception):
            write = log.info if event is SessionEvent.REPEATED else log.warning
            write(_MESSAGES[event], session=family.id, user=family.user_id, client=family.client_id)


_MESSAGES = {
    SessionEvent.REPEATED: "refresh token repeated: answered once more",
    SessionEvent.REPEAT_REFUSED: "refresh token repeated too often: refused",
    SessionEvent.REUSED: "refresh token reuse detected; the session was ended",
    SessionEvent.REUSED_FROM_OTHER_ADDRESS: (
        "refresh token reuse detected from another address; the session was ended"
    ),
}
