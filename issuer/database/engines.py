"""Engines: connections to SQLite and PostgreSQL, their settings, and how each kind of transaction begins.

Which URLs are accepted is defined in `url`, how an SQLite file is created and opened, in `sqlite_file`; transactions
are run by `database`.
"""

import os
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, ExceptionContext
from sqlalchemy.exc import ArgumentError, DisconnectionError

from issuer.database import sqlite_file
from issuer.database.url import PREPARE_THRESHOLD, BadURL

CONNECT_SECONDS = 5
"""The timeout of a connection attempt; then the next host of the URL is tried."""
STATEMENT_SECONDS = 10
"""The timeout of a statement, and of waiting for a connection; then the client is asked to retry."""
IDLE_SECONDS = 2
"""The timeout of an idle transaction: the locks of a process that was stopped within one are released then."""
REQUIRED = {
    "datestyle": "ISO",
    "timezone": "UTC",
    "intervalstyle": "postgres",
    "standard_conforming_strings": "on",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "default_transaction_isolation": "read\\ committed",
    "default_transaction_deferrable": "off",
}
"""Session settings that the driver or this program's statements need, whatever the defaults of the role are."""
REPORTED = {"datestyle": "DateStyle", "timezone": "TimeZone", "intervalstyle": "IntervalStyle"}
"""Names of those settings whose values the server reports to the client."""
NEVER_PREPARED = frozenset({"0", "none"})
"""Values of `prepare_threshold` for "never"; in psycopg 0 means "at once", but in other drivers "never"."""
KEEPALIVES = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""A broken network is detected after about ten seconds (values in seconds; the last one in milliseconds)."""
OUTDATED = frozenset({"0A000", "25006"})
"""Errors that a new session does not have: statements that were prepared before a change of their table; a read-only
session, as the server was a standby, or the role read-only, when it began."""
TRUSTED_SECONDS = 3.0
"""A connection that was used within this time is not tested before its use: the test costs as much as a query."""


class Mode(StrEnum):
    """The kind of a transaction."""

    SINGLE = "single"
    """One statement, in its own transaction."""
    SNAPSHOT = "snapshot"
    """Several statements that read the same snapshot."""
    WRITE = "write"


def connect(url: URL, *, reads: bool = False) -> Engine:
    """Return the engine for a URL from `url.parse`, for reading only if `reads`; raise BadURL."""
    try:
        return _sqlite(url, reads=reads) if url.get_backend_name() == "sqlite" else _postgresql(url)
    except (ArgumentError, ValueError) as error:  # SQLAlchemy's errors about hosts and ports
        raise BadURL(
            "ISSUER_DATABASE_URL has hosts and ports that do not match: write a port for each host"
        ) from error


def in_mode(engine: Engine, mode: Mode) -> Engine:
    """Return `engine` for one kind of transaction."""
    if engine.dialect.name == "sqlite":
        return engine.execution_options(mode=mode)
    levels = {Mode.SNAPSHOT: "REPEATABLE READ", Mode.WRITE: "READ COMMITTED"}
    return engine.execution_options(isolation_level=levels[mode]) if mode in levels else engine


def lift_time_limits(connection: Connection) -> None:
    """Remove the time limits of the connection's current transaction."""
    if connection.dialect.name == "postgresql":
        for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
            connection.execute(text(f"SET LOCAL {limit} = 0"))


def _postgresql(url: URL) -> Engine:
    engine = create_engine(
        url.difference_update_query([PREPARE_THRESHOLD, "options"]),
        hide_parameters=True,
        pool_size=10,
        pool_timeout=STATEMENT_SECONDS,
        connect_args=_connect_arguments(url),
        # Most statements are single: they need no BEGIN, and no rollback afterwards.
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        found = _prepared(connection)
        if found and PREPARE_THRESHOLD not in url.query:
            # The pooler may run the next transaction in another session, where these statements are not prepared.
            connection.prepare_threshold = None

    @event.listens_for(engine, "checkout")
    def test(connection: Any, record: Any, _proxy: object) -> None:
        if time.monotonic() - record.info.get("used_at", time.monotonic()) > TRUSTED_SECONDS:
            try:
                connection.execute("SELECT 1")
                connection.rollback()
            except connection.OperationalError as error:  # the pool opens another connection
                raise DisconnectionError from error

    @event.listens_for(engine, "handle_error")
    def renew(context: ExceptionContext) -> None:
        if getattr(context.original_exception, "sqlstate", None) in OUTDATED:
            context.is_disconnect = True  # the pool replaces this connection and all older ones

    @event.listens_for(engine, "checkin")
    def remember_use(_connection: object, record: Any) -> None:
        record.info["used_at"] = time.monotonic()

    return engine


def _connect_arguments(url: URL) -> dict[str, Any]:
    """Return the driver's arguments: defaults for what the URL does not set, and what every session needs."""
    defaults = {"connect_timeout": CONNECT_SECONDS, **KEEPALIVES}
    arguments: dict[str, Any] = {name: value for name, value in defaults.items() if name not in url.query}
    arguments["client_encoding"] = "utf8"
    arguments["options"] = _options(str(url.query.get("options", os.environ.get("PGOPTIONS", ""))))
    chosen = str(url.query.get(PREPARE_THRESHOLD, ""))
    if chosen:
        arguments[PREPARE_THRESHOLD] = None if chosen in NEVER_PREPARED else int(chosen)
    return arguments


def _options(custom: str) -> str:
    """Return the options of each session: limits, then the `custom` options of the URL, then required settings."""
    limits = {
        "statement_timeout": f"{STATEMENT_SECONDS}s",
        "idle_in_transaction_session_timeout": f"{IDLE_SECONDS}s",
        "lock_timeout": "0",
    }
    defaults, required = (
        " ".join(f"-c {name}={value}" for name, value in each.items()) for each in (limits, REQUIRED)
    )
    return " ".join(filter(None, (defaults, custom, required)))


@dataclass(frozen=True)
class Pooler:
    """A connection pooler, such as PgBouncer, between this program and PostgreSQL."""

    has_limits: bool
    """Whether its sessions have a time limit for idle transactions."""
    role: str
    """The role of its sessions."""


def pooler(connection: Connection) -> Pooler | None:
    """Return the connection pooler that the connection goes through, or None."""
    return _prepared(connection.connection.dbapi_connection)


def _prepared(connection: Any) -> Pooler | None:
    """Correct the settings of a new session, and return the pooler that it goes through, or None.

    Variables of libpq (PGDATESTYLE) override the options of the connection. A pooler may drop the options, but keeps
    the reported settings for each client; and it reports another process id than the server.
    """
    before = connection.autocommit
    connection.autocommit = True
    try:
        for name, value in REQUIRED.items():
            reported = connection.info.parameter_status(REPORTED.get(name, name))
            if reported is not None and reported.partition(",")[0].lower() != value.lower():
                connection.execute(f"SET {name} = '{value}'")
        pid, limit, role, commit = connection.execute(
            "SELECT pg_backend_pid(), current_setting('idle_in_transaction_session_timeout'), current_user,"
            " current_setting('synchronous_commit')"
        ).fetchone()
        # A crash of the server would lose changes that were confirmed: a revocation, a used refresh token.
        if commit == "off":
            connection.execute("SET synchronous_commit = on")
    finally:
        connection.autocommit = before
    return Pooler(limit != "0", role) if pid != connection.info.backend_pid else None


def _sqlite(url: URL, *, reads: bool) -> Engine:
    wait: dict[str, Any] = {"connect_args": {"timeout": sqlite_file.WAIT_SECONDS}}
    if reads:
        wait = {"creator": lambda: sqlite_file.open_existing(Path(url.database or ""))}
    engine = create_engine(url, hide_parameters=True, pool_timeout=STATEMENT_SECONDS, **wait)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver does not begin transactions
        cursor = connection.cursor()
        cursor.execute("PRAGMA synchronous = FULL")  # a commit survives a power failure
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        mode = connection.get_execution_options()["mode"]
        if mode is not Mode.SINGLE:
            # IMMEDIATE takes the write lock at once: SQLite refuses to wait when a read becomes a write.
            connection.exec_driver_sql("BEGIN IMMEDIATE" if mode is Mode.WRITE else "BEGIN")

    return engine
