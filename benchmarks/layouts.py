"""The refresh tables filled with made-up sessions, in the schema as it is, and with the tokens partitioned.

What is measured on them is `growth`'s work. Every session has one token; a number names both.
"""

import hashlib
from dataclasses import dataclass

import psycopg

USERS = 10_000
DAYS = 30
PARTITIONS = 16
SESSIONS = """
INSERT INTO users SELECT md5('user' || i)::uuid::text, 'user' || i, 'user' || i, repeat('x', 97), 'items:read', now()
  FROM generate_series(0, {users} - 1) i;
INSERT INTO families
  SELECT md5(i::text)::uuid::text, md5('user' || i % {users})::uuid::text, 'first-party', 'items:read items:write',
    '["https://api.example", "https://issuer.example"]', now(), now() + '360 days'::interval, NULL,
    'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36',
    '203.0.113.' || i % 256
  FROM generate_series(1, {rows}) i;
INSERT INTO refresh_tokens
  SELECT sha256(i::text::bytea), md5(i::text)::uuid::text, now() + i % 720 * '1 hour'::interval + '30 minutes',
    sha256('seed'), NULL
  FROM generate_series(1, {rows}) i;
"""
COLUMNS = """
DROP TABLE refresh_tokens;
CREATE TABLE refresh_tokens (digest bytea NOT NULL,
  family_id varchar(36) NOT NULL REFERENCES families ON DELETE CASCADE, expires_at timestamptz NOT NULL,
  successor_seed bytea NOT NULL, used_at timestamptz, proof_digest bytea, site text, paced_until timestamptz,
  issued_tick bigint, repeated_at timestamptz, PRIMARY KEY ({key})) PARTITION BY {by};
CREATE INDEX ON refresh_tokens (family_id);
CREATE INDEX ON refresh_tokens (expires_at);
"""


@dataclass(frozen=True)
class Layout:
    """How the tokens are kept: the statements that make it of the schema as it is."""

    make: str = ""
    drop: str = ""
    """What lets a day's tokens go, where that is one statement."""
    count_of_drop: str = ""


def _hashed(column: str, key: str) -> str:
    parts = (
        f"CREATE TABLE tokens_{n} PARTITION OF refresh_tokens"
        f" FOR VALUES WITH (MODULUS {PARTITIONS}, REMAINDER {n});"
        for n in range(PARTITIONS)
    )
    more = "" if key == "digest" else "CREATE INDEX ON refresh_tokens (digest);"
    return COLUMNS.format(key=key, by=f"HASH ({column})") + more + "".join(parts)


def _by_day() -> str:
    parts = (
        f"EXECUTE format('CREATE TABLE tokens_{n} PARTITION OF refresh_tokens FOR VALUES FROM (%L) TO (%L)',"
        f" today + {n}, today + {n + 1});"
        for n in range(DAYS + 2)
    )
    declared = "DO $$ DECLARE today date := now()::date; BEGIN " + "".join(parts) + " END $$;"
    return COLUMNS.format(key="digest, expires_at", by="RANGE (expires_at)") + declared


LAYOUTS = {
    "one table": Layout(),
    "hash of the digest, 16": Layout(_hashed("digest", "digest")),
    "hash of the family, 16": Layout(_hashed("family_id", "family_id, digest")),
    "range of expiry, a day each, 32": Layout(
        _by_day(), "DROP TABLE tokens_1", "SELECT count(*) FROM tokens_1"
    ),
}


def fill(connection: psycopg.Connection, layout: Layout, rows: int, fillfactor: int = 100) -> None:
    """Make the layout of a new schema, and so many sessions in it."""
    if layout.make:
        connection.execute(layout.make)  # type: ignore[arg-type]  # built of constants
    elif fillfactor != 100:  # noqa: PLR2004 - the server's default
        connection.execute(f"ALTER TABLE refresh_tokens SET (fillfactor = {fillfactor})")  # type: ignore[arg-type]
    connection.execute(SESSIONS.format(users=USERS, rows=rows))  # type: ignore[arg-type]


def token_of(number: int) -> bytes:
    """Return the digest of a session's token."""
    return hashlib.sha256(str(number).encode()).digest()


def families_of(offset: int, count: int, rows: int) -> range:
    """Return the numbers of so many sessions, spread over the whole table; another offset, other ones."""
    return range(1 + offset, rows + 1, rows // count)
