"""Engines: how SQLite and PostgreSQL are connected to, and what begins each kind of transaction.

Which URLs there are is told in `url`, what is done in the transactions in the files beside it.
"""

import os
import sqlite3
import time
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DisconnectionError

from issuer.store.url import BadURL

FILE_MODE = 0o600
SQLITE_WAIT_SECONDS = 10
SQLITE_RETRY_SECONDS = 0.05
CONNECT_SECONDS = 5
"""After this a host that says nothing is given up, and the next one of the URL is asked."""
STATEMENT_SECONDS = 10
"""After this a statement, or the wait for a connection, is given up, and the client told to come back."""
IDLE_SECONDS = 2
"""A process that is stopped within a transaction loses it after this, with its locks: the others go on."""
SILENCE = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}
"""A network that goes silent is noticed after about ten seconds (seconds, and milliseconds for the last)."""
TRUSTED_SECONDS = 3.0
"""A connection that was used so lately is not asked whether it still lives: that costs as much as a query."""


class Mode(StrEnum):
    """What a transaction is for."""

    SINGLE = "single"
    """One statement, which is a transaction of its own."""
    SNAPSHOT = "snapshot"
    """Several statements that see one state."""
    WRITE = "write"


def connect(url: URL) -> Engine:
    """Return the engine for a URL that `url.parse` returned; raise BadURL."""
    try:
        return _sqlite(url) if url.get_backend_name() == "sqlite" else _postgresql(url)
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
    limits = (
        f"-c statement_timeout={STATEMENT_SECONDS}s -c idle_in_transaction_session_timeout={IDLE_SECONDS}s"
    )
    unless_told = {"connect_timeout": CONNECT_SECONDS, "options": limits, **SILENCE}
    connect = {name: value for name, value in unless_told.items() if name not in url.query}
    connect["client_encoding"] = "utf8"
    engine = create_engine(
        url,
        hide_parameters=True,
        pool_size=10,
        pool_timeout=STATEMENT_SECONDS,
        connect_args=connect,
        # As most statements are single, connections are ready for them, and nothing is undone after them.
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
    )

    @event.listens_for(engine, "checkout")
    def ask(connection: Any, record: Any, _proxy: object) -> None:
        if time.monotonic() - record.info.get("used_at", time.monotonic()) > TRUSTED_SECONDS:
            try:
                connection.execute("SELECT 1")
                connection.rollback()
            except connection.OperationalError as error:  # the pool makes another
                raise DisconnectionError from error

    @event.listens_for(engine, "checkin")
    def note(_connection: object, record: Any) -> None:
        record.info["used_at"] = time.monotonic()

    return engine


def _sqlite(url: URL) -> Engine:
    wait = {"timeout": SQLITE_WAIT_SECONDS}
    engine = create_engine(url, hide_parameters=True, pool_timeout=STATEMENT_SECONDS, connect_args=wait)

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
