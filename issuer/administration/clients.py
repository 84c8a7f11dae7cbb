"""What operators do with clients: register them, change secrets; which names, scopes, URIs and grants are accepted.

What a registered client may request is decided in `clients.client`, the form of redirect URIs in
`clients.redirect_uris`.
"""

import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TypedDict, Unpack

from issuer.audit.event import Event
from issuer.clients.client import SECRET_METHODS, Client, default_grants, new_secret
from issuer.clients.outgoing_http import is_reachable
from issuer.clients.redirect_uris import REDIRECT_URI_MOST_CHARACTERS, require_redirect_uris
from issuer.clients.store import ClientStore
from issuer.clock import instant
from issuer.digests import digest
from issuer.errors import Refused
from issuer.oauth import (
    AuthMethod,
    GrantType,
    InvalidRequest,
    InvalidScope,
    ResponseType,
    format_scope,
    parse_scope,
)
from issuer.tokens.identity import RELEASED_CLAIMS
from issuer.urls import BadURL, resource

NAME_MOST_CHARACTERS = 200
REDIRECT_URIS_MOST = 20
SCOPE_MOST_CHARACTERS = 2000
"""Common servers accept tokens of up to 8 KiB, and the scope is one part of a token."""

PASSWORD_REFUSED = "the grant password is for the built-in client only; register a redirect URI instead"  # noqa: S105


def renew_secret(
    clients: ClientStore, client: Client, overlap: timedelta, now: datetime, *events: Event
) -> tuple[Client, str]:
    """Store a new secret for `client`, and return both; the previous secret stays valid for `overlap`.

    Only one previous secret is stored: raise Refused while another one is valid, which may be in use. Without an
    overlap all previous secrets become invalid at once.
    """
    if overlap and client.old_secret_until and client.old_secret_until > now:
        raise Refused(
            f"not before {instant(client.old_secret_until)}: the previous secret is valid until then, and only one"
            " previous secret is stored; --overlap 0 makes all previous secrets invalid at once",
            client.old_secret_until,
        )
    secret = new_secret()
    renewed = client.with_new_secret(secret, now, overlap)
    if not clients.set_secret(renewed, client.secret_digest, *events):
        raise _changed_concurrently()
    return renewed, secret


def restore_secret(clients: ClientStore, before: Client, renewed: Client, *events: Event) -> None:
    """Undo `renew_secret` for a secret that could not be printed: restore the secrets of `before`.

    Raise Refused if the secret has been changed again since.
    """
    if not clients.set_secret(before, renewed.secret_digest, *events):
        raise _changed_concurrently()


def _changed_concurrently() -> Refused:
    return Refused("the secret was changed by another command at the same time; see: issuer clients list")


def require_client_name(name: str) -> str:
    """Return a client's name without spaces around it; raise InvalidRequest for one that cannot be displayed."""
    stripped = name.strip()
    if not stripped:
        raise InvalidRequest("a client needs a name")
    if len(stripped) > NAME_MOST_CHARACTERS:
        raise InvalidRequest(f"the name of a client has at most {NAME_MOST_CHARACTERS} characters")
    if not stripped.isprintable():
        raise InvalidRequest("the name of a client contains characters that cannot be displayed")
    return stripped


def require_scope(text: str) -> frozenset[str]:
    """Return the scope in `text`; raise InvalidScope if it is malformed or too long."""
    return require_short(parse_scope(text))


def require_short(scope: frozenset[str]) -> frozenset[str]:
    """Return `scope`; raise InvalidScope if it would make tokens too long for common servers."""
    if len(format_scope(scope)) > SCOPE_MOST_CHARACTERS:
        raise InvalidScope(f"a scope has at most {SCOPE_MOST_CHARACTERS} characters")
    return scope


def require_audiences(texts: Iterable[str], default: str) -> tuple[str, ...]:
    """Return the audiences that a client may request, without duplicates; raise InvalidRequest.

    An audience with a space at an end is refused, as a quoting mistake. The `default` is checked with the settings.
    """
    audiences = []
    for text in texts:
        try:
            audiences.append(text if text == default else resource(text))
        except BadURL as error:
            raise InvalidRequest(f"the audience {text!r} {error}") from None
    return tuple(dict.fromkeys(audiences))


class ClientOptions(TypedDict, total=False):
    """What may be registered of a client besides its name, authentication, scope and audiences."""

    jwks: str | None
    jwks_uri: str | None
    grant_types: frozenset[GrantType] | None
    """None: those that `default_grants` names."""
    redirect_uris: Iterable[str]
    post_logout_redirect_uris: Iterable[str]
    backchannel_logout_uri: str | None
    is_trusted: bool
    requires_pkce: bool
    requires_par: bool
    id_token_claims: Iterable[str]
    has_roles_claim: bool


def register_client(
    clients: ClientStore,
    name: str,
    auth_method: AuthMethod,
    scope: frozenset[str],
    audiences: tuple[str, ...],
    now: datetime,
    **options: Unpack[ClientOptions],
) -> tuple[Client, str | None]:
    """Register a client; return it with its secret, if it has one, which is not stored and cannot be shown again.

    Raise InvalidRequest or InvalidScope for values that are not accepted.
    """
    client, secret = new_client(name, auth_method, scope, audiences, now, **options)
    clients.add(client)
    return client, secret


def new_client(
    name: str,
    auth_method: AuthMethod,
    scope: frozenset[str],
    audiences: tuple[str, ...],
    now: datetime,
    **options: Unpack[ClientOptions],
) -> tuple[Client, str | None]:
    """Return a client to register, and its secret, if it has one; raise InvalidRequest or InvalidScope."""
    redirect_uris = require_uris(options.get("redirect_uris", ()))
    grants = options.get("grant_types")
    if grants is None:
        grants = default_grants(auth_method, has_redirect_uri=bool(redirect_uris))
    signs_in = GrantType.AUTHORIZATION_CODE in grants
    secret = new_secret() if auth_method in SECRET_METHODS else None
    client = Client(
        id=str(uuid.uuid4()),
        name=require_client_name(name),
        auth_method=auth_method,
        scope=require_short(scope),
        created_at=now,
        audiences=audiences,
        secret_digest=digest(secret) if secret else None,
        jwks=options.get("jwks"),
        jwks_uri=options.get("jwks_uri"),
        grant_types=grants,
        response_types=frozenset({ResponseType.CODE} if signs_in else ()),
        redirect_uris=redirect_uris,
        post_logout_redirect_uris=require_uris(options.get("post_logout_redirect_uris", ())),
        backchannel_logout_uri=require_backchannel(options.get("backchannel_logout_uri")),
        is_trusted=options.get("is_trusted", False),
        requires_pkce=options.get("requires_pkce", True),
        requires_par=options.get("requires_par", False),
        id_token_claims=require_claims(options.get("id_token_claims", ())),
        has_roles_claim=options.get("has_roles_claim", False),
    )
    require_consistent(client)
    return client, secret


def require_consistent(client: Client) -> None:
    """Raise InvalidRequest for a client whose grants, authentication and redirect URIs contradict each other."""
    is_public = client.auth_method is AuthMethod.NONE
    signs_in = GrantType.AUTHORIZATION_CODE in client.grant_types
    if not client.grant_types:
        raise InvalidRequest("a client needs a grant")
    if GrantType.PASSWORD in client.grant_types:
        raise InvalidRequest(PASSWORD_REFUSED)
    if is_public and GrantType.CLIENT_CREDENTIALS in client.grant_types:
        raise InvalidRequest("the grant client_credentials needs a client that authenticates")
    if signs_in and not client.redirect_uris:
        raise InvalidRequest("the grant authorization_code needs a redirect URI")
    if is_public and not client.requires_pkce:
        raise InvalidRequest(
            "a public client must use PKCE, as nothing else protects its codes (RFC 9700 section 2.1.1)"
        )
    if not signs_in and _has_browser_options(client):
        raise InvalidRequest(
            "redirect and log-out URIs, trust, PKCE, pushed requests and claims about users are for clients with the"
            " grant authorization_code"
        )


def _has_browser_options(client: Client) -> bool:
    """Whether something was registered that matters only to a client that users sign in to with a browser."""
    uris = client.redirect_uris or client.post_logout_redirect_uris or client.backchannel_logout_uri
    return (
        bool(uris or client.id_token_claims)
        or client.is_trusted
        or client.requires_par
        or client.has_roles_claim
        or not client.requires_pkce
    )


def require_uris(texts: Iterable[str]) -> tuple[str, ...]:
    """Return redirect URIs without duplicates; raise InvalidRequest for one that may not be registered."""
    try:
        return require_redirect_uris(texts)
    except BadURL as error:
        raise InvalidRequest(f"the redirect URI {error}") from None


def require_claims(names: Iterable[str]) -> tuple[str, ...]:
    """Return names of claims about users, without `sub`, which every id_token has; raise InvalidRequest."""
    claims = dict.fromkeys(names)
    unknown = claims.keys() - RELEASED_CLAIMS
    if unknown:
        known = ", ".join(RELEASED_CLAIMS)
        raise InvalidRequest(f"the claim {min(unknown)!r} of id_tokens must be one of {known}")
    return tuple(claims)


def require_backchannel(uri: str | None) -> str | None:
    """Return the URI that log-outs are sent to, OpenID Connect Back-Channel Logout 1.0 section 2.2."""
    if uri is not None and (len(uri) > REDIRECT_URI_MOST_CHARACTERS or not is_reachable(uri)):
        raise InvalidRequest(
            f"back-channel log-out URI: {uri[:80]!r} must be an https URL (http on loopback) without a fragment"
        )
    return uri
