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
from issuer.key import Key
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
from issuer.tokens import Authorization, NewFamily, Renewal

SCOPE_MOST_CHARACTERS = 4096

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
    is_repeat: bool = False
    """Whether a used refresh token was answered once more."""


@dataclass(frozen=True)
class Granted:
    """A request that was granted, with everything written down that there is to write; only the token is unsigned."""

    authorization: Authorization
    session: str | None
    key: Key
    now: datetime
    refresh_token: str | None = field(default=None, repr=False)
    is_repeat: bool = False


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

    def grant(
        self,
        parameters: Mapping[str, str],
        resources: tuple[str, ...],
        authorization: str | None,
        origin: Origin,
        now: datetime,
    ) -> Granted:
        """Answer a request to the token endpoint, RFC 6749 section 3.2, but for the signature; raise OAuthError.

        That takes long and needs no database: `sign` does it.
        """
        name = parameters.get("grant_type")
        if not name:
            raise InvalidRequest("the parameter grant_type is missing")
        if name not in self.grants:
            raise UnsupportedGrantType(f"the grants here are {', '.join(sorted(self.grants))}")
        client = self._authentication.client(parameters, authorization, origin, now)
        try:
            return self._grant(client, GrantType(name), parameters, resources, origin, now)
        except LoginFailed as error:  # to a client it is invalid_grant with 400, section 5.2
            raise InvalidGrant(error.description) from None

    def login(self, parameters: Mapping[str, str], origin: Origin, now: datetime) -> TokenResponse:
        """Answer a first-party log-in: the grant `password` for the built-in client."""
        if GrantType.PASSWORD not in self.grants:
            raise AccessDenied("log-in by password is switched off here")
        return self.sign(self._grant(FIRST_PARTY, GrantType.PASSWORD, parameters, (), origin, now))

    def sign(self, granted: Granted) -> TokenResponse:
        """Sign the access token; raise Unavailable if this node cannot any more."""
        token = self._mint.sign(granted.authorization, granted.session, granted.key, granted.now)
        scope = format_scope(granted.authorization.scope)
        refreshed, is_repeat = granted.refresh_token, granted.is_repeat
        return TokenResponse(token.text, token.expires_in, scope, granted.key.kid, refreshed, is_repeat)

    def _grant(
        self,
        client: Client,
        name: GrantType,
        parameters: Mapping[str, str],
        resources: tuple[str, ...],
        origin: Origin,
        now: datetime,
    ) -> Granted:
        client.require_grant(name)
        asked = _asked(parameters.get("scope"))
        request = TokenRequest(client, parameters, asked, now, origin)
        if name is not GrantType.PASSWORD:
            with self._guard.prove(origin, now):
                return self._decide(name, request, resources, origin)
        username, _ = request.require("username"), request.require("password")
        with self._guard.log_in(username, origin, now):
            try:
                return self._decide(name, request, resources, origin)
            except AccountChanged:  # perhaps another log-in brought a better hash of the same password
                return self._decide(name, request, resources, origin)

    def _decide(
        self, name: GrantType, request: TokenRequest, resources: tuple[str, ...], origin: Origin
    ) -> Granted:
        try:
            return self._granted(name, request, resources, origin)
        except Replayed as replay:
            self._sessions.replayed(replay, request.now)
            raise

    def _granted(
        self, name: GrantType, request: TokenRequest, resources: tuple[str, ...], origin: Origin
    ) -> Granted:
        now = request.now
        most = self.grants[name](request, self._means)
        audience = request.client.audience_for(resources, most.audience)
        authorization = replace(most, scope=_narrowed(request.scope, most.scope), audience=audience)
        key = self._mint.key(now)  # before the family changes: a node that cannot sign uses up no token
        refresh_token, session, is_repeat = None, None, False
        match most.family:
            case NewFamily() as new:
                granted = replace(authorization, audience=most.audience)
                refresh_token, session = self._sessions.start(new, granted, origin, now)
            case Renewal() as renewal:
                refresh_token, is_repeat = self._sessions.renew(renewal, origin, now)
                session = renewal.family.id
        return Granted(authorization, session, key, now, refresh_token, is_repeat)


def _asked(scope: str | None) -> frozenset[str] | None:
    """Return the scope asked for, None for none; raise InvalidScope for what is malformed or goes on for ever."""
    if not scope:
        return None
    if len(scope) > SCOPE_MOST_CHARACTERS:
        raise InvalidScope(f"scope has more than {SCOPE_MOST_CHARACTERS} characters")
    return parse_scope(scope)


def _narrowed(asked: frozenset[str] | None, granted: frozenset[str]) -> frozenset[str]:
    """Return what was asked for within what was granted, RFC 6749 section 3.3; InvalidScope for nothing."""
    if asked is None:
        return granted
    if not asked & granted:
        raise InvalidScope("nothing of the scope asked for was granted")
    return asked & granted
