"""The one way to a token: authenticate the client, ask the guard, then the grant, narrow, keep the session, sign.

A check that no grant may forget lives here; the grants are the sibling modules.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from issuer.accounts.user import account_name
from issuer.clients.authentication import ClientAuthentication
from issuer.clients.client import FIRST_PARTY, Client
from issuer.grants import client_credentials, password, refresh_token
from issuer.grants.context import Grant, Means, TokenRequest
from issuer.keyring.key import Key
from issuer.oauth import (
    AccessDenied,
    GrantType,
    InvalidGrant,
    InvalidRequest,
    InvalidScope,
    LoginFailed,
    OAuthRequest,
    UnauthorizedClient,
    UnsupportedGrantType,
    format_scope,
    parse_scope,
)
from issuer.throttling.guard import Guard
from issuer.throttling.limits import networks_of
from issuer.throttling.origin import Origin
from issuer.tokens.access_tokens import Mint
from issuer.tokens.authorization import Authorization
from issuer.tokens.families import Sessions
from issuer.tokens.refresh import AccountChanged, NewFamily, Renewal, Replayed

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


@dataclass(frozen=True)
class Admitted:
    """A request that may be granted: its client is authenticated, and nothing but the grant itself can refuse it."""

    grant_type: GrantType
    request: TokenRequest
    resources: tuple[str, ...]

    @property
    def place(self) -> tuple[str, ...]:
        """Where it queues for a thread that hashes: networks take turns, and in each of them accounts."""
        return *networks_of(self.request.origin.address), account_name(self.request.require("username"))


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

    def admit(self, form: OAuthRequest, origin: Origin, now: datetime) -> Admitted:
        """Return a request to the token endpoint that may be granted; raise OAuthError.

        All that can be refused without hashing is refused here, and answered alike whether the password is right.
        """
        name = form.parameters.get("grant_type")
        if not name:
            raise InvalidRequest("the parameter grant_type is missing")
        if name not in self.grants:
            raise UnsupportedGrantType(f"supported grants are {', '.join(sorted(self.grants))}")
        grant_type = GrantType(name)
        if grant_type is GrantType.PASSWORD and "client_assertion" in form.parameters:
            # Only the first-party client may use it, which has no keys: none are fetched to find that out.
            raise UnauthorizedClient(f"a client that signs assertions may not use the grant {grant_type}")
        client = self._authentication.client(form, origin, now)
        return self._admit(client, grant_type, form, origin, now)

    def grant(self, form: OAuthRequest, origin: Origin, now: datetime) -> Granted:
        """Answer a request to the token endpoint, RFC 6749 section 3.2, but for the signature; raise OAuthError.

        That takes long and needs no database: `sign` does it.
        """
        return self.grant_admitted(self.admit(form, origin, now), now)

    def grant_admitted(self, admitted: Admitted, now: datetime) -> Granted:
        """Answer a request to the token endpoint that was admitted, perhaps a while ago; raise OAuthError."""
        try:
            return self._grant(admitted, now)
        except LoginFailed as error:  # to a client it is invalid_grant with 400, section 5.2
            raise InvalidGrant(error.description) from None

    def admit_login(self, parameters: Mapping[str, str], origin: Origin, now: datetime) -> Admitted:
        """Return a first-party log-in that may be granted, as `admit` does."""
        if GrantType.PASSWORD not in self.grants:
            raise AccessDenied("log-in by password is switched off here")
        return self._admit(FIRST_PARTY, GrantType.PASSWORD, OAuthRequest(parameters), origin, now)

    def login(self, parameters: Mapping[str, str], origin: Origin, now: datetime) -> TokenResponse:
        """Answer a first-party log-in: the grant `password` for the built-in client."""
        return self.login_admitted(self.admit_login(parameters, origin, now), now)

    def login_admitted(self, admitted: Admitted, now: datetime) -> TokenResponse:
        """Answer a first-party log-in that was admitted, perhaps a while ago; raise OAuthError."""
        return self.sign(self._grant(admitted, now))

    def sign(self, granted: Granted) -> TokenResponse:
        """Sign the access token; raise Unavailable if this node cannot any more."""
        token = self._mint.sign(granted.authorization, granted.session, granted.key, granted.now)
        scope = format_scope(granted.authorization.scope)
        refreshed, is_repeat = granted.refresh_token, granted.is_repeat
        return TokenResponse(token.text, token.expires_in, scope, granted.key.kid, refreshed, is_repeat)

    def _admit(
        self, client: Client, grant_type: GrantType, form: OAuthRequest, origin: Origin, now: datetime
    ) -> Admitted:
        client.require_grant(grant_type)
        scope = _asked(form.parameters.get("scope"))
        request = TokenRequest(client, form.parameters, scope, now, origin)
        if grant_type is GrantType.PASSWORD:
            username, _ = request.require("username"), request.require("password")
            client.audience_for(form.resources, self._means.user_audience)
            self._mint.key(now)
            self._guard.admit(account_name(username), origin, now)
        return Admitted(grant_type, request, form.resources)

    def _grant(self, admitted: Admitted, now: datetime) -> Granted:
        admitted = replace(admitted, request=replace(admitted.request, now=now))
        origin = admitted.request.origin
        if admitted.grant_type is not GrantType.PASSWORD:
            with self._guard.prove(origin, now):
                return self._decide(admitted)
        key = self._mint.key(now)
        account = account_name(admitted.request.require("username"))
        with self._guard.log_in(account, origin, now) as may_succeed:
            try:
                return self._decide(admitted, key, may_succeed=may_succeed)
            except AccountChanged:  # perhaps another log-in brought a better hash of the same password
                return self._decide(admitted, key, may_succeed=may_succeed)

    def _decide(self, admitted: Admitted, key: Key | None = None, *, may_succeed: bool = True) -> Granted:
        try:
            return self._granted(admitted, key, may_succeed=may_succeed)
        except Replayed as replay:
            self._sessions.replayed(replay, admitted.request.now)
            raise

    def _granted(self, admitted: Admitted, key: Key | None, *, may_succeed: bool) -> Granted:
        request = admitted.request
        origin, now = request.origin, request.now
        asked = replace(request, may_succeed=may_succeed)
        most = self.grants[admitted.grant_type](asked, self._means)
        if not may_succeed:
            raise LoginFailed
        audience = request.client.audience_for(admitted.resources, most.audience)
        scope = _narrowed(request.scope, most.scope, may_be_none=admitted.grant_type is GrantType.PASSWORD)
        authorization = replace(most, scope=scope, audience=audience)
        # Before the family changes: a node that cannot sign uses up no token.
        key = key or self._mint.key(now)
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


def _narrowed(asked: frozenset[str] | None, granted: frozenset[str], *, may_be_none: bool) -> frozenset[str]:
    """Return what was asked for within what was granted, RFC 6749 section 3.3; InvalidScope for nothing.

    Unless that `may_be_none`: an error after a password was verified would tell that it is right, without a session
    that its owner can see.
    """
    if asked is None:
        return granted
    if not asked & granted and not may_be_none:
        raise InvalidScope("nothing of the requested scope was granted")
    return asked & granted
