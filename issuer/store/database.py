"""The database itself: transactions, the types of columns, and bringing the schema up to date.

What the tables hold is told in the files beside this one.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, DateTime, Dialect, MetaData, Table, inspect, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.types import TypeDecorator

from issuer.store.engines import Mode, connect, in_mode, prepare_file, take_time
from issuer.store.url import BadURL, parse, shown
from issuer.waiting import require_patience

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

SCHEMA: Final = "0004"
"""The newest migration; a test compares it with the files."""
LOCK_NOT_AVAILABLE = "55P03"  # PostgreSQL, appendix A
_MIGRATION_LOCK: Final = 0x69737375  # any number that is always the same: "issu"

metadata = MetaData()


class StoreError(Exception):
    """The database cannot be used; says why and what to do.

    StoreError
      DatabaseUnavailable  it does not answer
        Locked             others hold what is to be changed, and it was not
      DatabaseNewer        it was migrated by a newer version of this program
      DatabaseDamaged      what is in it cannot be what this program wrote
      ring.Moved           its key ring was moved into another
    """


class DatabaseUnavailable(StoreError):
    """The database does not answer, or the URL is not one of a database."""


class Locked(DatabaseUnavailable):
    """Others hold what is to be changed for too long; nothing was changed."""


class NotTogether(Exception):
    """A change can only be made in a transaction of its own."""


class DatabaseNewer(StoreError):
    """The database was migrated by a newer version of this program."""


class DatabaseDamaged(StoreError):
    """What is in the database cannot be what this program wrote."""


class Instant(TypeDecorator[datetime]):
    """An instant with its zone, on databases that forget it (SQLite) too; always UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Send UTC."""
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Receive UTC."""
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class Database:
    """One database; every use is a transaction that commits as a whole or not at all."""

    def __init__(self, url: str) -> None:
        try:
            self._url = parse(url)
            self._engine = connect(self._url)
        except BadURL as error:
            raise DatabaseUnavailable(str(error)) from None
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        self.is_new = False
        """Whether `migrate` made the first tables."""
        # Made once: each costs as much as a query.
        self._engines = {mode: in_mode(self._engine, mode) for mode in Mode}
        self._joint = threading.local()
        self.ticks: Callable[[], int | None] = host_ticks if self.is_sqlite else lambda: None
        """Microseconds by a clock that is one for all nodes, and that setting the time of a node does not move.

        For SQLite the machine's time since its start; None: the clock of the PostgreSQL server is to be asked.
        """
        self.took: Callable[[str, float], None] = lambda _use, _seconds: None
        """Is told of each transaction whether it was a `read` or a `write`, and how many seconds it took."""

    def __str__(self) -> str:
        if self.is_sqlite and self._url.database:
            return f"sqlite:///{Path(self._url.database).resolve()}"
        return shown(self._url)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a connection for one statement that changes nothing; raise DatabaseUnavailable."""
        with self._transaction(Mode.SINGLE, writes=False) as connection:
            yield connection

    @contextmanager
    def change(self) -> Iterator[Connection]:
        """Yield a connection for one statement, durable once it has been executed; raise DatabaseUnavailable."""
        with self._transaction(Mode.SINGLE, writes=True) as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Yield a connection whose statements all see one state; raise DatabaseUnavailable."""
        with self._transaction(Mode.SNAPSHOT, writes=False) as connection:
            yield connection

    @contextmanager
    def write(self, *, lock_seconds: float | None = None) -> Iterator[Connection]:
        """Yield a connection whose changes are committed at the end, durably, or not at all.

        Raise DatabaseUnavailable; or Locked, if others hold one of the rows for longer than `lock_seconds`.
        """
        with self._transaction(Mode.WRITE, writes=True) as connection:
            if lock_seconds is not None and not self.is_sqlite:
                connection.execute(text(f"SET LOCAL lock_timeout = '{lock_seconds}s'"))
            yield connection

    @contextmanager
    def together(self) -> Iterator[None]:
        """Let all that this thread reads and writes in the block be one transaction, committed at its end.

        Raise DatabaseUnavailable, also from within; NotTogether where something can only be done alone.
        """
        with self._transaction(Mode.WRITE, writes=True) as connection:
            self._joint.connection = connection
            try:
                yield
            finally:
                self._joint.connection = None

    def undo(self, connection: Connection) -> None:
        """Take back what `write` did with its connection; raise NotTogether for a part of a whole."""
        if getattr(self._joint, "connection", None) is not None:
            raise NotTogether
        connection.rollback()

    @contextmanager
    def _transaction(self, mode: Mode, *, writes: bool) -> Iterator[Connection]:
        require_patience()
        joint: Connection | None = getattr(self._joint, "connection", None)
        began = time.perf_counter()
        try:
            if joint is not None:
                yield joint
                return
            engine, alone = self._engines[mode], mode is Mode.SINGLE
            with engine.connect() as connection, nullcontext() if alone else connection.begin():
                yield connection
        except IntegrityError:
            raise
        except (DBAPIError, PoolTimeout) as error:
            cause = getattr(error, "orig", None)
            reason = " ".join(str(cause or error).split())
            kind = Locked if getattr(cause, "sqlstate", None) == LOCK_NOT_AVAILABLE else DatabaseUnavailable
            raise kind(f"the database {self} cannot be used: {reason}") from error
        finally:
            if joint is None:
                self.took("write" if writes else "read", time.perf_counter() - began)

    def migrate(self) -> None:
        """Bring the schema up to date, once, however many processes start together.

        Raise DatabaseNewer for a schema of a later version, DatabaseUnavailable when it does not answer.
        """
        if self.is_sqlite:
            self._prepare_file()
        revision = self.revision()
        if revision == SCHEMA:
            return
        self.is_new = revision is None
        # alembic takes a third of a second to import, and most starts need none of it
        from issuer.store.migrations import UnknownRevision, upgrade  # noqa: PLC0415

        with self.write() as connection:  # on SQLite this holds the only write lock already
            if not self.is_sqlite:
                _require_utf8(connection)
                take_time(connection)  # another may migrate for long
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
            try:
                upgrade(connection)
            except UnknownRevision as error:
                raise self._newer() from error

    def require_known(self) -> str | None:
        """Return the revision of the schema, or None without tables; DatabaseNewer if this program cannot know it.

        Nothing is made or changed. Raise DatabaseUnavailable when it does not answer, or is not encoded in UTF-8.
        """
        revision = self.revision()
        if revision is not None and revision > SCHEMA:
            raise self._newer()
        if not self.is_sqlite:
            with self.read() as connection:
                _require_utf8(connection)
        return revision

    def is_current(self) -> bool:
        """Tell whether the schema is the newest that this program knows."""
        return self.revision() == SCHEMA

    def revision(self) -> str | None:
        """Return the revision of the schema, or None without tables; raise DatabaseUnavailable."""
        with self.snapshot() as connection:
            return _revision(connection)

    @property
    def file(self) -> Path | None:
        """The file of SQLite, or None."""
        return Path(self._url.database) if self.is_sqlite and self._url.database else None

    @property
    def name(self) -> str:
        """The name of the database, or the path of its file."""
        return self._url.database or ""

    def _newer(self) -> DatabaseNewer:
        return DatabaseNewer(
            f"the database {self} was migrated by a newer version of this program (this one knows revision {SCHEMA});"
            " install that version, or restore the backup made before the upgrade"
        )

    def _prepare_file(self) -> None:
        try:
            prepare_file(Path(self._url.database or ""))
        except OSError as error:
            raise DatabaseUnavailable(f"cannot make the database {self}: {error.strerror}") from error
        except sqlite3.DatabaseError as error:
            raise DatabaseUnavailable(f"the database {self} cannot be used: {error}") from error

    def clock(self) -> datetime | None:
        """Return what the server's clock says, or None where the database has none but ours; DatabaseUnavailable."""
        if self.is_sqlite:
            return None
        with self.read() as connection:
            now: datetime | None = connection.scalar(text("SELECT clock_timestamp()"))
        return now

    def ping(self) -> None:
        """Do nothing with the database but reach it; raise DatabaseUnavailable."""
        with self.read() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        """Give all connections back."""
        self._engine.dispose()


def host_ticks() -> int:
    """Return the microseconds since this machine was started, sleep included where the platform counts it."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # the first is Linux's
    return time.clock_gettime_ns(clock) // 1000


def upserting(connection: Connection, table: Table) -> "postgresql.Insert | sqlite.Insert":
    """Return an insert that may say what to do on a conflict; both databases say it alike."""
    # Only here: importing every driver of PostgreSQL that there is would take longer than all else of a start.
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql  # noqa: PLC0415

        return postgresql.insert(table)
    from sqlalchemy.dialects import sqlite  # noqa: PLC0415

    return sqlite.insert(table)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def _require_utf8(connection: Connection) -> None:
    encoding = connection.scalar(text("SHOW server_encoding"))
    if encoding != "UTF8":
        raise DatabaseUnavailable(f"the database is encoded in {encoding}; create it with: ENCODING 'UTF8'")
