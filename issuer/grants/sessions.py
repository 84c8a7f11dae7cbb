"""Sessions: families of refresh tokens, started, renewed and ended; a replay ends one, and is told to operators.

What presenting a token leads to is decided in `tokens`; single use is the store's.
"""

import uuid
from datetime import datetime, timedelta

import structlog

from issuer.audit import Action, Entry
from issuer.grants.means import AccountChanged, Origin, Replayed
from issuer.oauth import InvalidGrant
from issuer.store.families import FamilyStore
from issuer.tokens import (
    Authorization,
    Family,
    NewFamily,
    Redemption,
    Renewal,
    new_refresh_token,
    redemption,
    refresh_token_digest,
    stored,
    successor,
)

FAMILY_IDLE_LIFETIMES = 12
"""A family ends for good after this many lifetimes of an unused refresh token."""

log = structlog.get_logger("issuer.sessions")


class Sessions:
    """Starts, renews and ends families."""

    def __init__(self, families: FamilyStore, idle_lifetime: timedelta, actor: str) -> None:
        self._families = families
        self._idle_lifetime = idle_lifetime
        self._actor = actor

    def start(
        self, new: NewFamily, authorization: Authorization, origin: Origin, now: datetime
    ) -> tuple[str, str]:
        """Start a family; return its first refresh token and its id. AccountChanged if it is too late."""
        token = new_refresh_token()
        family = Family(
            id=str(uuid.uuid4()),
            user_id=authorization.subject,
            client_id=authorization.client_id,
            scope=authorization.scope,
            audience=authorization.audience,
            created_at=now,
            expires_at=now + FAMILY_IDLE_LIFETIMES * self._idle_lifetime,
            user_agent=origin.user_agent,
            address=origin.address,
        )
        if not self._families.start(family, stored(token, family, now, self._idle_lifetime), new):
            raise AccountChanged
        return token, family.id

    def renew(self, renewal: Renewal, now: datetime) -> str:
        """Return the successor of the presented token, however many ask for it at once."""
        token = successor(renewal.presented, renewal.token.successor_seed)
        record = stored(token, renewal.family, now, self._idle_lifetime)
        if renewal.repeat or self._families.rotate(renewal.token, record, now):
            return token
        # Another request was faster, or the family ended meanwhile: look again and decide again.
        again = self._families.find(refresh_token_digest(renewal.presented))
        if again is None or redemption(again.token, again.family, now) is not Redemption.REPEAT:
            raise InvalidGrant("the session has ended; log in again")
        return token

    def replayed(self, replay: Replayed, now: datetime) -> None:
        """End the family of a token that was used before: a copy of it is in other hands."""
        family = replay.family
        why = f"session {family.id} of user {family.user_id} with client {family.client_id}"
        self._families.end(family.id, now, Entry(now, self._actor, Action.REPLAYED, reason=why))
        log.warning("a used refresh token came again", session=family.id, user=family.user_id)
