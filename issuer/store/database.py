"""The database itself: transactions, the types of columns, and bringing the schema up to date.

What the tables hold is told in the files beside this one.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from functools import cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

from sqlalchemy import Connection, DateTime, Dialect, MetaData, Row, Table, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.types import TypeDecorator

from issuer.callbacks import notify
from issuer.fixes import Fix, Kind, setting
from issuer.store.engines import Mode, Pooler, connect, in_mode, pooler, prepare_file, take_time
from issuer.store.schema import Damaged, Elsewhere, NotOurs, Schema, look
from issuer.store.url import BadURL, for_programs, of_file, parse, shown
from issuer.waiting import require_patience

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

P = ParamSpec("P")
T = TypeVar("T")

SCHEMA: Final = "0006"
"""The newest migration; a test compares it with the files."""
LOCK_NOT_AVAILABLE = "55P03"  # PostgreSQL, appendix A
_CURRENT: Final = Schema(SCHEMA, is_marked=True)
_MIGRATION_LOCK: Final = 0x69737375  # any number that is always the same: "issu"

metadata = MetaData()


class StoreError(Exception):
    """The database cannot be used; says why and what to do.

    StoreError
      DatabaseUnavailable  it does not answer
        Locked             others hold what is to be changed, and it was not
      DatabaseNewer        it was migrated by a newer version of this program
      DatabaseForeign      it is another program's
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


class DatabaseForeign(StoreError):
    """The database holds what another program made, and nothing was changed.

    `held` says what it holds, `fix` names another one.
    """

    def __init__(self, message: str, held: str, fix: Fix) -> None:
        super().__init__(f"{message}: {fix}")
        self.message = message
        self.held = held
        self.fix = fix


class DatabaseDamaged(StoreError):
    """What is in the database cannot be what this program wrote."""


class Instant(TypeDecorator[datetime]):
    """An instant with its zone, on databases that forget it (SQLite) too; always UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], datetime | None] | None:
        """Read what another program may have written: SQLite keeps any type in any column."""
        read = super().result_processor(dialect, coltype)
        if read is None:
            return None

        def checked(value: Any) -> datetime | None:
            try:
                return read(value)
            except (ValueError, TypeError, OverflowError):
                raise DatabaseDamaged(
                    "the database holds an instant that cannot be read: restore the backup, and find out who can"
                    " write there"
                ) from None

        return checked

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

    def __init__(self, url: str, *, reads: bool = False) -> None:
        """Make nothing yet; one that only `reads` never makes a file, and takes no right to write."""
        try:
            self._url = parse(url)
            self._engine = connect(self._url, reads=reads)
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
            return of_file(Path(self._url.database).resolve())
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
            reason = _reason(cause or error)
            kind = Locked if getattr(cause, "sqlstate", None) == LOCK_NOT_AVAILABLE else DatabaseUnavailable
            raise kind(f"the database {self} cannot be used: {reason}") from error
        finally:
            if joint is None:
                notify(self.took, "write" if writes else "read", time.perf_counter() - began)

    def migrate(self) -> None:
        """Bring the schema up to date, once, however many processes start together.

        Raise what `schema` raises; nothing is changed then.
        """
        found = self.schema()  # before the file is touched: it may be another program's
        if self.is_sqlite:
            self._prepare_file()
        if found == _CURRENT:
            return
        self.is_new = found.revision is None
        # alembic takes a third of a second to import, and most starts need none of it
        from issuer.store.migrations import UnknownRevision, upgrade  # noqa: PLC0415

        with self.write() as connection:  # on SQLite this holds the only write lock already
            if not self.is_sqlite:
                _require_utf8(connection)
                take_time(connection)  # another may migrate for long
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
            if self._look(connection) == _CURRENT:
                return  # another process was faster
            try:
                upgrade(connection)
            except UnknownRevision as error:
                raise self._newer() from error

    def schema(self) -> Schema:
        """Return what the database holds; nothing is made or changed.

        Raise DatabaseNewer for a schema of a later version, DatabaseForeign for what another program made,
        DatabaseDamaged where tables are missing, DatabaseUnavailable when it does not answer or is not in UTF-8.
        """
        try:
            if self.file and not self.file.exists():
                return Schema()
            if self.file and not self.file.is_file():  # a device would be closed to everybody else
                raise DatabaseUnavailable(f"the database {self} cannot be used: it is no regular file")
            if self.file and not self.file.stat().st_size:
                return Schema()
        except OSError as error:
            raise DatabaseUnavailable(f"the database {self} cannot be used: {error.strerror}") from error
        with self.snapshot() as connection:
            if not self.is_sqlite:
                _require_utf8(connection)
            return self._look(connection)

    def is_current(self) -> bool:
        """Tell whether the schema is the newest that this program knows."""
        return self.schema() == _CURRENT

    @property
    def file(self) -> Path | None:
        """The file of SQLite, or None."""
        return Path(self._url.database) if self.is_sqlite and self._url.database else None

    @property
    def name(self) -> str:
        """The name of the database, or the path of its file."""
        return self._url.database or ""

    def url_for_programs(self, name: str | None = None) -> str:
        """Return the URL of PostgreSQL, or of the database `name` beside it, for psql: without passwords."""
        return for_programs(self._url.set(database=name) if name else self._url)

    def _look(self, connection: Connection) -> Schema:
        try:
            found = look(connection, metadata.tables, SCHEMA)
        except NotOurs as error:
            raise self._foreign(error.held) from None
        except Damaged as error:
            raise DatabaseDamaged(
                f"the database {self} is not as this program left it: {error}; restore the backup"
            ) from None
        except Elsewhere as error:
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
            f"the database {self} holds tables of another program, or a part of a backup of this one ({held});"
            f" nothing was changed; give the issuer a {own} of its own",
            held,
            setting(Kind.DATABASE_FOREIGN, "ISSUER_DATABASE_URL", url),
        )

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

    def pooler(self) -> Pooler | None:
        """Return the connection pooler in front of PostgreSQL, or None; raise DatabaseUnavailable."""
        if self.is_sqlite:
            return None
        with self.read() as connection:
            return pooler(connection)

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


def reads(
    table: Table,
) -> Callable[[Callable[Concatenate[Row[Any], P], T]], Callable[Concatenate[Row[Any], P], T]]:
    """Let what reads a row of `table` raise DatabaseDamaged for one that this program cannot have written.

    SQLite keeps any type in any column, and JSON in a column may be anything.
    """

    def decorated(read: Callable[Concatenate[Row[Any], P], T]) -> Callable[Concatenate[Row[Any], P], T]:
        @wraps(read)
        def checked(row: Row[Any], /, *more: P.args, **named: P.kwargs) -> T:
            prefix = str(more[0]) if more else ""
            try:
                for name, kind, optional in _kinds(table):
                    value = getattr(row, prefix + name)
                    if not (isinstance(value, kind) or (value is None and optional)):
                        raise TypeError(name)  # noqa: TRY301 - one way out of all that cannot be read
                return read(row, *more, **named)
            except (ValueError, TypeError, LookupError):
                raise DatabaseDamaged(
                    f"a row of {table.name} in the database is damaged: restore the backup, and find out who can"
                    " write there"
                ) from None

        return checked

    return decorated


@cache
def _kinds(table: Table) -> tuple[tuple[str, type, bool], ...]:
    return tuple((column.name, column.type.python_type, bool(column.nullable)) for column in table.c)


def texts(document: str) -> tuple[str, ...]:
    """Return a list of strings from the JSON of a column; raise ValueError for anything else."""
    found = json.loads(document)
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise ValueError("not a list of strings")
    return tuple(found)


def _reason(error: BaseException) -> str:
    """Return what the driver says in one line, and what to do where that is known."""
    said = " ".join(str(error).split())
    if "unsupported startup parameter" in said:
        said += "; PgBouncer needs ignore_startup_parameters = options, see docs/scaling.md"
    return said


def _require_utf8(connection: Connection) -> None:
    encoding = connection.scalar(text("SHOW server_encoding"))
    if encoding != "UTF8":
        raise DatabaseUnavailable(f"the database is encoded in {encoding}; create it with: ENCODING 'UTF8'")
