"""What operators do with clients: register them, change secrets; which names, scopes and audiences are accepted.

What a registered client may request is decided in `clients.client`.
"""

import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta

from issuer.clients.client import Client, default_grants, new_secret
from issuer.clients.store import ClientStore
from issuer.clock import instant
from issuer.digests import digest
from issuer.errors import Refused
from issuer.oauth import AuthMethod, InvalidRequest, InvalidScope, format_scope, parse_scope
from issuer.urls import BadURL, resource

NAME_MOST_CHARACTERS = 200
SCOPE_MOST_CHARACTERS = 2000
"""Common servers accept tokens of up to 8 KiB, and the scope is one part of a token."""


def renew_secret(
    clients: ClientStore, client: Client, overlap: timedelta, now: datetime
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
    if not clients.set_secret(renewed, client.secret_digest):
        raise _changed_concurrently()
    return renewed, secret


def restore_secret(clients: ClientStore, before: Client, renewed: Client) -> None:
    """Undo `renew_secret` for a secret that could not be printed: restore the secrets of `before`.

    Raise Refused if the secret has been changed again since.
    """
    if not clients.set_secret(before, renewed.secret_digest):
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


def register_client(
    clients: ClientStore,
    name: str,
    auth_method: AuthMethod,
    scope: frozenset[str],
    audiences: tuple[str, ...],
    now: datetime,
    *,
    jwks: str | None = None,
    jwks_uri: str | None = None,
) -> tuple[Client, str | None]:
    """Register a client; return it with its secret, if it has one, which is not stored and cannot be shown again.

    Raise InvalidRequest or InvalidScope for values that are not accepted.
    """
    name = require_client_name(name)
    secret = new_secret() if auth_method in {AuthMethod.BASIC, AuthMethod.POST} else None
    client = Client(
        id=str(uuid.uuid4()),
        name=name,
        auth_method=auth_method,
        scope=require_short(scope),
        created_at=now,
        audiences=audiences,
        secret_digest=digest(secret) if secret else None,
        jwks=jwks,
        jwks_uri=jwks_uri,
        grant_types=default_grants(auth_method, has_redirect_uri=False),
    )
    clients.add(client)
    return client, secret
