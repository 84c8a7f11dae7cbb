"""Checks of the database: file permissions, schema, encoding, free disk space and connection poolers."""

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from glob import escape
from pathlib import Path

from issuer.checks.finding import Finding, other_user, problem, warning
from issuer.database.database import SCHEMA, Database
from issuer.database.engines import IDLE_SECONDS, STATEMENT_SECONDS
from issuer.database.errors import DatabaseDamaged, DatabaseForeign, DatabaseNewer, StoreError, WrongEncoding
from issuer.fixes import Fix, Kind, as_root, quoted, setting

OTHERS = 0o077
OTHERS_WRITE = 0o022
STICKY = 0o1000
START = Fix(Kind.DATABASE_MISSING, "issuer serve")
LEAST_SHARE = 0.05
LEAST_BYTES = 200 * 1024 * 1024


def permissions(file: Path) -> Iterator[Finding]:
    """Yield problems with the permissions of the SQLite file and its folder."""
    folder = file.absolute().parent
    if not os.path.isfile(file):  # noqa: PTH113 - False for an inaccessible path
        return  # reported by `schema`
    if other := other_user(folder):
        yield other
        return
    for path in sorted(folder.glob(f"{escape(file.name)}*")):
        if path.name in {file.name, f"{file.name}-wal", f"{file.name}-shm"}:
            yield from _private(path)
    if not os.access(folder, os.W_OK | os.X_OK):
        yield problem(
            f"the folder {folder} of the database cannot be written, and SQLite creates files there",
            Fix(Kind.DATABASE_FOLDER_CLOSED, f"chmod u+wx {quoted(folder)}"),
        )
    mode = folder.stat().st_mode
    if mode & OTHERS_WRITE and not mode & STICKY:
        yield warning(
            f"others may write in the folder {folder} (mode {mode & 0o7777:04o}), and replace the database",
            Fix(Kind.DATABASE_FOLDER_EXPOSED, f"chmod go-w {quoted(folder)}"),
        )


def _private(path: Path) -> Iterator[Finding]:
    facts, name, own = path.stat(), quoted(path), os.geteuid()
    if facts.st_uid != own:
        yield problem(
            f"{path} belongs to user {facts.st_uid}, not to {own}",
            Fix(Kind.DATABASE_OWNER, as_root(f"chown {own} {name}")),
        )
    elif not os.access(path, os.R_OK | os.W_OK):
        yield problem(
            f"{path} cannot be read and written", Fix(Kind.DATABASE_UNREADABLE, f"chmod 600 {name}")
        )
        return
    if facts.st_mode & OTHERS:
        yield problem(
            f"others may read or change {path} (mode {facts.st_mode & 0o7777:04o})",
            Fix(Kind.DATABASE_EXPOSED, f"chmod 600 {name}"),
        )


def room(folder: Path) -> Iterator[Finding]:
    """Yield a warning about a disk that is nearly full: a revocation must not fail for lack of space."""
    usage = shutil.disk_usage(folder)
    if usage.free < LEAST_BYTES or usage.free < LEAST_SHARE * usage.total:
        yield warning(
            f"the disk of {folder} has {usage.free // 1024**2} MiB of {usage.total // 1024**2} MiB left",
            Fix(Kind.DISK_FULL, f"df -h {quoted(folder)}", clears=False),
        )


def foreign(database: Database) -> Iterator[Finding]:
    """Yield a problem if the database belongs to another program."""
    try:
        database.schema()
    except DatabaseForeign as error:
        yield problem(error.message, error.fix)
    except StoreError:
        return  # reported by `schema`


def schema(database: Database) -> Iterator[Finding]:
    """Yield why the database cannot be used, or that the next start creates or migrates it."""
    if database.is_missing and database.file:
        folder = database.file.absolute().resolve().parent
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            yield problem(
                f"the database {database} cannot be created: {folder} is not a writable folder",
                setting(Kind.DATABASE_URL, "ISSUER_DATABASE_URL", "sqlite:///issuer.db"),
            )
            return
        yield warning(f"there is no database {database} yet: the first start creates it", START)
        return
    try:
        revision = database.schema().revision
    except (DatabaseNewer, DatabaseDamaged) as error:
        yield problem(str(error), restore(database))
        return
    except StoreError as error:
        yield problem(str(error), _reach(database, error))
        return
    if revision is None:
        yield warning(f"the database {database} has no tables yet: the first start creates them", START)
    elif revision != SCHEMA:
        yield warning(
            f"the database {database} is at revision {revision}, and the next start migrates it to {SCHEMA}; back it"
            " up first",
            Fix(Kind.DATABASE_OUTDATED, back_up(database), clears=False),
        )


def pooler(database: Database) -> Iterator[Finding]:
    """Yield a warning about a connection pooler that drops the time limits of sessions."""
    try:
        found = database.pooler()
    except StoreError:
        return  # reported by `schema`
    if found and not found.has_limits:
        role = '"' + found.role.replace('"', '""') + '"'
        limits = {
            "statement_timeout": STATEMENT_SECONDS * 1000,
            "idle_in_transaction_session_timeout": IDLE_SECONDS * 1000,
        }  # in milliseconds
        commands = " ".join(
            f"-c {shlex.quote(f'ALTER ROLE {role} SET {name} = {limit}')}" for name, limit in limits.items()
        )
        yield warning(
            "a connection pooler is in front of the database, and sessions behind it have no time limits: a process"
            " that is stopped within a transaction keeps its locks; set them for the role, then have the pooler"
            " reconnect (RECONNECT in PgBouncer)",
            Fix(Kind.DATABASE_POOLER, f"psql --dbname={_address(database)} {commands}"),
        )


def url_form(url: str) -> str:
    """Return a template for the URL of the same kind of database."""
    is_sqlite = "sqlite" in url.lower() or not re.search(r"[:@]|postg|psql", url.lower())
    return "sqlite:///issuer.db" if is_sqlite else "postgresql://USER:PASSWORD@HOST:5432/DATABASE"


def back_up(database: Database) -> str:
    """Return the command that backs the database up."""
    if database.is_sqlite:
        vacuum = 'import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute("VACUUM INTO ?", sys.argv[2:])'
        return f"(umask 077 && python3 -I -c {shlex.quote(vacuum)} {quoted(database.name)} BACKUP)"
    return f"(umask 077 && pg_dump --format=custom --file=BACKUP {_address(database)})"


def restore(database: Database) -> Fix:
    """Return the command that restores a backup, and removes the files of SQLite that belong to the old database."""
    if database.is_sqlite:
        beside = " ".join(quoted(f"{database.name}{suffix}") for suffix in ("-wal", "-shm"))
        return Fix(Kind.DATABASE_RESTORE, f"rm -f {beside} && install -m 600 BACKUP {quoted(database.name)}")
    return Fix(
        Kind.DATABASE_RESTORE,
        f"pg_restore --clean --if-exists --single-transaction --dbname={_address(database)} BACKUP",
    )


def run_statement(database: Database, statement: str) -> Fix:
    """Return the command that executes a statement."""
    if database.is_sqlite:
        execute = "import sqlite3, sys; b = sqlite3.connect(sys.argv[1]); b.execute(sys.argv[2]); b.commit()"
        line = f"python3 -I -c {shlex.quote(execute)} {quoted(database.name)} {shlex.quote(statement)}"
    else:
        line = f"psql --dbname={_address(database)} -c {shlex.quote(statement)}"
    return Fix(Kind.HEARTBEATS_DAMAGED, line)


def _reach(database: Database, error: StoreError) -> Fix:
    if database.file and not os.path.isfile(database.file):  # noqa: PTH113 - as above
        return setting(Kind.DATABASE_URL, "ISSUER_DATABASE_URL", "sqlite:///issuer.db")
    if isinstance(error, WrongEncoding):
        new = f"{database.name}_utf8"
        make = "createdb --encoding=UTF8 --template=template0"
        url = database.url_for_programs(new)
        if ":***@" in str(database):
            url = url.replace("@", ":PASSWORD@", 1)
        return Fix(
            Kind.DATABASE_ENCODING,
            f"{make} --maintenance-db={_address(database)} {quoted(new)}\n"
            f"{setting(Kind.DATABASE_ENCODING, 'ISSUER_DATABASE_URL', url)}",
        )
    diagnosis = (
        f"sqlite3 {quoted(database.name)} 'PRAGMA integrity_check'"
        if database.is_sqlite
        else f"psql --dbname={_address(database)} -c 'SELECT 1'"
    )
    return Fix(Kind.DATABASE_UNREACHABLE, diagnosis, clears=False)


def _address(database: Database) -> str:
    """Return the URL without the password, which PostgreSQL's programs read from PGPASSWORD or ask for."""
    return shlex.quote(database.url_for_programs())
