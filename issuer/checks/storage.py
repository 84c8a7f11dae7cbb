"""What is wrong with the database: its file, its schema, its encoding, and the room that is left for it."""

import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

from issuer.checks.finding import Finding, problem, warning
from issuer.store.database import (
    SCHEMA,
    Database,
    DatabaseDamaged,
    DatabaseForeign,
    DatabaseNewer,
    StoreError,
)
from issuer.store.engines import IDLE_SECONDS, STATEMENT_SECONDS

OTHERS = 0o077
OTHERS_WRITE = 0o022
STICKY = 0o1000
LEAST_SHARE = 0.05
LEAST_BYTES = 200 * 1024 * 1024


def rights(file: Path) -> Iterator[Finding]:
    """Yield who else may read the file of SQLite, or that we cannot write it."""
    folder = file.absolute().parent
    for path in sorted(folder.glob(f"{file.name}*")):
        if path.name in {file.name, f"{file.name}-wal", f"{file.name}-shm"}:
            yield from _private(path)
    if not os.access(folder, os.W_OK | os.X_OK):
        yield problem(
            f"the folder {folder} of the database cannot be written, and SQLite writes beside its file",
            f"chmod u+wx {shlex.quote(str(folder))}",
        )
    mode = folder.stat().st_mode
    if mode & OTHERS_WRITE and not mode & STICKY:
        yield warning(
            f"others may write in the folder {folder} (mode {mode & 0o7777:04o}), and replace the database",
            f"chmod go-w {shlex.quote(str(folder))}",
        )


def _private(path: Path) -> Iterator[Finding]:
    facts, quoted = path.stat(), shlex.quote(str(path))
    if facts.st_uid != os.geteuid():
        yield problem(
            f"{path} belongs to user {facts.st_uid}, not to {os.geteuid()}", f"chown {os.geteuid()} {quoted}"
        )
    elif not os.access(path, os.R_OK | os.W_OK):
        yield problem(f"{path} cannot be read and written", f"chmod 600 {quoted}")
    if facts.st_mode & OTHERS:
        yield problem(
            f"others may read or change {path} (mode {facts.st_mode & 0o7777:04o})", f"chmod 600 {quoted}"
        )


def room(folder: Path) -> Iterator[Finding]:
    """Yield that a disk is nearly full: a revocation must never fail for want of room."""
    usage = shutil.disk_usage(folder)
    if usage.free < LEAST_BYTES or usage.free < LEAST_SHARE * usage.total:
        yield warning(
            f"the disk of {folder} has {usage.free // 1024**2} MiB of {usage.total // 1024**2} MiB left",
            f"df -h {shlex.quote(str(folder))}",
        )


def foreign(database: Database) -> Iterator[Finding]:
    """Yield that the database is another program's."""
    try:
        database.schema()
    except DatabaseForeign as error:
        yield problem(error.message, error.fix)
    except StoreError:
        return  # found by `schema`


def schema(database: Database) -> Iterator[Finding]:
    """Yield why the database cannot be used, or that the next start changes it."""
    if database.file and not database.file.exists():
        yield warning(f"there is no database {database} yet: the first start makes it", "issuer serve")
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
        yield warning(
            f"the database {database} has no tables yet: the first start makes them", "issuer serve"
        )
    elif revision != SCHEMA:
        yield warning(
            f"the database {database} is at revision {revision}, and the next start brings it to {SCHEMA}; back it up"
            " before",
            back_up(database),
        )


def pooler(database: Database) -> Iterator[Finding]:
    """Yield that a connection pooler has dropped the time limits of sessions."""
    try:
        found = database.pooler()
    except StoreError:
        return  # found by `schema`
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
            f"psql --dbname={shlex.quote(database.name)} {commands}",
        )


def url(given: str, error: StoreError) -> Finding:
    """Return that ISSUER_DATABASE_URL cannot be used, with a line of the kind that was meant."""
    meant = "sqlite:///issuer.db"
    if given.lstrip(" '\"").lower().startswith(("postgres", "pg")):
        meant = "postgresql://USER:PASSWORD@HOST:5432/DATABASE"
    return problem(str(error), f"ISSUER_DATABASE_URL={meant}")


def back_up(database: Database) -> str:
    """Return the command that backs the database up."""
    if database.is_sqlite:
        vacuum = 'import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute("VACUUM INTO ?", sys.argv[2:])'
        return f"python3 -c {shlex.quote(vacuum)} {shlex.quote(database.name)} BACKUP"
    return f"pg_dump --format=custom --file=BACKUP {shlex.quote(database.name)}"


def restore(database: Database) -> str:
    """Return the command that restores a backup."""
    if database.is_sqlite:
        return f"cp BACKUP {shlex.quote(database.name)}"
    return f"pg_restore --clean --if-exists --dbname={shlex.quote(database.name)} BACKUP"


def run_statement(database: Database, statement: str) -> str:
    """Return the command that executes a statement."""
    if database.is_sqlite:
        execute = "import sqlite3, sys; b = sqlite3.connect(sys.argv[1]); b.execute(sys.argv[2]); b.commit()"
        return f"python3 -I -c {shlex.quote(execute)} {shlex.quote(database.name)} {shlex.quote(statement)}"
    return f"psql --dbname={shlex.quote(database.name)} -c {shlex.quote(statement)}"


def _reach(database: Database, error: StoreError) -> str:
    name = shlex.quote(database.name)
    if "ENCODING" in str(error):
        return f"createdb --encoding=UTF8 --template=template0 {name}"
    return (
        f"sqlite3 {name} 'PRAGMA integrity_check'"
        if database.is_sqlite
        else f"psql --dbname={name} -c 'SELECT 1'"
    )
