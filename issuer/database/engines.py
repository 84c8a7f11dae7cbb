"""Engines: how SQLite and PostgreSQL are connected to, and what begins each kind of transaction.

Which URLs there are is defined in `url`, what is done in the transactions in the files beside it.
"""

import os
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, ExceptionContext
from sqlalchemy.exc import ArgumentError, DisconnectionError

from issuer.database.url import PREPARE_THRESHOLD, BadURL

FILE_MODE = 0o600
SQLITE_WAIT_SECONDS = 10
SQLITE_RETRY_SECONDS = 0.05
CONNECT_SECONDS = 5
"""After this a host that says nothing is given up, and the next one of the URL is asked."""
STATEMENT_SECONDS = 10
"""After this a statement, or the wait for a connection, is given up, and the client told to come back."""
IDLE_SECONDS = 2
"""A process that is stopped within a transaction loses it after this, with its locks: the others go on."""
RELIED_ON = {
    "datestyle": "ISO",
    "timezone": "UTC",
    "intervalstyle": "postgres",
    "standard_conforming_strings": "on",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "default_transaction_isolation": "read\\ committed",
    "default_transaction_deferrable": "off",
}
"""Settings of a session that the driver or our statements rely on, whatever the role's defaults are."""
REPORTED = {"datestyle": "DateStyle", "timezone": "TimeZone", "intervalstyle": "IntervalStyle"}
"""What the server tells the client of them, under these names."""
NEVER_PREPARED = frozenset({"0", "none"})
"""Values of `prepare_threshold`; to psycopg 0 means "at once", to other drivers and their users "never"."""
SILENCE = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}
"""A network that goes silent is noticed after about ten seconds (seconds, and milliseconds for the last)."""
OUTDATED = frozenset({"0A000", "25006"})
"""Errors of a session that a new one does not have: its prepared statements are of a table as it was before it was
changed; it may only read, as it began when its server or its role could not do more."""
TRUSTED_SECONDS = 3.0
"""A connection that was used so lately is not asked whether it still lives: that costs as much as a query."""


class Mode(StrEnum):
    """What a transaction is for."""

    SINGLE = "single"
    """One statement, which is a transaction of its own."""
    SNAPSHOT = "snapshot"
    """Several statements that see one state."""
    WRITE = "write"


def connect(url: URL, *, reads: bool = False) -> Engine:
    """Return the engine for a URL that `url.parse` returned, one that only `reads` if told so; raise BadURL."""
    try:
        return _sqlite(url, reads=reads) if url.get_backend_name() == "sqlite" else _postgresql(url)
    except (ArgumentError, ValueError) as error:  # what SQLAlchemy makes of hosts and ports among the options
        raise BadURL(
            "ISSUER_DATABASE_URL has options that do not fit together: name a port for each host"
        ) from error


def in_mode(engine: Engine, mode: Mode) -> Engine:
    """Return `engine` for transactions of one kind."""
    if engine.dialect.name == "sqlite":
        return engine.execution_options(mode=mode)
    levels = {Mode.SNAPSHOT: "REPEATABLE READ", Mode.WRITE: "READ COMMITTED"}
    return engine.execution_options(isolation_level=levels[mode]) if mode in levels else engine


def prepare_file(path: Path) -> None:
    """Make SQLite's file, for its owner only, and let readers and a writer work side by side in it.

    Raise OSError or sqlite3.DatabaseError.
    """
    path.touch(mode=FILE_MODE, exist_ok=True)
    if path.stat().st_uid == os.geteuid():
        path.chmod(FILE_MODE)
    deadline = time.monotonic() + SQLITE_WAIT_SECONDS
    with closing(sqlite3.connect(path, timeout=0)) as connection:
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                # SQLite does not always wait for others who do the same at this moment.
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(SQLITE_RETRY_SECONDS)
            else:
                return


def take_time(connection: Connection) -> None:
    """Let the transaction of this connection last for as long as it takes."""
    if connection.dialect.name == "postgresql":
        for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
            connection.execute(text(f"SET LOCAL {limit} = 0"))


def _postgresql(url: URL) -> Engine:
    unless_told = {"connect_timeout": CONNECT_SECONDS, **SILENCE}
    connect: dict[str, Any] = {name: value for name, value in unless_told.items() if name not in url.query}
    connect["client_encoding"] = "utf8"
    connect["options"] = _options(str(url.query.get("options", os.environ.get("PGOPTIONS", ""))))
    chosen = str(url.query.get(PREPARE_THRESHOLD, ""))
    if chosen:
        connect[PREPARE_THRESHOLD] = None if chosen in NEVER_PREPARED else int(chosen)
    engine = create_engine(
        url.difference_update_query([PREPARE_THRESHOLD, "options"]),
        hide_parameters=True,
        pool_size=10,
        pool_timeout=STATEMENT_SECONDS,
        connect_args=connect,
        # As most statements are single, connections are ready for them, and nothing is undone after them.
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
    )

    @event.listens_for(engine, "connect")
    def settle(connection: Any, _record: object) -> None:
        found = _settled(connection)
        if found and not chosen:
            # Another transaction may be given another server, which has other statements under the same names.
            connection.prepare_threshold = None

    @event.listens_for(engine, "checkout")
    def ask(connection: Any, record: Any, _proxy: object) -> None:
        if time.monotonic() - record.info.get("used_at", time.monotonic()) > TRUSTED_SECONDS:
            try:
                connection.execute("SELECT 1")
                connection.rollback()
            except connection.OperationalError as error:  # the pool makes another
                raise DisconnectionError from error

    @event.listens_for(engine, "handle_error")
    def renew(context: ExceptionContext) -> None:
        if getattr(context.original_exception, "sqlstate", None) in OUTDATED:
            context.is_disconnect = True  # the pool makes others in place of this one and all that are older

    @event.listens_for(engine, "checkin")
    def note(_connection: object, record: Any) -> None:
        record.info["used_at"] = time.monotonic()

    return engine


def _options(theirs: str) -> str:
    """Return what each session is set to: limits that the URL may change, its own options, and what is relied on."""
    limits = {
        "statement_timeout": f"{STATEMENT_SECONDS}s",
        "idle_in_transaction_session_timeout": f"{IDLE_SECONDS}s",
        "lock_timeout": "0",
    }
    ours, relied_on = (
        " ".join(f"-c {name}={value}" for name, value in each.items()) for each in (limits, RELIED_ON)
    )
    return " ".join(filter(None, (ours, theirs, relied_on)))


@dataclass(frozen=True)
class Pooler:
    """A connection pooler, PgBouncer for example, that answers in place of the server."""

    has_limits: bool
    """Whether sessions behind it have a time limit on idle transactions."""
    role: str
    """As whom the sessions run."""


def pooler(connection: Connection) -> Pooler | None:
    """Return what stands between this program and PostgreSQL, or None."""
    return _settled(connection.connection.dbapi_connection)


def _settled(connection: Any) -> Pooler | None:
    """Set what a new session of the driver lacks, and return the pooler that it goes through.

    The variables of libpq (PGDATESTYLE) go before the options of the connection, and a pooler may drop those; what is
    reported to the client it keeps for each client. It names a process of its own in place of the server's.
    """
    before = connection.autocommit
    connection.autocommit = True
    try:
        for name, value in RELIED_ON.items():
            reported = connection.info.parameter_status(REPORTED.get(name, name))
            if reported is not None and reported.partition(",")[0].lower() != value.lower():
                connection.execute(f"SET {name} = '{value}'")
        pid, limit, role, commit = connection.execute(
            "SELECT pg_backend_pid(), current_setting('idle_in_transaction_session_timeout'), current_user,"
            " current_setting('synchronous_commit')"
        ).fetchone()
        if (
            commit == "off"
        ):  # what was answered would be gone after a crash: a revocation, a used refresh token
            connection.execute("SET synchronous_commit = on")
    finally:
        connection.autocommit = before
    return Pooler(limit != "0", role) if pid != connection.info.backend_pid else None


def _existing(path: Path) -> sqlite3.Connection:
    """Return a connection to a file that is there, to read; one without permission to write is read as it is."""
    writable = os.access(path, os.W_OK) and os.access(path.absolute().parent, os.W_OK)
    # SQLite itself needs to write files beside one in WAL mode, unless it is told that the file does not change.
    used = Path(f"{path}-wal").exists()
    how = "mode=rw" if writable else "mode=ro" if used else "mode=ro&immutable=1"
    uri = f"file:{quote(str(path.absolute()))}?{how}"
    connection = sqlite3.connect(uri, uri=True, timeout=SQLITE_WAIT_SECONDS, check_same_thread=False)
    connection.text_factory = _decoded
    return connection


def _decoded(text: bytes) -> str | bytes:
    """Return text, or what is none for `rows` to refuse: the driver would refuse all other rows as well."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text


def _sqlite(url: URL, *, reads: bool) -> Engine:
    wait: dict[str, Any] = {"connect_args": {"timeout": SQLITE_WAIT_SECONDS}}
    if reads:
        wait = {"creator": lambda: _existing(Path(url.database or ""))}
    engine = create_engine(url, hide_parameters=True, pool_timeout=STATEMENT_SECONDS, **wait)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver begins no transactions of its own
        cursor = connection.cursor()
        cursor.execute("PRAGMA synchronous = FULL")  # a commit survives a power cut
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        mode = connection.get_execution_options()["mode"]
        if mode is not Mode.SINGLE:
            # IMMEDIATE takes the write lock at once: a read that became a write could not wait for it.
            connection.exec_driver_sql("BEGIN IMMEDIATE" if mode is Mode.WRITE else "BEGIN")

    return engine
