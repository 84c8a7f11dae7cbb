"""The servers under load: this project, its limits and its peers, as real processes on loopback.

Each runs until its `with` block ends. `Missing` names a program that is not installed; `load` sends the requests.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent / "tests"
sys.path.append(str(TESTS))

import pytest  # noqa: E402
from support.postgresql import Cluster, new_database  # noqa: E402
from support.servers import HOST, Installation, free_port  # noqa: E402

PEERS = HERE / "peers"
NODE = PEERS / "node_modules" / "node" / "bin" / "node"
START_SECONDS = 30.0
STOP_SECONDS = 10.0
AS_SHIPPED = {
    "ISSUER_JWKS_MAX_AGE": "5m",
    "ISSUER_NODE_TIMEOUT": "30s",
    "ISSUER_OUTAGE_LIMIT": "1h",
    "ISSUER_CLOCK_SKEW": "30s",
    "ISSUER_PUBLISH_LEAD": "1d",
    "ISSUER_ROTATION_PERIOD": "30d",
    "VERIFIER_TTL_FLOOR": "1m",
}
"""The tests' installation has its durations in seconds; here they are those of production."""
REDIRECT_URI = "https://app.example/callback"
"""Of clients with users; nobody follows a redirect there."""
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")

CORES = 2
"""All that there are for a server, who asks it and its database; targets were set on such a machine."""


class Missing(Exception):
    """What a case needs is not installed; says what, and how to get it."""


def program(name: str, package: str) -> str:
    """Return the path of a program; raise Missing, which names the Debian package that has it."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise Missing(f"{name} (apt-get install {package})")
    return found


def peer(name: str) -> str:
    """Return the Node.js that runs a peer; raise Missing when npm has not brought it."""
    if not NODE.exists() or not (PEERS / "node_modules" / name).exists():
        raise Missing(f"npm's {name} (apt-get install npm, then make benchmarks/peers/node_modules)")
    return str(NODE)


@dataclass(frozen=True)
class Running:
    """A server: its URL, and the process that all its processes descend from."""

    url: str
    pid: int
    workers: tuple[int, ...] = ()
    """Of an issuer: the processes that answer."""

    @property
    def pids(self) -> list[int]:
        """The process and all that descend from it."""
        parents = {pid: parent for pid in _all_pids() if (parent := _parent(pid)) is not None}
        family = [self.pid]
        for each in family:
            family += [pid for pid, parent in parents.items() if parent == each]
        return family

    def cpu_seconds(self) -> float:
        """Return the processor time of all its processes so far, those that have ended included."""
        return sum(_ticks(pid) for pid in self.pids) / CLOCK_TICKS


def keep_to_few_cores() -> None:
    """Keep this process, and all that it will start, to so many cores as targets were set on."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])


def busy_seconds() -> float:
    """Return for how long all cores of the machine have been busy so far, see proc(5)."""
    user, nice, system, _idle, _waiting, *interrupts = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + sum(interrupts)) / CLOCK_TICKS


def _all_pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on, see proc(5); none for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _parent(pid: int) -> int | None:
    fields = _stat(pid)
    return int(fields[1]) if fields else None


def _ticks(pid: int) -> int:
    fields = _stat(pid)
    return sum(map(int, fields[11:15])) if fields else 0  # utime, stime, and those of ended children


@contextmanager
def installed(folder: Path, **settings: str) -> Iterator[Installation]:
    """Make an installation with the durations of production, in a folder of its own; servers start as there."""
    folder.mkdir(mode=0o700)
    with Installation(folder, **{**AS_SHIPPED, **settings}) as installation:
        installation.always_fresh = True
        yield installation


def issuer(installation: Installation, *, workers: int = 1, port: int | None = None) -> Running:
    """Start `issuer serve` and wait until it is ready."""
    server = installation.serve(workers=workers, port=port).until_ready()
    return Running(server.url, server.process.pid, tuple(server.worker_pids))


def example(installation: Installation) -> Running:
    """Start the example service and wait until it has keys."""
    server = installation.serve_service().until_ready()
    return Running(server.url, server.process.pid)


@contextmanager
def process(
    arguments: list[str], port: int, environment: Mapping[str, str], folder: Path
) -> Iterator[Running]:
    """Run any other server on a port, until the end of the block."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    log = folder / f"{port}.log"
    with log.open("wb") as output:
        started = subprocess.Popen(  # noqa: S603 - the callers are below
            arguments,
            cwd=folder,
            env={**inherited, "PORT": str(port), **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _until_listening(started, port, log)
        yield Running(f"http://{HOST}:{port}", started.pid)
    finally:
        started.terminate()
        try:
            started.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def _until_listening(started: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            if started.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"a server did not start:\n{log.read_text('utf-8', 'replace')}") from None
            time.sleep(0.01)
        else:
            return


@contextmanager
def provider(folder: Path, client: tuple[str, str], audience: str) -> Iterator[Running]:
    """Run npm's oidc-provider with one client; raise Missing."""
    node, port = peer("oidc-provider"), free_port()
    client_id, secret = client
    environment = {
        "CLIENT_ID": client_id,
        "CLIENT_SECRET": secret,
        "AUDIENCE": audience,
        "REDIRECT_URI": REDIRECT_URI,
        "NODE_ENV": "production",
    }
    with process([node, str(PEERS / "provider.mjs")], port, environment, folder) as running:
        yield running


@contextmanager
def jose(folder: Path, installation: Installation) -> Iterator[Running]:
    """Run `GET /me` on node's http server with jose; raise Missing."""
    arguments = [peer("jose"), str(PEERS / "me.mjs")]
    environment = {**_trusting(installation), "NODE_ENV": "production"}
    with process(arguments, free_port(), environment, folder) as running:
        yield running


@contextmanager
def recipe(folder: Path, installation: Installation) -> Iterator[Running]:
    """Run `GET /me` by the usual recipe, under uvicorn as the example is."""
    port = free_port()
    arguments = [sys.executable, "-m", "uvicorn", "--app-dir", str(PEERS), "recipe:app", "--port", str(port)]
    environment = {**_trusting(installation), "no_proxy": HOST}
    with process(arguments, port, environment, folder) as running:
        yield running


def _trusting(installation: Installation) -> dict[str, str]:
    return {
        "ISSUER": installation.url,
        "AUDIENCE": installation.service_url,
        "JWKS_URL": f"{installation.url}/.well-known/jwks.json",
    }


NGINX_CONF = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ worker_connections 256; }}
http {{
  access_log off;
  sendfile on;
  keepalive_requests 1000000000;
  types {{ application/json json; }}
  client_body_temp_path {folder}/nginx-body;
  proxy_temp_path {folder}/nginx-proxy;
  fastcgi_temp_path {folder}/nginx-fastcgi;
  uwsgi_temp_path {folder}/nginx-uwsgi;
  scgi_temp_path {folder}/nginx-scgi;
  server {{
    listen {host}:{port};
    root {folder}/static;
    add_header Cache-Control "public, max-age=300";
    add_header Access-Control-Allow-Origin "*";
  }}
}}
"""


@contextmanager
def nginx(folder: Path, body: bytes) -> Iterator[Running]:
    """Run nginx with `body` as its static file /jwks.json; raise Missing."""
    binary, port = program("nginx", "nginx-light"), free_port()
    (folder / "static").mkdir()
    (folder / "static" / "jwks.json").write_bytes(body)
    for path in (folder, *folder.parents):  # its worker is another user when root started it
        if path != path.parent and not path.stat().st_mode & 0o001:
            path.chmod(path.stat().st_mode | 0o011)
    (folder / "static" / "jwks.json").chmod(0o644)
    conf = folder / "nginx.conf"
    conf.write_text(NGINX_CONF.format(folder=folder, host=HOST, port=port))
    arguments = [binary, "-p", str(folder), "-e", str(folder / "nginx-error.log"), "-c", str(conf)]
    with process(arguments, port, {}, folder) as running:
        yield running


@contextmanager
def postgresql(*, durable: bool = True) -> Iterator[Running]:
    """Run PostgreSQL; its URL is that of the maintenance database. Raise Missing."""
    with ExitStack() as stack:
        try:
            cluster = stack.enter_context(Cluster())
        except (pytest.skip.Exception, pytest.fail.Exception):
            raise Missing("PostgreSQL (apt-get install postgresql)") from None
        cluster.make()
        cluster.start(fsync="on" if durable else "off")
        pid = int((cluster.data / "postmaster.pid").read_text().splitlines()[0])
        yield Running(cluster.url, pid)


def fresh_database(server: Running) -> str:
    """Make an empty database and return its URL."""
    return new_database(server.url)
