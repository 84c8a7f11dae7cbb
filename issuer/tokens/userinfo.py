"""The userinfo endpoint's claims, OpenID Connect Core section 5.3: which claims about its user a token releases.

Tokens are verified by `bearer`; which scope requests which claims is defined in `identity`.
"""

from collections.abc import Mapping
from datetime import datetime

from issuer.clients.store import ClientStore
from issuer.oauth import InsufficientScope, InvalidToken
from issuer.tokens.bearer import BearerAuthentication
from issuer.tokens.entitlements import may_keep
from issuer.tokens.identity import IdentityScope, released_claims


class UserInfo:
    """Returns claims about users to clients."""

    def __init__(self, bearer: BearerAuthentication, clients: ClientStore) -> None:
        self._bearer = bearer
        self._clients = clients

    def claims(self, token: str, now: datetime) -> Mapping[str, str | bool | int]:
        """Return the claims that the user released to the client of `token`: at least `sub`, and none that is empty.

        Raise InvalidToken, also if the session, the account or the client has ended, or InsufficientScope.
        """
        caller = self._bearer.caller(token, now)
        client = self._clients.find_enabled(caller.family.client_id)
        if client is None or not may_keep(client, caller.family):
            raise InvalidToken
        if IdentityScope.OPENID not in caller.scope:
            raise InsufficientScope
        return released_claims(caller.user, caller.scope, caller.family.userinfo_claims)
