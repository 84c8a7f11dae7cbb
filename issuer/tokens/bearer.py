"""Access tokens presented to the issuer itself, RFC 6750: who is calling its own account endpoints.

How tokens are recognised is defined in `minting`.
"""

from dataclasses import dataclass
from datetime import datetime

from issuer.accounts.store import AccountStore
from issuer.accounts.user import User
from issuer.oauth import InvalidToken
from issuer.tokens.access_tokens import NOT_VALID, Mint
from issuer.tokens.family_store import FamilyStore


@dataclass(frozen=True)
class Caller:
    """A user, and the session that the request's token belongs to."""

    user: User
    session: str


class BearerAuthentication:
    """Turns an access token whose `aud` holds the issuer's own URL into its user."""

    def __init__(self, accounts: AccountStore, families: FamilyStore, mint: Mint) -> None:
        self._accounts = accounts
        self._families = families
        self._mint = mint

    def caller(self, token: str, now: datetime) -> Caller:
        """Return who `token` speaks for; raise InvalidToken, one text for every fault but age.

        Other services accept a token until it expires; here it ends with its session.
        """
        claims = self._mint.claims(token, now, for_issuer=True)
        session = claims.get("grant_id")
        user = self._accounts.by_id(str(claims["sub"])) if isinstance(session, str) else None
        if user is None or user.disabled_at is not None or not self._families.is_living(str(session), now):
            raise InvalidToken(NOT_VALID)
        return Caller(user, str(session))
