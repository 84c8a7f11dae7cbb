"""A real PostgreSQL for the length of a test run, as an unprivileged user when the tests run as root.

One with a replica, for the loss of a server, is in `replication`.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import psycopg
from psycopg import sql

from support.components import require

USER = "issuer"
HOST = "127.0.0.1"

_empty: defaultdict[str, list[str]] = defaultdict(list)
"""The URLs of empty databases, by server."""
_END_OTHERS = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s"
_SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"


def binaries() -> Path:
    """Return the folder of the programs of the newest PostgreSQL here; skip the test without one."""
    require("PostgreSQL")
    found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    return max(found, key=lambda path: int(path.parts[4])).parent


class Cluster:
    """A data directory of PostgreSQL and its server; in `with`, both are removed at the end.

    Skips the test where PostgreSQL is not installed.
    """

    def __init__(self) -> None:
        self._binaries = binaries()
        # Not in pytest's folder, which other runs of pytest close to other users.
        self._folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
        self.data = self._folder / "data"
        self._as_user: list[str] = []
        if os.geteuid() == 0:  # initdb refuses to run as root
            self._as_user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
            shutil.chown(self._folder, "nobody", "nogroup")
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"postgresql://{USER}@{HOST}:{self.port}/postgres"
        """The maintenance database."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if (self.data / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self._folder)

    def make(self) -> None:
        """Create an empty data directory."""
        self.run("initdb", "-D", self.data, "-U", USER, "-A", "trust", "-N", "-E", "UTF8")

    def start(self, **settings: str) -> None:
        """Start the server, and wait until it answers."""
        settings = {"unix_socket_directories": "", "max_connections": "200", "autovacuum": "off", **settings}
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        self.control("-l", str(self.data / "log"), "-o", f"-h {HOST} -p {self.port} {options}", "start")

    def stop(self) -> None:
        """Stop the server immediately, which is equivalent to a crash for its data."""
        self.control("-m", "immediate", "stop")

    def control(self, *arguments: str) -> None:
        """Run `pg_ctl`, and wait until it has finished."""
        self.run("pg_ctl", "-D", self.data, "-w", *arguments)

    def run(self, program: str, *arguments: str | Path) -> None:
        """Run one of PostgreSQL's programs as the server's user."""
        command = [*self._as_user, str(self._binaries / program), *map(str, arguments)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd="/")
        assert done.returncode == 0, f"{program}: {done.stderr or done.stdout}"


@contextmanager
def temporary_server(*, durable: bool = False) -> Iterator[str]:
    """Yield the URL of a server's maintenance database; only a `durable` server syncs to disk."""
    with Cluster() as cluster:
        cluster.make()
        cluster.start(fsync="on" if durable else "off")
        yield cluster.url
        _empty.pop(cluster.url, None)  # another server may get its port


@contextmanager
def temporary_database(server: str) -> Iterator[str]:
    """Yield the URL of an empty database; it is emptied and used again, as making one takes four times as long."""
    empty = _empty[server]
    url = empty.pop() if empty else new_database(server)
    yield url
    _clear(server, url)
    empty.append(url)


def _clear(server: str, url: str) -> None:
    name = url.rpartition("/")[2]
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(_END_OTHERS, [name])
        connection.execute(f"ALTER DATABASE {name} RESET ALL")  # type: ignore[arg-type] # a generated name
    with psycopg.connect(url, autocommit=True) as connection:
        for (schema,) in connection.execute(_SCHEMAS).fetchall():
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
        connection.execute(
            "CREATE SCHEMA public AUTHORIZATION pg_database_owner; GRANT USAGE ON SCHEMA public TO PUBLIC"
        )


def new_database(server: str, options: str = "") -> str:
    """Create an empty database, and return its URL."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} {options}")  # a generated name
    return server.removesuffix("postgres") + name
