"""The one way to a token: authenticate the client, ask the grant, narrow, keep the session, sign.

A check that no grant may forget lives here; the grants are the files beside this one.
"""

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from jwt.utils import base64url_encode

from issuer.clients import FIRST_PARTY, Client
from issuer.grants import client_credentials, password, refresh_token
from issuer.grants.authentication import authenticate
from issuer.grants.means import AccountChanged, FamilyOver, Grant, Means, Origin, TokenRequest
from issuer.key import Key
from issuer.nodes import View
from issuer.oauth import (
    AccessDenied,
    GrantType,
    InvalidGrant,
    InvalidRequest,
    InvalidScope,
    LoginFailed,
    Unavailable,
    UnsupportedGrantType,
    format_scope,
    parse_scope,
)
from issuer.policy import Policy
from issuer.refusal import KeyUnavailable, StaleView
from issuer.signing import Signer
from issuer.store.clients import ClientStore
from issuer.tokens import (
    Authorization,
    Family,
    NewFamily,
    Redemption,
    Renewal,
    access_token_claims,
    new_refresh_token,
    redemption,
    refresh_token_digest,
    stored,
    successor,
)

GRANTS: Mapping[GrantType, Grant] = {
    GrantType.CLIENT_CREDENTIALS: client_credentials.grant,
    GrantType.PASSWORD: password.grant,
    GrantType.REFRESH_TOKEN: refresh_token.grant,
}

ACCESS_TOKEN_TYPE = "at+jwt"  # noqa: S105 - the media type of RFC 9068 section 2.1
FAMILY_IDLE_LIFETIMES = 12
"""A family ends for good after this many lifetimes of an unused refresh token."""


@dataclass(frozen=True)
class TokenResponse:
    """A successful answer, RFC 6749 section 5.1."""

    access_token: str = field(repr=False)
    expires_in: int
    scope: str
    refresh_token: str | None = field(default=None, repr=False)


class Pipeline:
    """Answers token requests; every method runs synchronously, and may be called from any thread."""

    def __init__(
        self,
        *,
        means: Means,
        clients: ClientStore,
        signer: Signer,
        view: Callable[[], View],
        policy: Policy,
        issuer: str,
        refresh_lifetime: timedelta,
        password_login: bool,
    ) -> None:
        self._means = means
        self._clients = clients
        self._signer = signer
        self._view = view
        self._policy = policy
        self._issuer = issuer
        self._refresh_lifetime = refresh_lifetime
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
        client = authenticate(parameters, authorization, self._clients)
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
        except FamilyOver as over:
            self._means.families.end(over.family_id, now)
            raise
        audience = request.client.audience_for(resources, most.audience)
        authorization = replace(most, scope=_narrowed(request.scope, most.scope), audience=audience)
        key = self._signing_key(now)  # before the family changes: a node that cannot sign uses up no token
        refresh_token = None
        match most.family:
            case NewFamily() as new:
                refresh_token = self._start(new, replace(authorization, audience=most.audience), origin, now)
            case Renewal() as renewal:
                refresh_token = self._renew(renewal, now)
        return self._minted(authorization, refresh_token, key, now)

    def _start(self, new: NewFamily, authorization: Authorization, origin: Origin, now: datetime) -> str:
        """Start a family and return its first refresh token; AccountChanged if it is too late."""
        token = new_refresh_token()
        family = Family(
            id=str(uuid.uuid4()),
            user_id=authorization.subject,
            client_id=authorization.client_id,
            scope=authorization.scope,
            audience=authorization.audience,
            created_at=now,
            expires_at=now + FAMILY_IDLE_LIFETIMES * self._refresh_lifetime,
            user_agent=origin.user_agent,
            address=origin.address,
        )
        record = stored(token, family, now, self._refresh_lifetime)
        if not self._means.families.start(family, record, new):
            raise AccountChanged
        return token

    def _renew(self, renewal: Renewal, now: datetime) -> str:
        """Return the successor of the presented token, however many ask for it at once."""
        families = self._means.families
        token = successor(renewal.presented, renewal.token.successor_seed)
        record = stored(token, renewal.family, now, self._refresh_lifetime)
        if renewal.repeat or families.rotate(renewal.token, record, now):
            return token
        # Another request was faster, or the family ended meanwhile: look again and decide again.
        again = families.find(refresh_token_digest(renewal.presented))
        if again is None or redemption(*again, now) is not Redemption.REPEAT:
            raise InvalidGrant("the session has ended; log in again")
        return token

    def _signing_key(self, now: datetime) -> Key:
        try:
            return self._view().signing_key(self._policy, now)
        except (StaleView, KeyUnavailable) as error:
            raise Unavailable("this node cannot sign for the moment", timedelta(seconds=1)) from error

    def _minted(
        self, authorization: Authorization, refresh_token: str | None, key: Key, now: datetime
    ) -> TokenResponse:
        """Sign an access token, RFC 9068, no longer-lived than the ring knows of this key."""
        lifetime = min(self._policy.token_lifetime, key.token_lifetime)
        header = {"alg": key.alg, "kid": key.kid, "typ": ACCESS_TOKEN_TYPE}
        claims = access_token_claims(authorization, self._issuer, now, lifetime)
        signed = base64url_encode(_json(header)) + b"." + base64url_encode(_json(claims))
        try:
            signature = self._signer.sign(key.kid, signed)
        except KeyUnavailable as error:  # revoked in this very moment
            raise Unavailable("this node cannot sign for the moment", timedelta(seconds=1)) from error
        return TokenResponse(
            access_token=(signed + b"." + base64url_encode(signature)).decode(),
            expires_in=int(lifetime.total_seconds()),
            scope=format_scope(authorization.scope),
            refresh_token=refresh_token,
        )


def _narrowed(asked: frozenset[str] | None, granted: frozenset[str]) -> frozenset[str]:
    """Return what was asked for within what was granted, RFC 6749 section 3.3; InvalidScope for nothing."""
    if asked is None:
        return granted
    if not asked & granted:
        raise InvalidScope("nothing of the scope asked for was granted")
    return asked & granted


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
