"""The database: transactions, and migration of the schema.

Tables are defined in the packages that own their data, types of columns in `types`, errors in `errors`, the file of
an SQLite database in `sqlite_file`.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, MetaData, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from issuer.blocking import require_blocking_allowed
from issuer.callbacks import notify
from issuer.database.engines import Mode, Pooler, connect, in_mode, lift_time_limits, pooler
from issuer.database.errors import (
    DatabaseDamaged,
    DatabaseForeign,
    DatabaseNewer,
    DatabaseUnavailable,
    WrongEncoding,
    kind_of,
    reason_of,
)
from issuer.database.schema import Damaged, ForeignTables, Schema, WrongSearchPath, inspect_schema
from issuer.database.sqlite_file import SQLiteFile
from issuer.database.url import BadURL, for_programs, of_file, parse, shown
from issuer.fixes import Kind, setting

SCHEMA: Final = "0006"
"""The newest revision; a test compares it with the files in `migrations`."""
_CURRENT: Final = Schema(SCHEMA)
_MIGRATION_LOCK: Final = 0x69737375  # any constant number: "issu"

metadata = MetaData()


class Database:
    """One database; each use is a transaction."""

    def __init__(self, url: str, *, reads: bool = False) -> None:
        """Prepare connections, and open none; with `reads` no file is created, and no write permission is needed."""
        try:
            self._url = parse(url)
            self._engine = connect(self._url, reads=reads)
        except BadURL as error:
            raise DatabaseUnavailable(str(error)) from None
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        self._file = SQLiteFile(Path(self._url.database or "")) if self.is_sqlite else None
        self.is_new = False
        """Whether `migrate` has created the tables."""
        # Created once: that takes as long as a query.
        self._engines = {mode: in_mode(self._engine, mode) for mode in Mode}
        self._joint = threading.local()
        self.shared_clock: Callable[[], int | None] = uptime_microseconds if self.is_sqlite else lambda: None
        """Returns microseconds of a clock that all nodes share, and that setting the time of a node does not change.

        For SQLite, whose nodes run on one machine, its uptime. None: use the clock of the PostgreSQL server.
        """
        self.took: Callable[[str, float], None] = lambda _use, _seconds: None
        """Called after each transaction with `read` or `write`, and its duration in seconds."""

    def __str__(self) -> str:
        return str(self._file) if self._file else shown(self._url)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a connection for one statement that only reads; raise DatabaseUnavailable."""
        with self._transaction(Mode.SINGLE, writes=False) as connection:
            yield connection

    @contextmanager
    def change(self) -> Iterator[Connection]:
        """Yield a connection for one statement, which is committed when it has been executed."""
        with self._transaction(Mode.SINGLE, writes=True) as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Yield a connection whose statements read the same snapshot; raise DatabaseUnavailable."""
        with self._transaction(Mode.SNAPSHOT, writes=False) as connection:
            yield connection

    @contextmanager
    def write(self, *, lock_seconds: float | None = None) -> Iterator[Connection]:
        """Yield a connection whose changes are committed together at the end of the block.

        Raise DatabaseUnavailable; or Locked, if another transaction locks a row for longer than `lock_seconds`.
        """
        with self._transaction(Mode.WRITE, writes=True) as connection:
            if lock_seconds is not None and not self.is_sqlite:
                connection.execute(text(f"SET LOCAL lock_timeout = '{lock_seconds}s'"))
            yield connection

    @contextmanager
    def together(self) -> Iterator[None]:
        """Run everything that this thread reads and writes in the block in one transaction, committed at its end.

        A block within another is part of it. Raise DatabaseUnavailable, also within the block.
        """
        if getattr(self._joint, "connection", None) is not None:
            yield
            return
        with self._transaction(Mode.WRITE, writes=True) as connection:
            self._joint.connection = connection
            try:
                yield
            finally:
                self._joint.connection = None

    @contextmanager
    def _transaction(self, mode: Mode, *, writes: bool) -> Iterator[Connection]:
        require_blocking_allowed()
        joint: Connection | None = getattr(self._joint, "connection", None)
        began = time.perf_counter()
        try:
            if joint is not None:
                yield joint
                return
            engine, alone = self._engines[mode], mode is Mode.SINGLE
            if self._file:
                self._file.require_in_place()
            with engine.connect() as connection, nullcontext() if alone else connection.begin():
                if self._file:
                    self._file.opened()
                yield connection
        except IntegrityError:
            raise
        except (DBAPIError, PoolTimeout) as error:
            cause = getattr(error, "orig", None)
            reason = reason_of(cause or error)
            raise kind_of(cause)(f"the database {self} cannot be used: {reason}") from error
        finally:
            if joint is None:
                notify(self.took, "write" if writes else "read", time.perf_counter() - began)

    def migrate(self) -> None:
        """Upgrade the schema to the newest revision; of several processes that start together, one does it.

        Raise what `schema` raises, before anything is changed.
        """
        found = self.schema()  # before the file is changed: it may belong to another program
        if self._file:
            self._file.create()
        if found == _CURRENT:
            return
        self.is_new = found.revision is None
        # importing alembic takes a third of a second, and most starts need no migration
        from issuer.database.migrations import UnknownRevision, upgrade  # noqa: PLC0415

        with self.write() as connection:  # on SQLite this takes the only write lock
            if not self.is_sqlite:
                _require_utf8(connection)
                lift_time_limits(connection)  # the migration of another process may take long
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
            if self._look(connection) == _CURRENT:
                return  # another process has migrated
            try:
                upgrade(connection)
            except UnknownRevision as error:
                raise self._newer() from error

    def schema(self) -> Schema:
        """Return the schema of the database, without changing anything.

        Raise DatabaseNewer for the schema of a newer version, DatabaseForeign for tables of another program,
        DatabaseDamaged if tables are missing, DatabaseUnavailable if it does not answer or is not in UTF-8.
        """
        if self._file and (self._file.is_missing or self._file.is_empty()):
            return Schema()
        with self.snapshot() as connection:
            if not self.is_sqlite:
                _require_utf8(connection)
            return self._look(connection)

    def is_current(self) -> bool:
        """Whether the schema has the newest revision."""
        return self.schema() == _CURRENT

    @property
    def file(self) -> Path | None:
        """The file of an SQLite database; None for PostgreSQL."""
        return self._file.path if self._file else None

    @property
    def is_missing(self) -> bool:
        """Whether this is an SQLite file that does not exist; `schema` reports one without permission."""
        return self._file is not None and self._file.is_missing

    @property
    def name(self) -> str:
        """The name of the database, or the path of the file."""
        return self._url.database or ""

    def url_for_programs(self, name: str | None = None) -> str:
        """Return the URL for psql, without passwords; with `name`, that of another database of the server."""
        return for_programs(self._url.set(database=name) if name else self._url)

    def _look(self, connection: Connection) -> Schema:
        try:
            found = inspect_schema(connection, metadata.tables, SCHEMA)
        except ForeignTables as error:
            raise self._foreign(error.held) from None
        except Damaged as error:
            raise DatabaseDamaged(
                f"the database {self} was changed by another program: {error}; restore the backup"
            ) from None
        except WrongSearchPath as error:
            raise DatabaseUnavailable(f"the database {self} cannot be used: {error}") from None
        if found.revision is not None and found.revision > SCHEMA:
            raise self._newer()
        return found

    def _foreign(self, held: str) -> DatabaseForeign:
        own = "database" if self.is_sqlite else "database, or a schema,"
        url = "postgresql://USER@HOST/NEW_DATABASE"
        if self.file:
            url = of_file(self.file.with_name("jwks-issuer.db"))
        return DatabaseForeign(
            f"the database {self} contains tables of another program, or a part of a backup of this one ({held});"
            f" nothing was changed; give the issuer a {own} of its own",
            held,
            setting(Kind.DATABASE_FOREIGN, "ISSUER_DATABASE_URL", url),
        )

    def _newer(self) -> DatabaseNewer:
        return DatabaseNewer(
            f"the database {self} was migrated by a newer version of this program (this one knows revision {SCHEMA});"
            " install that version, or restore the backup made before the upgrade"
        )

    def clock(self) -> datetime | None:
        """Return the time of the database server, or None for SQLite; raise DatabaseUnavailable."""
        if self.is_sqlite:
            return None
        with self.read() as connection:
            now: datetime | None = connection.scalar(text("SELECT clock_timestamp()"))
        return now

    def pooler(self) -> Pooler | None:
        """Return the connection pooler in front of PostgreSQL, or None; raise DatabaseUnavailable."""
        if self.is_sqlite:
            return None
        with self.read() as connection:
            return pooler(connection)

    def ping(self) -> None:
        """Raise DatabaseUnavailable if the database does not answer, or is read-only."""
        with self.read() as connection:
            if self.is_sqlite:
                connection.execute(text("SELECT 1"))
            elif connection.scalar(text("SHOW transaction_read_only")) == "on":
                connection.invalidate()
                raise DatabaseUnavailable(
                    f"the database {self} cannot be used: the server is read-only, a standby"
                )

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()
        if self._file:
            self._file.closed()


def uptime_microseconds() -> int:
    """Return the uptime of this machine; it includes the time in suspend where the platform counts it."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # the first is Linux's
    return time.clock_gettime_ns(clock) // 1000


def _require_utf8(connection: Connection) -> None:
    encoding = connection.scalar(text("SHOW server_encoding"))
    if encoding != "UTF8":
        raise WrongEncoding(f"the database is encoded in {encoding}; create it with: ENCODING 'UTF8'")
