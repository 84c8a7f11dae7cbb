"""Revocation, RFC 7009, of a refresh token or of an access token of a session."""

from collections.abc import Mapping
from datetime import datetime

from issuer.audit.event import by_client
from issuer.clients.client import Client
from issuer.digests import digest
from issuer.oauth import AuthMethod, InvalidRequest, InvalidToken, UnauthorizedClient, UnsupportedTokenType
from issuer.tokens.access_tokens import AccessTokens
from issuer.tokens.family_store import FamilyStore


class Revocation:
    """Ends the session of a token; a token that is not valid is no error (section 2.2)."""

    def __init__(self, families: FamilyStore, access_tokens: AccessTokens) -> None:
        self._families = families
        self._access_tokens = access_tokens

    def revoke(self, client: Client, parameters: Mapping[str, str], now: datetime) -> None:
        """Revoke the parameter `token`; raise UnauthorizedClient for a token of another client.

        `token_type_hint` is ignored, as section 2.1 allows. Other services accept an access token until it expires.
        Raise UnsupportedTokenType for one without a session, and for one that a public client sends and that is not
        for this issuer: anyone can name a public client, so a service could log out its users with the tokens that it
        receives.
        """
        token = parameters.get("token")
        if not token:
            raise InvalidRequest("the parameter token is missing")
        found = self._families.find(digest(token)) or self._families.find_superseded(token)
        if found is not None:
            self._end(client, found.family.client_id, found.family.id, now)
            return
        try:
            claims = self._access_tokens.verify(token, now)
        except InvalidToken:
            return
        if client.auth_method is AuthMethod.NONE and not claims.is_for_issuer:
            raise UnsupportedTokenType("this access token is for other services; revoke the refresh token")
        self._end(client, claims.client_id, claims.grant_id, now)

    def _end(self, client: Client, client_id: str, session: str | None, now: datetime) -> None:
        if client_id != client.id:
            raise UnauthorizedClient("the token was issued to another client")
        if session is None:
            raise UnsupportedTokenType
        self._families.end(session, now, actor=by_client(client.id))
