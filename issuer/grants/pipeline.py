"""The one way to a token: authenticate the client, ask the grant, narrow, keep the session, sign.

A check that no grant may forget lives here; the grants are the files beside this one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from issuer.clients import FIRST_PARTY, Client
from issuer.grants import client_credentials, password, refresh_token
from issuer.grants.authentication import ClientAuthentication
from issuer.grants.guard import Guard
from issuer.grants.means import AccountChanged, Grant, Means, Origin, Replayed, TokenRequest
from issuer.grants.minting import Mint
from issuer.grants.sessions import Sessions
from issuer.oauth import (
    AccessDenied,
    GrantType,
    InvalidGrant,
    InvalidRequest,
    InvalidScope,
    LoginFailed,
    UnsupportedGrantType,
    format_scope,
    parse_scope,
)
from issuer.tokens import NewFamily, Renewal

GRANTS: Mapping[GrantType, Grant] = {
    GrantType.CLIENT_CREDENTIALS: client_credentials.grant,
    GrantType.PASSWORD: password.grant,
    GrantType.REFRESH_TOKEN: refresh_token.grant,
}


@dataclass(frozen=True)
class TokenResponse:
    """A successful answer, RFC 6749 section 5.1."""

    access_token: str = field(repr=False)
    expires_in: int
    scope: str
    kid: str
    """The key that signed the access token."""
    refresh_token: str | None = field(default=None, repr=False)


class Pipeline:
    """Answers token requests; every method runs synchronously, and may be called from any thread."""

    def __init__(
        self,
        *,
        means: Means,
        authentication: ClientAuthentication,
        guard: Guard,
        sessions: Sessions,
        mint: Mint,
        password_login: bool,
    ) -> None:
        self._means = means
        self._authentication = authentication
        self._guard = guard
        self._sessions = sessions
        self._mint = mint
        off = set() if password_login else {GrantType.PASSWORD}
        self.grants = {name: grant for name, grant in GRANTS.items() if name not in off}

    def token(
        self,
        parameters: Mapping[str, str],
        resources: tuple[str, ...],
        authorization: str | None,
        origin: Origin,
        now: datetime,
    ) -> TokenResponse:
        """Answer a request to the token endpoint, RFC 6749 section 3.2; raise OAuthError otherwise."""
        name = parameters.get("grant_type")
        if not name:
            raise InvalidRequest("the parameter grant_type is missing")
        if name not in self.grants:
            raise UnsupportedGrantType(f"the grants here are {', '.join(sorted(self.grants))}")
        client = self._authentication.client(parameters, authorization, origin, now)
        try:
            return self._answer(client, GrantType(name), parameters, resources, origin, now)
        except LoginFailed as error:  # to a client it is invalid_grant with 400, section 5.2
            raise InvalidGrant(error.description) from None

    def login(self, parameters: Mapping[str, str], origin: Origin, now: datetime) -> TokenResponse:
        """Answer a first-party log-in: the grant `password` for the built-in client."""
        if GrantType.PASSWORD not in self.grants:
            raise AccessDenied("log-in by password is switched off here")
        return self._answer(FIRST_PARTY, GrantType.PASSWORD, parameters, (), origin, now)

    def _answer(
        self,
        client: Client,
        name: GrantType,
        parameters: Mapping[str, str],
        resources: tuple[str, ...],
        origin: Origin,
        now: datetime,
    ) -> TokenResponse:
        client.require_grant(name)
        asked = parse_scope(parameters["scope"]) if parameters.get("scope") else None
        request = TokenRequest(client, parameters, asked, now)
        if name is not GrantType.PASSWORD:
            with self._guard.prove(origin, now):
                return self._respond(name, request, resources, origin)
        username, _ = request.require("username"), request.require("password")
        with self._guard.log_in(username, origin, now):
            try:
                return self._respond(name, request, resources, origin)
            except AccountChanged:  # perhaps another log-in brought a better hash of the same password
                return self._respond(name, request, resources, origin)

    def _respond(
        self, name: GrantType, request: TokenRequest, resources: tuple[str, ...], origin: Origin
    ) -> TokenResponse:
        now = request.now
        try:
            most = self.grants[name](request, self._means)
        except Replayed as replay:
            self._sessions.replayed(replay, now)
            raise
        audience = request.client.audience_for(resources, most.audience)
        authorization = replace(most, scope=_narrowed(request.scope, most.scope), audience=audience)
        key = self._mint.key(now)  # before the family changes: a node that cannot sign uses up no token
        refresh_token, session = None, None
        match most.family:
            case NewFamily() as new:
                granted = replace(authorization, audience=most.audience)
                refresh_token, session = self._sessions.start(new, granted, origin, now)
            case Renewal() as renewal:
                refresh_token, session = self._sessions.renew(renewal, now), renewal.family.id
        token = self._mint.sign(authorization, session, key, now)
        scope = format_scope(authorization.scope)
        return TokenResponse(token.text, token.expires_in, scope, key.kid, refresh_token)


def _narrowed(asked: frozenset[str] | None, granted: frozenset[str]) -> frozenset[str]:
    """Return what was asked for within what was granted, RFC 6749 section 3.3; InvalidScope for nothing."""
    if asked is None:
        return granted
    if not asked & granted:
        raise InvalidScope("nothing of the scope asked for was granted")
    return asked & granted
