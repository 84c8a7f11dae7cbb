"""Access tokens as credentials for the issuer's own endpoints, RFC 6750: the user and session of a caller.

Tokens are verified by `access_tokens`.
"""

from dataclasses import dataclass
from datetime import datetime

from issuer.accounts.store import AccountStore
from issuer.accounts.user import User
from issuer.clients.client import FIRST_PARTY_ID
from issuer.clients.store import ClientStore
from issuer.oauth import InvalidToken
from issuer.tokens.access_tokens import AccessTokens
from issuer.tokens.family_store import FamilyStore
from issuer.tokens.refresh import Family


@dataclass(frozen=True)
class Caller:
    """A user, and the session and scope of the request's token."""

    user: User
    family: Family
    scope: frozenset[str]

    @property
    def session(self) -> str:
        """The id of the session."""
        return self.family.id


class BearerAuthentication:
    """Turns an access token whose `aud` holds the issuer's own URL into its user."""

    def __init__(
        self,
        accounts: AccountStore,
        families: FamilyStore,
        access_tokens: AccessTokens,
        clients: ClientStore,
    ) -> None:
        self._accounts = accounts
        self._families = families
        self._access_tokens = access_tokens
        self._clients = clients

    def caller(self, token: str, now: datetime) -> Caller:
        """Return the user and session of `token`; raise InvalidToken, with one text for every reason but its age.

        Other services accept a token until it expires; here it ends with its session.
        """
        claims = self._access_tokens.verify(token, now, for_issuer=True)
        family = self._families.find_active(claims.grant_id, now) if claims.grant_id else None
        user = self._accounts.by_id(claims.sub) if family else None
        if family is None or user is None or user.disabled_at:
            raise InvalidToken
        return Caller(user, family, frozenset(claims.scope.split()))

    def owner(self, token: str, now: datetime) -> Caller:
        """Return the same for a token that may manage the account of its user; raise InvalidToken.

        That is one of `/login` or of a trusted client. No scope that users allow other applications lets these list
        or end sessions.
        """
        caller = self.caller(token, now)
        client = self._clients.find_enabled(caller.family.client_id)
        if client is None or not (client.is_trusted or client.id == FIRST_PARTY_ID):
            raise InvalidToken("the access token is of an application, which must not manage the account")
        return caller
