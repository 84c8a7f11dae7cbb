"""A real PgBouncer in front of a PostgreSQL for the length of a test, as an unprivileged user when root runs it.

What is promised behind it is tested in `test_postgresql_sessions`.
"""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from support.components import program, require
from support.postgresql import HOST, USER
from support.servers import eventually, free_port


@contextmanager
def pooled(url: str, user: str = USER, **settings: str) -> Iterator[str]:
    """Yield the URL of the same database through a pooler with these settings added."""
    require("PgBouncer")
    pgbouncer = program("pgbouncer")
    assert pgbouncer
    with psycopg.connect(url) as connection:
        port, name = connection.info.port, connection.info.dbname
    listening = free_port()
    folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
    lines = {
        "listen_addr": HOST,
        "listen_port": str(listening),
        "unix_socket_dir": "",
        "auth_type": "any",
        "pool_mode": "transaction",
        "default_pool_size": "3",
        **settings,
    }
    (folder / "pgbouncer.ini").write_text(
        "\n".join(
            [
                "[databases]",
                f"{name} = host={HOST} port={port} user={user}",
                "[pgbouncer]",
                *(f"{key} = {value}" for key, value in lines.items()),
                "",
            ]
        )
    )
    as_user: list[str] = []
    if os.geteuid() == 0:  # it refuses to run as root
        as_user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        shutil.chown(folder, "nobody", "nogroup")
    process = subprocess.Popen(
        [*as_user, pgbouncer, str(folder / "pgbouncer.ini")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: not _is_refused(listening), "PgBouncer listens")
        yield f"postgresql://{user}@{HOST}:{listening}/{name}"
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)


def _is_refused(port: int) -> bool:
    try:
        socket.create_connection((HOST, port)).close()
    except ConnectionRefusedError:
        return True
    return False
