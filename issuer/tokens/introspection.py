"""Introspection, RFC 7662: for services that cannot verify tokens, or have to know at once when one is revoked."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from issuer.accounts.store import AccountStore
from issuer.clients.client import Client
from issuer.clients.store import ClientStore
from issuer.digests import digest
from issuer.oauth import GrantType, InvalidGrant, InvalidRequest, InvalidToken, format_scope, parse_scope
from issuer.tokens.access_tokens import AccessTokens
from issuer.tokens.claims import AccessTokenClaims
from issuer.tokens.entitlements import Entitlements, may_keep
from issuer.tokens.family_store import FamilyStore
from issuer.tokens.identity import IDENTITY_SCOPES
from issuer.tokens.refresh import Grace, Redemption, redemption

INACTIVE: Mapping[str, Any] = {"active": False}
"""Section 2.2: nothing more, whatever the reason."""


class Introspection:
    """Decides whether a token is valid now."""

    def __init__(
        self,
        accounts: AccountStore,
        clients: ClientStore,
        families: FamilyStore,
        access_tokens: AccessTokens,
        entitlements: Entitlements,
    ) -> None:
        self._accounts = accounts
        self._clients = clients
        self._families = families
        self._access_tokens = access_tokens
        self._entitlements = entitlements

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
        client_now = self._clients.find_enabled(claims.client_id)
        if client_now is None or not self._is_active(client_now, claims, now):
            return INACTIVE
        # An operator may have narrowed the client since.
        scope = self._entitlements.scope(client_now, parse_scope(claims.scope))
        audience = self._entitlements.audience(client_now, claims.aud)
        if not audience:
            return INACTIVE
        claims = replace(claims, scope=format_scope(scope), aud=audience)
        members = {name: value for name, value in claims.members().items() if name != "grant_id"}
        return {"active": True, "token_type": "Bearer", **members}

    def _is_active(self, client: Client, claims: AccessTokenClaims, now: datetime) -> bool:
        if claims.grant_id is None:
            return GrantType.CLIENT_CREDENTIALS in client.grant_types
        family = self._families.find_active(claims.grant_id, now)
        return family is not None and may_keep(client, family) and self._is_enabled(claims.sub)

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
        may_refresh = GrantType.REFRESH_TOKEN in client.grant_types and may_keep(client, family)
        if not active or not may_refresh or not self._entitlements.audience(client, family.audience):
            return INACTIVE
        held = user.effective_scope | IDENTITY_SCOPES
        scope = self._entitlements.scope(client, family.scope) & held  # what a refresh would return
        members = {
            "active": True,
            "client_id": family.client_id,
            "sub": family.user_id,
            "exp": int(record.expires_at.timestamp()),
        }
        return {**members, "scope": format_scope(scope)} if scope else members
