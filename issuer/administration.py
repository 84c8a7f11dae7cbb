"""What operators do to accounts, clients and sessions: change a password or a secret, disable, end.

Which names and passwords are acceptable is decided in `accounts`.
"""

import uuid
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from issuer.accounts import User, require_password
from issuer.audit import Action, Entry
from issuer.clients import Client, digest, new_secret
from issuer.oauth import AuthMethod, InvalidRequest, InvalidScope, format_scope, parse_scope
from issuer.passwords import COMMON, Passwords
from issuer.policy import instant
from issuer.refusal import Refused
from issuer.resources import require_resource
from issuer.store.accounts import AccountStore
from issuer.store.audit import AuditStore
from issuer.store.clients import ClientStore
from issuer.store.families import FamilyStore

NAME_MOST_CHARACTERS = 200
SCOPE_MOST_CHARACTERS = 2000
"""Tokens of up to 8 KiB are read everywhere; scope is one part of them."""


def set_password(
    families: FamilyStore, passwords: Passwords, user: User, password: str, now: datetime
) -> None:
    """Change a password and end every session that the old one opened; raise InvalidRequest."""
    chosen = require_password(password, user.username, COMMON)
    families.set_password_hash(user.id, passwords.hash(chosen), now)


def disable_user(families: FamilyStore, user: User, now: datetime) -> User:
    """Shut a user out: no log-in and no refresh from now on; access tokens live until they expire."""
    families.disable(user.id, now)
    return replace(user, disabled_at=now)


def enable_user(accounts: AccountStore, user: User) -> User:
    """Let a disabled user log in again; ended sessions stay ended."""
    accounts.enable(user.id)
    return replace(user, disabled_at=None)


def end_all_sessions(families: FamilyStore, audit: AuditStore, actor: str, reason: str, now: datetime) -> int:
    """End every session and tell how many there were; everybody has to log in again."""
    ended = families.end_all(now)
    audit.record(Entry(now, actor, Action.SESSIONS_ENDED, reason=f"{ended} sessions: {reason}"))
    return ended


def renew_secret(
    clients: ClientStore, client: Client, overlap: timedelta, now: datetime
) -> tuple[Client, str]:
    """Give `client` another secret and return both; the old one stays good for `overlap`.

    Raise Refused while the one before the old one is still good: it would be lost, and may be the one in use. Without
    any overlap all old ones end at once.
    """
    if overlap and client.old_secret_until and client.old_secret_until > now:
        raise Refused(
            f"not before {instant(client.old_secret_until)}: the secret was changed lately, and the one before it is"
            " still good, but only one old secret is kept; --overlap 0 ends all old ones at once",
            client.old_secret_until,
        )
    secret = new_secret()
    renewed = client.with_new_secret(secret, now, overlap)
    if not clients.set_secret(renewed, client.secret_digest):
        raise Refused("somebody else changed the secret at this moment; look again: issuer clients list")
    return renewed, secret


def keep_secret(clients: ClientStore, before: Client, renewed: Client) -> None:
    """Undo `renew_secret`, for a secret that nobody received: the client's secrets are those of `before` again."""
    clients.set_secret(before, renewed.secret_digest)


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

    RFC 8707 section 2: absolute URIs without a fragment. The default audience may be a name instead.
    """
    audiences = []
    for text in given:
        try:
            if text != text.strip():  # a client that asks for it as it was written here would be refused
                raise ValueError("it has blanks around it")  # noqa: TRY301 - told as the others are
            audiences.append(default if text == default else require_resource(text))
        except ValueError as error:
            raise InvalidRequest(f"the audience {text!r} cannot be used: {error}") from None
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
    """Make a client; return it with its secret, if it has one, which is told this once and never again.

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
    )
    clients.add(client)
    return client, secret
