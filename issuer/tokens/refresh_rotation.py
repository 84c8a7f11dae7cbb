"""The tables of refresh tokens and their sessions, and the rotation of many tokens at once.

That each is used once is enforced here, by the database. What else is done with sessions is in `families`.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    ColumnElement,
    ForeignKey,
    LargeBinary,
    String,
    Table,
    Text,
    any_,
    bindparam,
    cast,
    column,
    delete,
    exists,
    extract,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.sql.dml import ReturningInsert
from sqlalchemy.types import TypeEngine

from issuer.database.database import Database, metadata
from issuer.database.types import Instant, Scope, Texts
from issuer.tokens.refresh import RefreshToken

families = Table(
    "families",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("user_id", ForeignKey("users.id"), nullable=False, index=True),
    Column("client_id", String(36), nullable=False),
    Column("scope", Scope, nullable=False),
    Column("audience", Texts, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False, index=True),
    Column("ended_at", Instant, index=True),
    Column("user_agent", Text, nullable=False),
    Column("address", Text, nullable=False),
)

refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("family_id", ForeignKey("families.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("expires_at", Instant, nullable=False, index=True),
    Column("successor_seed", LargeBinary, nullable=False),
    Column("used_at", Instant),
    Column("proof_digest", LargeBinary, nullable=False),
    Column("site", Text),
    Column("paced_until", Instant),
    Column("issued_tick", BigInteger),
    Column("repeated_at", Instant),
)
"""Of each session the newest token and those used in the last minutes: older ones are known by their proof.

`issued_tick` is in microseconds of `Database.shared_clock`; `repeated_at` is when the token was returned again to the
holder of its predecessor.
"""

USED_KEPT = timedelta(minutes=2)
"""How long a used token is kept at least, for a repeat within its grace: longer than the grace and the skew."""
DATABASE_TICK: ColumnElement[int] = cast(extract("epoch", func.clock_timestamp()) * 1_000_000, BigInteger)
"""Microseconds by the clock of a PostgreSQL server."""

_UNUSED = refresh_tokens.c.used_at.is_(None)
_USE = (
    update(refresh_tokens)
    .where(refresh_tokens.c.digest.in_(bindparam("used", expanding=True)), _UNUSED)
    .where(exists().where(families.c.id == refresh_tokens.c.family_id, families.c.ended_at.is_(None)))
    .values(used_at=bindparam("now"))
    .returning(refresh_tokens.c.digest)
)
_KEEP = insert(refresh_tokens)
_FORGET = delete(refresh_tokens).where(
    refresh_tokens.c.family_id.in_(bindparam("families", expanding=True)),
    refresh_tokens.c.proof_digest.in_(bindparam("proofs", expanding=True)),
    refresh_tokens.c.used_at < bindparam("before"),
)


class Rotation(NamedTuple):
    """A token that is used up, and the one that comes after it."""

    used: RefreshToken
    successor: RefreshToken
    now: datetime


def rotate(database: Database, rotations: Sequence[Rotation], *, skip_locked: bool) -> frozenset[bytes]:
    """Rotate what is unused and of a living family, durably; return the digests of the tokens that were used up.

    What others have locked is waited for, or with `skip_locked` left as it is. Raise DatabaseUnavailable.
    """
    if not rotations:
        return frozenset()
    now = max(rotation.now for rotation in rotations)
    if database.is_sqlite:
        return _on_sqlite(database, rotations, now)
    return _on_postgresql(database, rotations, now, skip_locked=skip_locked)


def _on_sqlite(database: Database, rotations: Sequence[Rotation], now: datetime) -> frozenset[bytes]:
    asked = {"used": [rotation.used.digest for rotation in rotations], "now": now}
    with database.write() as connection:  # SQLite changes one table a statement
        done = frozenset(connection.scalars(_USE, asked))
        kept = [rotation.successor for rotation in rotations if rotation.used.digest in done]
        if kept:
            tick = database.shared_clock()
            connection.execute(_KEEP, [{**token_row(token), "issued_tick": tick} for token in kept])
            forgotten = {"families": [token.family_id for token in kept], "before": now - USED_KEPT}
            connection.execute(_FORGET, {**forgotten, "proofs": [token.proof_digest for token in kept]})
    return done


def _on_postgresql(
    database: Database, rotations: Sequence[Rotation], now: datetime, *, skip_locked: bool
) -> frozenset[bytes]:
    used = {rotation.successor.digest: rotation.used.digest for rotation in rotations}
    asked = {
        "used": list(used.values()),
        "families": [rotation.used.family_id for rotation in rotations],
        "now": now,
        "tick": database.shared_clock(),
        "before": now - USED_KEPT,
        **{name: [getattr(each.successor, of) for each in rotations] for name, of in _NEXT.items()},
    }
    with database.change() as connection:
        return frozenset(used[row.digest] for row in connection.execute(_USE_AND_KEEP[skip_locked], asked))


def token_row(token: RefreshToken) -> dict[str, object]:
    """Return the row of a refresh token."""
    return {name: value for name, value in vars(token).items() if name in refresh_tokens.c}


def _using_and_keeping(*, skip_locked: bool) -> ReturningInsert[tuple[bytes]]:
    """Return the statement of PostgreSQL that marks many tokens used, stores their successors, and returns those.

    Those that others have locked are waited for, or are passed over as if they were used: a statement that
    locks many rows and waits could deadlock with another.
    """
    each = {name: bindparam(name, type_=ARRAY(kind)) for name, kind in _EACH.items()}
    following = (
        func.unnest(*each.values()).table_valued(*map(column, _EACH), name="following").render_derived()
    )
    free = select(refresh_tokens.c.digest).where(refresh_tokens.c.digest == any_(each["used"]), _UNUSED)
    alive = select(families.c.id).where(
        families.c.id == any_(bindparam("families", type_=ARRAY(String))), families.c.ended_at.is_(None)
    )
    used = (
        update(refresh_tokens)
        .where(refresh_tokens.c.digest.in_(free.with_for_update(skip_locked=skip_locked)))
        .where(refresh_tokens.c.family_id.in_(alive.with_for_update(read=True, skip_locked=skip_locked)))
        .values(used_at=bindparam("now"))
        .returning(refresh_tokens.c.digest, refresh_tokens.c.family_id)
        .cte("used")
    )
    tick = func.coalesce(bindparam("tick", type_=BigInteger), DATABASE_TICK)
    kept = select(*(following.c[name] for name in _NEXT), used.c.family_id, tick).join_from(
        following, used, used.c.digest == following.c.used
    )
    forgotten = (
        delete(refresh_tokens)
        .where(refresh_tokens.c.family_id == used.c.family_id)
        .where(refresh_tokens.c.proof_digest == any_(each["next_proof"]))
        .where(refresh_tokens.c.used_at < bindparam("before", type_=Instant))
        .cte("forgotten")
    )
    inserted = insert(refresh_tokens).from_select([*_NEXT.values(), "family_id", "issued_tick"], kept)
    return inserted.add_cte(forgotten).returning(refresh_tokens.c.digest)


_NEXT = {
    "next_digest": "digest",
    "next_expires_at": "expires_at",
    "next_seed": "successor_seed",
    "next_proof": "proof_digest",
    "next_site": "site",
    "next_paced_until": "paced_until",
}
"""What is given of each successor, and its column."""
_EACH: dict[str, TypeEngine[Any]] = {
    "used": LargeBinary(),
    **{name: refresh_tokens.c[column].type for name, column in _NEXT.items()},
}
_USE_AND_KEEP = {skip: _using_and_keeping(skip_locked=skip) for skip in (False, True)}
