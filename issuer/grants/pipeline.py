"""What all grants have in common: authenticate the client, check, execute, narrow, claims, keep the session, sign.

A check that no grant may forget belongs here. Each grant is a module of its own, listed in `registry`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from issuer.accounts.login import hashing_queue
from issuer.clients.authentication import ClientAuthentication
from issuer.clients.client import FIRST_PARTY, Client, audience_among
from issuer.grants.context import Grant, GrantContext, Issue, TokenRequest
from issuer.grants.registry import GRANTS
from issuer.grants.response import TokenResponse, UnsignedTokenResponse
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
from issuer.throttling.origin import Origin
from issuer.tokens.access_tokens import AccessTokens
from issuer.tokens.authorization import Authorization
from issuer.tokens.families import Sessions
from issuer.tokens.family_queries import Found
from issuer.tokens.further_claims import FurtherClaims
from issuer.tokens.id_tokens import IdTokens
from issuer.tokens.refresh import NewFamily, Renewal, ReuseDetected
from issuer.tokens.resource_scope import scope_at

SCOPE_MOST_CHARACTERS = 4096


@dataclass(frozen=True)
class CheckedRequest:
    """A request that is ready to be executed: its client is authenticated and may use the grant."""

    grant: Grant
    request: TokenRequest

    @property
    def hashing_queue(self) -> tuple[str, ...]:
        """The place in the queue of the hashing pool, for a grant that hashes a password."""
        return hashing_queue(self.request.require("username"), self.request.origin)


class Pipeline:
    """Answers token requests; every method runs synchronously, and may be called from any thread."""

    def __init__(
        self,
        *,
        context: GrantContext,
        authentication: ClientAuthentication,
        guard: Guard,
        sessions: Sessions,
        access_tokens: AccessTokens,
        id_tokens: IdTokens,
        further_claims: FurtherClaims,
        password_login: bool,
    ) -> None:
        self._context = context
        self._authentication = authentication
        self._guard = guard
        self._sessions = sessions
        self._access_tokens = access_tokens
        self._id_tokens = id_tokens
        self._further_claims = further_claims
        self.claims_may_block = further_claims.may_block
        off = set() if password_login else {GrantType.PASSWORD}
        self.grants = {name: grant for name, grant in GRANTS.items() if name not in off}

    def grant(self, form: OAuthRequest, origin: Origin, now: datetime) -> UnsignedTokenResponse:
        """Answer a token request, RFC 6749 section 3.2, without the signature; raise OAuthError.

        `sign` completes it: that takes long and needs no database.
        """
        return self.execute(self.check(form, origin, now), now)

    def decide(
        self, form: OAuthRequest, origin: Origin, now: datetime, found: Found
    ) -> UnsignedTokenResponse:
        """Answer a refresh as `grant` does, for a token that was looked up, but leave its rotation to the caller."""
        return self._execute(self.check(form, origin, now), now, found)

    def check(self, form: OAuthRequest, origin: Origin, now: datetime) -> CheckedRequest:
        """Authenticate the client and refuse whatever can be refused without hashing; raise OAuthError."""
        name = form.parameters.get("grant_type")
        if not name:
            raise InvalidRequest("the parameter grant_type is missing")
        if name not in self.grants:
            raise UnsupportedGrantType(f"supported grants are {', '.join(sorted(self.grants))}")
        grant = self.grants[name]
        if grant.is_first_party and "client_assertion" in form.parameters:
            # The first-party client has no keys; fetching those of another would be work for nothing.
            raise UnauthorizedClient(f"a client that signs assertions may not use the grant {grant.type}")
        return self._check(self._authentication.client(form, origin, now), grant, form, origin, now)

    def execute(self, checked: CheckedRequest, now: datetime) -> UnsignedTokenResponse:
        """Answer a checked request, which may have waited since; raise OAuthError."""
        try:
            return self._execute(checked, now)
        except LoginFailed as error:  # to a client it is invalid_grant with 400, section 5.2
            raise InvalidGrant(error.description) from None

    def login(self, parameters: Mapping[str, str], origin: Origin, now: datetime) -> TokenResponse:
        """Answer a first-party log-in: the grant `password` for the built-in client."""
        return self.execute_login(self.check_login(parameters, origin, now), now)

    def check_login(self, parameters: Mapping[str, str], origin: Origin, now: datetime) -> CheckedRequest:
        """Check a first-party log-in as `check` does."""
        grant = self.grants.get(GrantType.PASSWORD)
        if grant is None:
            raise AccessDenied
        return self._check(FIRST_PARTY, grant, OAuthRequest(parameters), origin, now)

    def execute_login(self, checked: CheckedRequest, now: datetime) -> TokenResponse:
        """Answer a checked first-party log-in, which may have waited since; raise OAuthError."""
        return self.sign(self._execute(checked, now))

    def sign(self, response: UnsignedTokenResponse) -> TokenResponse:
        """Sign the access token and, if there is one, the id_token; raise Unavailable if this node no longer can."""
        if response.signed:
            return response.signed
        authorization, family = response.authorization, response.family
        token = self._access_tokens.sign(authorization, family, response.key, response.now)
        return TokenResponse(
            token.text,
            token.expires_in,
            format_scope(authorization.scope),
            response.key.kid,
            authorization.client_id,
            None if family is None else family.user_id,
            self._id_token(response, token.text),
            response.refresh_token,
            is_repeat=bool(response.renewed and response.renewed.is_repeat),
        )

    def _id_token(self, response: UnsignedTokenResponse, access_token: str) -> str | None:
        if response.family is None or response.sign_in is None:
            return None
        return self._id_tokens.sign(
            response.authorization,
            response.family,
            response.sign_in,
            access_token,
            response.key,
            response.now,
        )

    def _check(
        self, client: Client, grant: Grant, form: OAuthRequest, origin: Origin, now: datetime
    ) -> CheckedRequest:
        client.require_grant(grant.type)
        scope = _requested_scope(form.parameters.get("scope"))
        request = TokenRequest(client, form.parameters, scope, now, origin, form.resources)
        grant.check(request, self._context)
        return CheckedRequest(grant, request)

    def _execute(
        self, checked: CheckedRequest, now: datetime, found: Found | None = None
    ) -> UnsignedTokenResponse:
        request = replace(checked.request, now=now, found=found)

        def prepare(authorization: Authorization, key: Key | None = None) -> Issue:
            return self._prepare(request, authorization, key)

        with self._guard.limit_credentials(request.origin, now):
            try:
                return checked.grant.execute(request, self._context, prepare)
            except ReuseDetected as reuse:
                self._sessions.end_reused(reuse, now)
                raise

    def _prepare(self, request: TokenRequest, allowed: Authorization, key: Key | None) -> Issue:
        audience = audience_among(request.resources, allowed.audience)
        granted = _narrowed(request.scope, allowed)
        scope = granted
        if request.resources:  # the session keeps the rest: its next token may be for another resource
            scope = scope_at(audience, granted, self._context.resources, request.now)
        # Before the session changes: a node that cannot sign, or a failure to make the claims, must not use up a
        # code or a refresh token.
        key = key or self._access_tokens.signing_key(request.now)
        authorization = replace(self._with_claims(request, allowed, scope), scope=scope, audience=audience)
        return partial(self._issue, request, replace(allowed, scope=granted), authorization, key)

    def _issue(
        self, request: TokenRequest, held: Authorization, authorization: Authorization, key: Key
    ) -> UnsignedTokenResponse:
        """Start or renew the session with what is `held`; tokens for a resource have less, the `authorization`."""
        origin, now = request.origin, request.now
        renewed, family = None, None
        match held.family:
            case NewFamily() as new:
                renewed, family = self._sessions.start(new, held, origin, now)
            case Renewal() as renewal:
                renewed, family = self._sessions.renew(renewal, origin, now), renewal.family
                if request.found is None:
                    renewed = self._sessions.rotate(renewal, renewed, origin, now)
        if GrantType.REFRESH_TOKEN not in request.client.grant_types:
            renewed = None  # the session exists nevertheless: access tokens end with it
        response = UnsignedTokenResponse(authorization, family, key, now, renewed)
        if family and renewed and renewed.is_repeat:
            # Before the only repeat is used up: a node that cannot sign returns no token.
            response = replace(response, signed=self.sign(response))
            self._sessions.claim_repeat(renewed.token, family, now)
        return response

    def _with_claims(
        self, request: TokenRequest, allowed: Authorization, scope: frozenset[str]
    ) -> Authorization:
        user, client = allowed.user, request.client
        roles = user.roles if user and client.has_roles_claim else None
        return replace(allowed, roles=roles, further_claims=self._further_claims(user, client, scope))


def _requested_scope(scope: str | None) -> frozenset[str] | None:
    """Return the requested scope, None if there is none; raise InvalidScope for a malformed or overlong one."""
    if not scope:
        return None
    if len(scope) > SCOPE_MOST_CHARACTERS:
        raise InvalidScope(f"scope has more than {SCOPE_MOST_CHARACTERS} characters")
    return parse_scope(scope)


def _narrowed(requested: frozenset[str] | None, allowed: Authorization) -> frozenset[str]:
    """Return what of the requested scope is allowed, RFC 6749 section 3.3; raise InvalidScope if that is nothing."""
    if requested is None:
        return allowed.scope
    if not requested & allowed.scope and not allowed.may_have_no_scope:
        raise InvalidScope
    return requested & allowed.scope
