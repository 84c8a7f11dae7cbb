"""Accounts, sessions and entries that tests of stores put into a database."""

import uuid
from datetime import UTC, datetime, timedelta

from issuer.accounts.store import AccountStore
from issuer.accounts.user import User
from issuer.audit.chain import Action, Entry
from issuer.database.database import Database
from issuer.digests import digest
from issuer.sessions.session import BrowserSession
from issuer.sessions.store import BrowserSessionStore
from issuer.throttling.origin import Origin
from issuer.tokens.family_store import FamilyStore
from issuer.tokens.refresh import Family, RefreshToken, stored
from issuer.tokens.refresh_text import new_refresh_token

NOW = datetime(2026, 1, 1, 12, 30, 15, 123456, tzinfo=UTC)
MONTH = timedelta(days=30)
ENTRY = Entry(NOW, "node ä", Action.PUBLISHED, "a", 1)


def user(username: str = "alice") -> User:
    return User(str(uuid.uuid4()), username, "a hash", frozenset({"items:read", "b"}), NOW)


def family_with_token(database: Database) -> tuple[Family, str]:
    owner = user(f"user-{uuid.uuid4()}")
    AccountStore(database).add(owner)
    family = Family(
        str(uuid.uuid4()),
        owner.id,
        "first-party",
        frozenset({"a"}),
        ("x", "y"),
        NOW,
        NOW + MONTH,
        None,
        "curl",
        "::1",
    )
    token = new_refresh_token(family.id)
    assert FamilyStore(database).start(family, stored(token, family, NOW, MONTH))
    return family, token


def found(database: Database, token: str) -> tuple[RefreshToken, Family]:
    result = FamilyStore(database).find(digest(token))
    assert result is not None
    return result.token, result.family


def signed_in(database: Database) -> tuple[BrowserSessionStore, BrowserSession]:
    """Return a browser session of a new user, and its store."""
    owner = user(f"user-{uuid.uuid4()}")
    AccountStore(database).add(owner)
    store = BrowserSessionStore(database, timedelta(hours=12), timedelta(hours=2))
    started = store.start(owner.id, None, "1", ("pwd",), Origin("curl", "::1"), NOW)
    assert started
    return store, started[0]
