"""Authorization codes, RFC 6749 section 4.1.2: what each is bound to, and when its second use ends the session.

Codes are stored by `code_store`, and redeemed by `grants.authorization_code`.
"""

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from issuer.authorize.request import AuthorizationRequest
from issuer.sessions.session import BrowserSession, SignIn
from issuer.tokens.identity import IdentityScope

CODE_LIFETIME = timedelta(seconds=60)
REPEAT_SPAN = timedelta(seconds=10)
"""How long the second use of a code may be a retry of the client, whose response was lost."""


@dataclass(frozen=True)
class AuthorizationCode:
    """What is stored of a code; the code itself is not."""

    digest: bytes = field(repr=False)
    client_id: str
    user_id: str
    redirect_uri: str
    challenge: str | None
    nonce: str | None = field(repr=False)
    scope: frozenset[str]
    audience: tuple[str, ...]
    userinfo_claims: tuple[str, ...]
    browser_session: str
    session_expires_at: datetime
    sid: str
    auth_time: datetime
    acr: str
    amr: tuple[str, ...]
    expires_at: datetime
    used_at: datetime | None = None
    family_id: str | None = None
    """The session that it started."""

    @property
    def sign_in(self) -> SignIn:
        """What tokens keep of the browser session. With `offline_access` they outlive it."""
        ends_with_browser = IdentityScope.OFFLINE_ACCESS not in self.scope
        return SignIn(
            browser_session=self.browser_session if ends_with_browser else None,
            sid=self.sid,
            auth_time=self.auth_time,
            acr=self.acr,
            amr=self.amr,
            expires_at=self.session_expires_at if ends_with_browser else None,
            userinfo_claims=self.userinfo_claims,
        )


def new_code() -> str:
    """Return a code of 256 random bits."""
    return secrets.token_urlsafe(32)


def code_for(
    request: AuthorizationRequest,
    session: BrowserSession,
    scope: frozenset[str],
    sid: str,
    digest: bytes,
    now: datetime,
) -> AuthorizationCode:
    """Return what is stored of a new code with that `digest`; `scope` is what the user has consented to."""
    return AuthorizationCode(
        digest=digest,
        client_id=request.client.id,
        user_id=session.user_id,
        redirect_uri=request.returns_to.redirect_uri,
        challenge=request.challenge,
        nonce=request.nonce,
        scope=scope,
        audience=request.audience,
        userinfo_claims=request.userinfo_claims,
        browser_session=session.id,
        session_expires_at=session.expires_at,
        sid=sid,
        auth_time=session.auth_time,
        acr=session.acr,
        amr=session.amr,
        expires_at=now + CODE_LIFETIME,
    )


def is_attack(code: AuthorizationCode, client_id: str, *, is_verified: bool, now: datetime) -> bool:
    """Return whether the second use of a code must end what the first one started, RFC 6749 section 4.1.2.

    The same client that repeats its request a moment later has lost the response, and keeps its session.
    """
    is_repeat = code.used_at is not None and abs(now - code.used_at) < REPEAT_SPAN
    return client_id != code.client_id or not is_verified or not is_repeat
