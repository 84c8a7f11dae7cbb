"""Invitations: accounts without a password, whose users choose the first one with a link.

Links are made by `reset_links`, and bound to the hash of the password that they replace. So that each invitation
voids the one before, the hash is replaced: by another one of a password that nobody knows.
"""

import secrets
import uuid
from datetime import datetime

from issuer.accounts.passwords import Passwords
from issuer.accounts.profile import NO_PROFILE, Profile
from issuer.accounts.store import AccountStore
from issuer.accounts.user import User, require_username
from issuer.audit.event import ISSUER, Event, EventAction
from issuer.errors import Refused


class Invitations:
    """Makes accounts without a password."""

    def __init__(self, accounts: AccountStore, passwords: Passwords) -> None:
        self._accounts = accounts
        self._passwords = passwords

    def invite(
        self,
        username: str,
        now: datetime,
        scope: frozenset[str] = frozenset(),
        profile: Profile = NO_PROFILE,
        actor: str = ISSUER,
    ) -> User:
        """Make an account and return it, or one that was invited before, as it is: then older links are void.

        Raise InvalidRequest for a name that is not accepted; Refused for an account with a password, a disabled one,
        and for another scope or profile than the account has.
        """
        found = self._accounts.by_username(username)
        if found is not None:
            return self._again(found, now, scope, profile)
        user = User(
            id=str(uuid.uuid4()),
            username=require_username(username),
            password_hash=self._unknown_password(),
            scope=scope,
            created_at=now,
            invited_at=now,
            updated_at=now,
            **vars(profile),
        )
        self._accounts.add(user, Event(now, actor, EventAction.USER_CREATED, user.id, detail="invited"))
        return user

    def _again(self, user: User, now: datetime, scope: frozenset[str], profile: Profile) -> User:
        name = user.username
        if user.disabled_at is not None:
            raise Refused(f"{name} is disabled; see: issuer users enable {name}")
        if scope - user.scope or profile not in {
            NO_PROFILE,
            Profile(user.name, user.email, user.email_verified),
        }:
            raise Refused(
                f"{name} was invited before, with another scope or profile; see: issuer users grant, issuer users"
                " set-profile"
            )
        if user.invited_at is None or not self._accounts.invite_again(user, self._unknown_password(), now):
            raise Refused(f"{name} has an account with a password; see: issuer users reset-link {name}")
        again = self._accounts.by_id(user.id)
        if again is None:
            raise Refused(f"{name} was deleted meanwhile")
        return again

    def _unknown_password(self) -> str:
        """Return a hash that takes as long to verify as any, so that nothing tells this account from others."""
        return self._passwords.hash(secrets.token_urlsafe(32))
