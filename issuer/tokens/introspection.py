"""Introspection, RFC 7662: for services that cannot verify tokens, or have to know at once when one is revoked."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from issuer.accounts.store import AccountStore
from issuer.clients.client import Client
from issuer.clients.store import ClientStore
from issuer.digests import digest
from issuer.oauth import InvalidGrant, InvalidRequest, InvalidToken, format_scope
from issuer.tokens.access_tokens import AccessTokens
from issuer.tokens.claims import AccessTokenClaims
from issuer.tokens.family_store import FamilyStore
from issuer.tokens.identity import IDENTITY_SCOPES
from issuer.tokens.refresh import Grace, Redemption, redemption

INACTIVE: Mapping[str, Any] = {"active": False}
"""Section 2.2: nothing more, whatever the reason."""


class Introspection:
    """Decides whether a token is valid now."""

    def __init__(
        self, accounts: AccountStore, clients: ClientStore, families: FamilyStore, access_tokens: AccessTokens
    ) -> None:
        self._accounts = accounts
        self._clients = clients
        self._families = families
        self._access_tokens = access_tokens

    def introspect(self, client: Client, parameters: Mapping[str, str], now: datetime) -> Mapping[str, Any]:
        """Return the members of section 2.2 for the parameter `token`.

        Any client that authenticates may ask about an access token; about a refresh token, only the client that it
        was issued to.
        """
        token = parameters.get("token")
        if not token:
            raise InvalidRequest("the parameter token is missing")
        try:
            claims = self._access_tokens.verify(token, now)
        except InvalidToken:
            return self._refresh_token(client, token, now)
        if not self._is_active(claims, now):
            return INACTIVE
        members = {name: value for name, value in claims.members().items() if name != "grant_id"}
        return {"active": True, "token_type": "Bearer", **members}

    def _is_active(self, claims: AccessTokenClaims, now: datetime) -> bool:
        if self._clients.find_enabled(claims.client_id) is None:
            return False
        if claims.grant_id is None:
            return True
        return self._is_enabled(claims.sub) and self._families.is_active(claims.grant_id, now)

    def _is_enabled(self, user_id: str) -> bool:
        user = self._accounts.by_id(user_id)
        return user is not None and user.disabled_at is None

    def _refresh_token(self, client: Client, token: str, now: datetime) -> Mapping[str, Any]:
        found = self._families.find(digest(token))
        if found is None or found.family.client_id != client.id:
            return INACTIVE
        record, family, user = found
        try:
            outcome = redemption(record, family, None, "", now, Grace())
        except InvalidGrant:
            return INACTIVE
        active = outcome in (Redemption.ROTATE, Redemption.KEEP) and user.disabled_at is None
        if not active:
            return INACTIVE
        members = {
            "active": True,
            "client_id": family.client_id,
            "sub": family.user_id,
            "exp": int(record.expires_at.timestamp()),
        }
        scope = family.scope & (user.effective_scope | IDENTITY_SCOPES)  # what a refresh would return
        return {**members, "scope": format_scope(scope)} if scope else members
