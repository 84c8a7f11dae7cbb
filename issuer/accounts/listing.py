"""Lists of users for operators, in pages in the order of names: quick however many users there are.

A page begins after a name (no OFFSET, which would read all rows before it), and both filters are served by the index
that gives the order: a beginning of the name is a range of it, disabled users have an index of their own.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, select

from issuer.accounts.store import read_user, user_columns, users
from issuer.accounts.user import USERNAME_LENGTH, User, canonical_username
from issuer.database.database import Database
from issuer.database.errors import DatabaseDamaged
from issuer.database.rows import each_readable
from issuer.oauth import InvalidRequest

PAGE = 100
PAGE_MOST = 10_000
_AFTER_ALL = "\U0010ffff"
"""Greater than each character of a name, by code points."""


@dataclass(frozen=True)
class UserPage:
    """Some users, in the order of their canonical names."""

    users: list[User]
    damaged: list[DatabaseDamaged]
    after: str | None
    """The name after which the next page begins; None: this is the last one."""


def page(
    database: Database, beginning: str = "", *, is_disabled: bool = False, after: str = "", limit: int = PAGE
) -> UserPage:
    """Return up to `limit` users whose names have this beginning in any spelling and follow the name `after`."""
    found = page_query(beginning, is_disabled=is_disabled, after=after, limit=limit + 1)
    with database.read() as connection:
        rows = connection.execute(found).all()
    readable, damaged = each_readable(rows[:limit], read_user)
    following = str(rows[limit - 1].canonical_username) if len(rows) > limit else None
    return UserPage(readable, damaged, following)


def require_searchable(text: str) -> str:
    """Return a part of a name; raise InvalidRequest for one that no name can have: normalising it could take long."""
    if len(text) > 4 * USERNAME_LENGTH or "\0" in text:
        raise InvalidRequest(f"names have at most {USERNAME_LENGTH} characters")
    return text


def page_query(beginning: str, *, is_disabled: bool, after: str, limit: int) -> Select[Any]:
    """Return the query of a page."""
    name = users.c.canonical_username
    found = select(*user_columns()).order_by(name).limit(limit)
    if beginning:
        first = canonical_username(beginning)
        found = found.where(name >= first, name < first + _AFTER_ALL)
    if after:
        found = found.where(name > canonical_username(after))
    return found.where(users.c.disabled_at.is_not(None)) if is_disabled else found
