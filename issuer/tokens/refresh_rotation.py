"""The tables of refresh tokens and families, and the statements that rotate many tokens at once.

They enforce that each token is used once. Which token may be rotated is decided in `refresh`; all other statements
are in `family_store`.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

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
    bindparam,
    delete,
    exists,
    insert,
    literal_column,
    text,
    update,
)
from sqlalchemy.types import TypeEngine

from issuer.database.database import Database, metadata
from issuer.database.types import Instant, Scope, Texts
from issuer.oauth import CLIENT_ID_MOST_CHARACTERS
from issuer.tokens.refresh import RefreshRotation, RefreshToken

families = Table(
    "families",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("user_id", ForeignKey("users.id"), nullable=False, index=True),
    Column("client_id", String(CLIENT_ID_MOST_CHARACTERS), nullable=False, index=True),
    Column("scope", Scope, nullable=False),
    Column("audience", Texts, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False, index=True),
    Column("ended_at", Instant, index=True),
    Column("user_agent", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("browser_session", String(36), index=True),
    Column("sid", String(36)),
    Column("auth_time", Instant),
    Column("acr", Text),
    Column("amr", Texts),
    Column("userinfo_claims", Texts, nullable=False),
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
    Column("subnet", Text),
    Column("paced_until", Instant),
    Column("issued_tick", BigInteger),
    Column("repeated_at", Instant),
)
"""The newest token of each family and those used in the grace period; older ones are recognised by their proof.

`issued_tick` is in microseconds of `Database.shared_clock`; `repeated_at` is when the token was returned again to the
holder of its predecessor.
"""

_TICK = "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)"
DATABASE_TICK: ColumnElement[int] = literal_column(_TICK, BigInteger)
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
_PRUNE = delete(refresh_tokens).where(
    refresh_tokens.c.family_id.in_(bindparam("families", expanding=True)),
    refresh_tokens.c.proof_digest.in_(bindparam("proofs", expanding=True)),
    refresh_tokens.c.used_at < bindparam("before"),
)


def rotate(
    database: Database, rotations: Sequence[RefreshRotation], *, skip_locked: bool
) -> frozenset[bytes]:
    """Rotate the tokens that are unused and whose family has not ended; return the digests of those now used.

    Wait for rows that others have locked, or leave them out with `skip_locked`. Raise DatabaseUnavailable.
    """
    if not rotations:
        return frozenset()
    now = max(rotation.now for rotation in rotations)
    if database.is_sqlite:
        return _on_sqlite(database, rotations, now)
    return _on_postgresql(database, rotations, now, skip_locked=skip_locked)


def _on_sqlite(database: Database, rotations: Sequence[RefreshRotation], now: datetime) -> frozenset[bytes]:
    asked = {"used": [rotation.used.digest for rotation in rotations], "now": now}
    with database.write() as connection:  # SQLite changes one table a statement
        done = frozenset(connection.scalars(_USE, asked))
        kept = [rotation.successor for rotation in rotations if rotation.used.digest in done]
        if kept:
            tick = database.shared_clock()
            connection.execute(_KEEP, [{**token_row(token), "issued_tick": tick} for token in kept])
            pruned = {"families": [token.family_id for token in kept], "before": _forget_before(rotations)}
            connection.execute(_PRUNE, {**pruned, "proofs": [token.proof_digest for token in kept]})
    return done


def _on_postgresql(
    database: Database, rotations: Sequence[RefreshRotation], now: datetime, *, skip_locked: bool
) -> frozenset[bytes]:
    used = {rotation.successor.digest: rotation.used.digest for rotation in rotations}
    asked = {
        "used": list(used.values()),
        "families": [rotation.used.family_id for rotation in rotations],
        "now": now,
        "tick": database.shared_clock(),
        "before": _forget_before(rotations),
        **{name: [getattr(each.successor, of) for each in rotations] for name, of in _NEXT.items()},
    }
    with database.change() as connection:
        return frozenset(used[row.digest] for row in connection.execute(_ROTATE[skip_locked], asked))


def _forget_before(rotations: Sequence[RefreshRotation]) -> datetime:
    return min(rotation.forget_before for rotation in rotations)


def token_row(token: RefreshToken) -> dict[str, object]:
    """Return the row of a refresh token."""
    return {name: value for name, value in vars(token).items() if name in refresh_tokens.c}


_POSTGRESQL = """
    WITH used AS (
        UPDATE refresh_tokens SET used_at = :now
        WHERE digest IN (
            SELECT digest FROM refresh_tokens WHERE digest = ANY (:used) AND used_at IS NULL FOR UPDATE {locked}
        ) AND family_id IN (
            SELECT id FROM families WHERE id = ANY (:families) AND ended_at IS NULL FOR SHARE {locked}
        )
        RETURNING digest, family_id
    ), pruned AS (
        DELETE FROM refresh_tokens USING used
        WHERE refresh_tokens.family_id = used.family_id
        AND refresh_tokens.proof_digest = ANY (:next_proof) AND refresh_tokens.used_at < :before
    )
    INSERT INTO refresh_tokens
        (digest, expires_at, successor_seed, proof_digest, subnet, paced_until, family_id, issued_tick)
    SELECT next.digest, next.expires_at, next.seed, next.proof, next.subnet, next.paced_until, used.family_id,
        coalesce(:tick, {tick})
    FROM unnest(
        :used, :next_digest, :next_expires_at, :next_seed, :next_proof, :next_subnet, :next_paced_until
    ) AS next (used, digest, expires_at, seed, proof, subnet, paced_until)
    JOIN used ON used.digest = next.used
    RETURNING refresh_tokens.digest
"""
"""Mark tokens used, store their successors, and delete those used long ago; return the digests of the successors.

One statement, as each is a round trip to the server. Rows that others have locked are waited for, or with SKIP LOCKED
passed over as if they were used: a statement that locks many rows and waits could deadlock with another.
"""
_NEXT = {
    "next_digest": "digest",
    "next_expires_at": "expires_at",
    "next_seed": "successor_seed",
    "next_proof": "proof_digest",
    "next_subnet": "subnet",
    "next_paced_until": "paced_until",
}
"""The arrays in which the successors are sent, and the column of each."""
_PARAMETERS: dict[str, TypeEngine[Any]] = {
    "now": Instant(),
    "before": Instant(),
    "tick": BigInteger(),
    "families": ARRAY(String),
    "used": ARRAY(LargeBinary),
    **{name: ARRAY(refresh_tokens.c[column].type) for name, column in _NEXT.items()},
}
_ROTATE = {
    skip_locked: text(_POSTGRESQL.format(locked="SKIP LOCKED" if skip_locked else "", tick=_TICK))
    .bindparams(*(bindparam(name, type_=kind) for name, kind in _PARAMETERS.items()))
    .columns(digest=LargeBinary)
    for skip_locked in (False, True)
}
