"""The statements of `family_store`, and how its rows are read."""

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Row, bindparam, insert, join, select, update

from issuer.accounts.store import read_user, user_columns, users
from issuer.accounts.user import User
from issuer.database.rows import checked, damaged
from issuer.tokens.refresh import Family, RefreshToken
from issuer.tokens.refresh_rotation import DATABASE_TICK, families, refresh_tokens

SESSIONS_MOST = 100
"""Of one user; beyond that the oldest end, as programs that log in again and again would accumulate them."""

# Statements are built once: that takes longer than executing them.
TOKEN, OWNER = "token_", "owner_"
WITH_OWNER = (
    select(
        *families.c,
        *(column.label(TOKEN + column.name) for column in refresh_tokens.c),
        *user_columns(OWNER),
    )
    .select_from(join(refresh_tokens, families, refresh_tokens.c.family_id == families.c.id))
    .join(users, users.c.id == families.c.user_id)
)
BY_DIGESTS = WITH_OWNER.where(refresh_tokens.c.digest.in_(bindparam("digests", expanding=True)))
BY_PROOF = WITH_OWNER.where(
    families.c.id == bindparam("family"), refresh_tokens.c.proof_digest == bindparam("proof")
).limit(1)
ISSUED = select(refresh_tokens.c.subnet, refresh_tokens.c.issued_tick).where(
    refresh_tokens.c.digest == bindparam("wanted")
)
ISSUED_BY_DATABASE = ISSUED.add_columns(DATABASE_TICK.label("tick"))
CLAIM_REPEAT = (
    update(refresh_tokens)
    .where(refresh_tokens.c.digest == bindparam("token"), refresh_tokens.c.repeated_at.is_(None))
    .values(repeated_at=bindparam("now"))
)
KEEP = insert(refresh_tokens)
KEEP_FAMILY = insert(families)
OPEN = families.c.user_id == bindparam("user"), families.c.ended_at.is_(None)
# Never the new one, whatever clock the others were started by.
OTHERS = *OPEN, families.c.id != bindparam("new")
NEWEST = select(families.c.id).where(*OTHERS).order_by(families.c.created_at.desc()).limit(SESSIONS_MOST - 1)
END_OLDEST = update(families).where(*OTHERS, families.c.id.not_in(NEWEST)).values(ended_at=bindparam("now"))


def read_token(row: Row[Any]) -> RefreshToken:
    """Return the token in a row of `WITH_OWNER`; raise DatabaseDamaged, as the others do."""
    values = checked(refresh_tokens, row, TOKEN)
    del values["issued_tick"], values["repeated_at"]
    return RefreshToken(**values)


def read_used_family(row: Row[Any]) -> tuple[Family, datetime]:
    """Return the family in a row, and when it was last refreshed."""
    if not isinstance(row.used_at, datetime | None):
        raise damaged(families, row.id)
    return read_family(row), row.used_at or row.created_at


def read_family(row: Row[Any]) -> Family:
    """Return the family in a row."""
    return Family(**checked(families, row))


class Found(NamedTuple):
    """A refresh token with its family and user."""

    token: RefreshToken
    family: Family
    user: User


def read_found(row: Row[Any]) -> Found:
    """Return the refresh token in a row with its family and user; raise DatabaseDamaged."""
    return Found(read_token(row), read_family(row), read_user(row, OWNER))
