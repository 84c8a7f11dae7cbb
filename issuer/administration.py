"""What people and operators do to accounts, clients and sessions: register, grant, change a password, disable.

Which names and passwords are acceptable is decided in `accounts`.
"""

import uuid
from dataclasses import replace
from datetime import datetime

from issuer.accounts import User, require_password, require_username
from issuer.audit import Action, Entry
from issuer.clients import Client, digest, new_secret
from issuer.oauth import AuthMethod
from issuer.passwords import COMMON, Passwords
from issuer.store.accounts import AccountStore
from issuer.store.audit import AuditStore
from issuer.store.clients import ClientStore
from issuer.store.families import FamilyStore


def register_user(
    accounts: AccountStore,
    passwords: Passwords,
    username: str,
    password: str,
    now: datetime,
    scope: frozenset[str] = frozenset(),
) -> User:
    """Make an account and return it; raise InvalidRequest or UsernameTaken."""
    name = require_username(username)
    chosen = require_password(password, name, COMMON)
    user = User(str(uuid.uuid4()), name, passwords.hash(chosen), scope, now)
    accounts.add(user)
    return user


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


def register_client(
    clients: ClientStore,
    name: str,
    auth_method: AuthMethod,
    scope: frozenset[str],
    audiences: tuple[str, ...],
    now: datetime,
) -> tuple[Client, str | None]:
    """Make a client; return it with its secret, which is told this once and never again."""
    secret = None if auth_method is AuthMethod.NONE else new_secret()
    client = Client(
        id=str(uuid.uuid4()),
        name=name,
        auth_method=auth_method,
        scope=scope,
        created_at=now,
        audiences=audiences,
        secret_digest=digest(secret) if secret else None,
    )
    clients.add(client)
    return client, secret
