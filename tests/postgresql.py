"""A real PostgreSQL for the length of a test run, as an unprivileged user when the tests run as root."""

import os
import shutil
import socket
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

USER = "issuer"


def _binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


def _missing(what: str) -> None:
    text = f"{what} is not installed: what needs it was NOT tested (apt-get install postgresql)"
    if os.environ.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text)


@contextmanager
def temporary_server(folder: Path, *, durable: bool = False) -> Iterator[str]:
    """Yield the URL of a server's maintenance database; only a `durable` one waits for its disk."""
    binaries = _binaries()
    if binaries is None:
        _missing("PostgreSQL")
        return
    as_user: list[str] = []
    data = folder / "data"
    data.mkdir(mode=0o700)
    if os.geteuid() == 0:  # initdb refuses to run as root
        as_user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        for parent in [folder, *folder.parents]:
            if parent == parent.parent or parent.stat().st_mode & 0o001:
                continue
            parent.chmod(parent.stat().st_mode | 0o011)
        shutil.chown(data, "nobody", "nogroup")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    initdb = [
        *as_user,
        str(binaries / "initdb"),
        "-D",
        str(data),
        "-U",
        USER,
        "-A",
        "trust",
        "-N",
        "-E",
        "UTF8",
    ]
    subprocess.run(initdb, check=True, capture_output=True, cwd="/")
    fsync = "on" if durable else "off"
    options = f"-h 127.0.0.1 -p {port} -c unix_socket_directories='' -c fsync={fsync} -c max_connections=200"
    control = [*as_user, str(binaries / "pg_ctl"), "-D", str(data), "-w", "-l", str(data / "log")]
    subprocess.run([*control, "-o", options, "start"], check=True, capture_output=True, cwd="/")
    try:
        yield f"postgresql://{USER}@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=True, capture_output=True, cwd="/")


def new_database(server: str, options: str = "") -> str:
    """Make an empty database and return its URL."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} {options}")  # a name of our own making
    return server.removesuffix("postgres") + name
