"""What operators do to accounts, clients and sessions: change a password or a secret, disable, end.

Which names and passwords are acceptable is decided in `accounts`.
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
"""Tokens of up to 8 KiB are read everywhere; scope is one part of them."""


def renew_secret(
    clients: ClientStore, client: Client, overlap: timedelta, now: datetime
) -> tuple[Client, str]:
    """Give `client` another secret and return both; the old one stays valid for `overlap`.

    Raise Refused while the secret before the old one is still valid: it would be lost, and may be the one in use.
    Without an overlap all old ones end at once.
    """
    if overlap and client.old_secret_until and client.old_secret_until > now:
        raise Refused(
            f"not before {instant(client.old_secret_until)}: the secret was changed lately, and the one before it is"
            " still valid, but only one old secret is kept; --overlap 0 ends all old ones at once",
            client.old_secret_until,
        )
    secret = new_secret()
    renewed = client.with_new_secret(secret, now, overlap)
    if not clients.set_secret(renewed, client.secret_digest):
        raise _changed_at_once()
    return renewed, secret


def keep_secret(clients: ClientStore, before: Client, renewed: Client) -> None:
    """Undo `renew_secret`, for a secret that could not be printed: restore the secrets of `before`.

    Raise Refused if the secret has been changed again since: those before it may be lost.
    """
    if not clients.set_secret(before, renewed.secret_digest):
        raise _changed_at_once()


def _changed_at_once() -> Refused:
    return Refused("the secret was changed by somebody else at the same time; see: issuer clients list")


def require_client_name(name: str) -> str:
    """Return a client's name without blanks around it; raise InvalidRequest for one that cannot be shown."""
    shown = name.strip()
    if not shown:
        raise InvalidRequest("a client needs a name")
    if len(shown) > NAME_MOST_CHARACTERS:
        raise InvalidRequest(f"the name of a client has at most {NAME_MOST_CHARACTERS} characters")
    if not shown.isprintable():
        raise InvalidRequest("the name of a client holds characters that cannot be shown")
    return shown


def require_scope(text: str) -> frozenset[str]:
    """Return the scope that an operator grants; raise InvalidScope for one that is malformed or too long."""
    return require_short(parse_scope(text))


def require_short(scope: frozenset[str]) -> frozenset[str]:
    """Return `scope`, which goes into every token; raise InvalidScope if no service would read such a token."""
    if len(format_scope(scope)) > SCOPE_MOST_CHARACTERS:
        raise InvalidScope(f"a scope has at most {SCOPE_MOST_CHARACTERS} characters")
    return scope


def require_audiences(given: Iterable[str], default: str) -> tuple[str, ...]:
    """Return the resources that a client may ask tokens for, each once; raise InvalidRequest.

    One with a blank at an end is refused: it is a mistake of quoting or pasting. The default audience needs no check:
    that of an older version may be no URI.
    """
    audiences = []
    for text in given:
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
    """Make a client; return it with its secret, if it has one, which is not stored and cannot be shown again.

    Raise InvalidRequest or InvalidScope for what no client can have.
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
        grant_types=default_grants(auth_method),
    )
    clients.add(client)
    return client, secret
