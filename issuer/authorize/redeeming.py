"""Redeems authorization codes, RFC 6749 section 4.1.3: each once, by the client that it was issued for.

What a code is bound to is defined in `code`. The session that it starts is stored by the caller, in the transaction
in which the code is marked as used.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

import structlog

from issuer.accounts.user import User
from issuer.audit.event import Event, EventAction, by_client
from issuer.authorize.code import AuthorizationCode, is_attack
from issuer.authorize.code_store import CodeStore
from issuer.authorize.pkce import is_verified
from issuer.clients.client import Client
from issuer.clients.redirect_uris import is_registered
from issuer.oauth import InvalidGrant, UnknownToken

log = structlog.get_logger("issuer.sessions")

T = TypeVar("T")

_UNKNOWN = "the authorization code is unknown or of another client"
_USED = "the authorization code was used, and is valid once; or the user has signed out"


@dataclass(frozen=True)
class Presented:
    """What a client presents to redeem a code."""

    code: str = field(repr=False)
    client: Client
    redirect_uri: str | None
    """None: not sent, which the redirect URI of the code then stands for (OAuth 2.1 section 10.2)."""
    verifier: str | None = field(repr=False)


@dataclass(frozen=True)
class Prepared(Generic[T]):
    """The session that a code starts."""

    session_id: str
    start: Callable[[], T]
    """Stores the session, and returns the result of the redemption."""


class CodeRedemption:
    """Redeems codes."""

    def __init__(
        self,
        codes: CodeStore,
        find_user: Callable[[str], User | None],
        require_pkce: Callable[[str, Event], None],
        end_session: Callable[[str, datetime], bool],
    ) -> None:
        self._codes = codes
        self._find_user = find_user
        self._require_pkce = require_pkce
        self._end_session = end_session

    def redeem(
        self,
        presented: Presented,
        now: datetime,
        prepare: Callable[[AuthorizationCode, User], Prepared[T]],
    ) -> T:
        """Mark a code as used, and start what `prepare` returns.

        `prepare` is called before the transaction, as it may take long. Raise InvalidGrant; a refused attempt does
        not use up the code. What `start` raises undoes everything.
        """
        code = self._codes.find(presented.code)
        if code is None:
            raise UnknownToken(_UNKNOWN)
        client = presented.client
        verified = is_verified(code.challenge, presented.verifier)
        if code.used_at is not None:
            self._end_if_attack(code, client, now, is_verified=verified)
            raise InvalidGrant(_USED)
        _require_bound(code, presented, is_verified=verified)
        user = self._find_user(code.user_id)
        if now >= code.expires_at or user is None or user.disabled_at is not None:
            raise InvalidGrant(
                "the authorization code has expired; ask for a new one at the authorization endpoint"
            )
        prepared = prepare(code, user)
        with self._codes.redeeming():
            if not self._codes.use(code, now, prepared.session_id):
                raise InvalidGrant(_USED)
            result = prepared.start()
        if code.challenge is not None and not client.requires_pkce:
            changed = EventAction.CLIENT_CHANGED, None, client.id, "requires PKCE, which it has used"
            self._require_pkce(client.id, Event(now, by_client(client.id), *changed))
        return result

    def _end_if_attack(
        self, code: AuthorizationCode, client: Client, now: datetime, *, is_verified: bool
    ) -> None:
        if code.family_id is None or not is_attack(code, client.id, is_verified=is_verified, now=now):
            return
        if self._end_session(code.family_id, now):
            log.warning(
                "authorization code used again; the session was ended",
                session=code.family_id,
                user=code.user_id,
                client=client.id,
            )


def _require_bound(code: AuthorizationCode, presented: Presented, *, is_verified: bool) -> None:
    """Raise InvalidGrant unless a code was issued for this client and this request."""
    if presented.client.id != code.client_id:
        raise UnknownToken(_UNKNOWN)
    if code.challenge is None and presented.client.requires_pkce:
        raise InvalidGrant("this client must use PKCE: the authorization request had no code_challenge")
    if not is_registered(code.redirect_uri, presented.client.redirect_uris):
        raise InvalidGrant("the redirect URI that the code was sent to is not registered any more")
    if presented.redirect_uri not in {None, code.redirect_uri}:
        raise InvalidGrant("redirect_uri differs from that of the authorization request")
    if not is_verified:
        raise InvalidGrant("code_verifier does not belong to the code_challenge of the authorization request")
