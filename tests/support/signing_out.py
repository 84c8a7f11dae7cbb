"""Clients that are told when users sign out, and their requests to sign a user out."""

import uuid

from issuer.administration.clients import register_client
from issuer.clients.client import Client
from issuer.oauth import AuthMethod
from issuer.services import Issuer
from issuer.sessions.session import BrowserSession, SignIn
from issuer.tokens.authorization import Authorization
from issuer.tokens.id_tokens import IdTokens
from issuer.tokens.refresh import Family
from support.defaults import START

RETURN_URI = "https://app.example/signed-out"


def application(
    issuer: Issuer, name: str = "Notes", *, uri: str = RETURN_URI, backchannel: str | None = None
) -> Client:
    """Register a client that users return to at `uri`."""
    client, _ = register_client(
        issuer.clients.store,
        name,
        AuthMethod.BASIC,
        frozenset({"items:read"}),
        (),
        START,
        redirect_uris=("https://app.example/callback",),
        post_logout_redirect_uris=(uri,),
        backchannel_logout_uri=backchannel,
    )
    return client


def is_signed_in(issuer: Issuer, session: BrowserSession) -> bool:
    """Return whether a session is active at the issuer."""
    sessions, _ = issuer.sessions.store.active(session.user_id, issuer.clock())
    return session.id in {each.id for each in sessions}


def hint_for(issuer: Issuer, session: BrowserSession, client: Client) -> str:
    """Return an ID token of a client for a session."""
    now = issuer.clock()
    sid = issuer.sessions.store.sid(session, client.id)
    sign_in = SignIn(None, sid, session.auth_time, session.acr, session.amr)
    family = Family(
        str(uuid.uuid4()), session.user_id, client.id, frozenset({"openid"}), (), now, session.expires_at
    )
    authorization = Authorization(family.user_id, client.id, family.scope, family.audience)
    tokens = IdTokens(issuer.tokens.jwt_signer)
    key = issuer.tokens.jwt_signer.signing_key(now)
    return tokens.sign(authorization, family, sign_in, "an access token", key, now)
