"""Real servers: issuers and the example service as processes on loopback, stopped with their block.

What they promise is tested in `servers/` and `interop/`.
"""

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import httpx2
import jwt

from issuer.signing.pem_directory import CHECKPOINT
from support.command_pool import POOL, can_fork
from support.server_pool import SERVERS, Process

HOST = "127.0.0.1"
PATIENCE_SECONDS = 120.0
"""The longest wait for an expected event: no test may fail because a machine is busy."""
POLL_SECONDS = 0.02
PASSPHRASE = "sixteen silent penguins"

RULES = {
    "ISSUER_JWKS_MAX_AGE": "1s",
    "ISSUER_NODE_TIMEOUT": "30s",
    "ISSUER_OUTAGE_LIMIT": "30s",
    "ISSUER_CLOCK_SKEW": "1s",
    "ISSUER_PUBLISH_LEAD": "32s",
    "ISSUER_ROTATION_PERIOD": "0",
}
"""The rules of production in seconds, but for R: who is held up for some of them may sign. Keys rotate manually."""
QUICK = {"ISSUER_NODE_TIMEOUT": "4s", "ISSUER_OUTAGE_LIMIT": "4s", "ISSUER_PUBLISH_LEAD": "6s"}
"""For tests that wait until R, O or the lead has passed."""

T = TypeVar("T")


def eventually(ask: Callable[[], T | None], what: str) -> T:
    """Call `ask` until its result is true, and return the result; fail after PATIENCE_SECONDS."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS} s: {what}"
        time.sleep(POLL_SECONDS)
    return answer


def free_port() -> int:
    """Return a port that is not in use."""
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def is_free(port: int) -> bool:
    """Return whether a server could listen on `port`."""
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True


def is_running(pid: int, *, group: int | None = None) -> bool:
    """Return whether the process still runs (a zombie does not), in that group if one is given."""
    try:
        state, _parent, its_group, *_ = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in {"Z", "X"} and group in {None, int(its_group)}


def kid_of(token: str) -> str:
    """Return the kid in the token's header."""
    return str(jwt.get_unverified_header(token)["kid"])


class Done(NamedTuple):
    """The result of a command, as a script sees it."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """All of stdout, which must be one JSON document."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Server:
    """A server in its own process group, which includes its workers."""

    process: Process
    url: str
    log: Path
    workers: int

    @property
    def output(self) -> str:
        return self.log.read_text("utf-8", "replace")

    @property
    def worker_pids(self) -> list[int]:
        return [int(pid) for pid in re.findall(r"Started server process \[(\d+)\]", self.output)]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def until_ready(self) -> Self:
        """Wait until every worker has started and the server reports that it is ready."""
        eventually(self._is_ready, f"{self.url} is ready")
        return self

    def until_alive(self) -> Self:
        """Wait until it answers, ready or not: the example is not ready without an issuer."""
        eventually(lambda: self._answers("/healthz"), f"{self.url} answers")
        return self

    def kill(self) -> None:
        """Kill the main process as `kill -9` does, and nothing else."""
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        """Stop all its processes with SIGSTOP."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue all its processes with SIGCONT."""
        os.killpg(self.process.pid, signal.SIGCONT)

    def stop(self) -> None:
        """Stop the server as an operator does, and wait for its end."""
        self.process.terminate()
        self.process.wait(PATIENCE_SECONDS)

    def has_ended(self) -> bool:
        """Return whether the server and all its workers have ended."""
        processes = (int(path.name) for path in Path("/proc").glob("[0-9]*"))
        return not any(is_running(pid, group=self.process.pid) for pid in processes)

    def end(self) -> None:
        """Kill all its processes, whatever happened before, and wait for their end: they hold the port."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        eventually(self.has_ended, "all its processes have ended")

    @contextmanager
    def only(self, pid: int) -> Iterator[None]:
        """Within the block, only one worker answers."""
        others = [other for other in self.worker_pids if other != pid and is_running(other)]
        try:
            for other in others:
                os.kill(other, signal.SIGSTOP)
            yield
        finally:
            for other in others:
                os.kill(other, signal.SIGCONT)

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.output}"
        if self.output.count("Application startup complete") < self.workers:
            return False
        return self._answers("/readyz")

    def _answers(self, path: str) -> bool:
        with suppress(httpx2.TransportError):
            return httpx2.get(f"{self.url}{path}", trust_env=False).is_success
        return False


class Installation:
    """An issuer's folder, port and settings, with the processes and commands that use them.

    In `with`: every process started through it ends with the block.
    """

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.port, self.service_port = free_port(), free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.service_url = f"http://{HOST}:{self.service_port}"
        self.settings: dict[str, str] = {
            **RULES,
            "ISSUER_URL": self.url,
            "ISSUER_AUDIENCE": self.service_url,
            "VERIFIER_ISSUER": self.url,
            "VERIFIER_AUDIENCE": self.service_url,
            "VERIFIER_TTL_FLOOR": "1s",
            **settings,
        }
        # Each request has a new connection, and so reaches any of the workers.
        self.http = httpx2.Client(
            trust_env=False, timeout=PATIENCE_SECONDS, limits=httpx2.Limits(max_keepalive_connections=0)
        )
        self.prelude = ""
        """Lines of Python that each process of a forked server runs before the program."""
        self.always_fresh = False
        """Whether servers start with interpreters of their own, as in production: for measurements."""
        self._servers: list[Server] = []
        self._temporary = tempfile.TemporaryDirectory()
        self.temporary = Path(self._temporary.name)
        """The folder for temporary files, which killed servers leave behind; removed with this object."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        for server in self._servers:
            server.end()
        self._temporary.cleanup()

    @property
    def keys(self) -> Path:
        """The directory of private keys."""
        return self.folder / "keys"

    def serve(
        self, *options: str, workers: int = 1, port: int | None = None, is_fresh: bool = False
    ) -> Server:
        """Start `issuer serve` without waiting for it, `is_fresh` with interpreters of its own."""
        port = port or self.port
        arguments = ["serve", "--port", str(port), "--workers", str(workers), *options]
        return self._fork("issuer", arguments, port, workers, is_fresh=is_fresh)

    def serve_service(self, *options: str) -> Server:
        """Start the example service without waiting for it."""
        return self._fork("verifier_example", ["--port", str(self.service_port), *options], self.service_port)

    def serve_service_by_uvicorn(self) -> Server:
        """Start the example service on another port with plain uvicorn."""
        port = free_port()
        arguments = ["-m", "uvicorn", "--factory", "verifier_example.app:create_app", "--port", str(port)]
        return self._start(arguments, port, workers=1)

    def command(self, *arguments: str, stdin: str = "", **settings: str) -> Done:
        """Run `issuer` with the arguments and additional settings, and wait for its end."""
        environment = self._environment(settings)
        if not can_fork(environment):
            return self.start_command(*arguments, stdin=stdin, **settings)
        return Done(
            *POOL.run(
                arguments,
                folder=self.folder,
                environment=environment,
                stdin=stdin,
                timeout=PATIENCE_SECONDS,
            )
        )

    def start_command(self, *arguments: str, stdin: str = "", **settings: str) -> Done:
        """Do the same as a shell does, with an interpreter of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "issuer.cli", *arguments],
            cwd=self.folder,
            env=self._environment(settings),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    @cached_property
    def machine(self) -> tuple[str, str]:
        """The id and secret of a client, registered at first use."""
        made = self.command("clients", "add", "machine", "--scope", "items:read", "--json")
        assert made.code == 0, made
        return made.document["client_id"], made.document["client_secret"]

    def token(self) -> str:
        """Return an access token for the machine client."""
        return access_token(
            self.http.post(
                f"{self.url}/oauth2/token", auth=self.machine, data={"grant_type": "client_credentials"}
            )
        )

    def log_in(self, username: str, password: str) -> httpx2.Response:
        """Return the response to a log-in."""
        return self.http.post(f"{self.url}/login", data={"username": username, "password": password})

    def key_set(self) -> httpx2.Response:
        """Return the JWKS, with its headers."""
        return self.http.get(f"{self.url}/.well-known/jwks.json")

    def call_service(self, token: str) -> httpx2.Response:
        """Return the example service's response to a request with `token`."""
        headers = {"Authorization": f"Bearer {token}"}
        return self.http.get(f"{self.service_url}/protected_route", headers=headers)

    def require_verifies(self, token: str, key_set: httpx2.Response) -> None:
        """Fail unless `token` is valid with the keys of `key_set`."""
        key = jwt.PyJWKSet.from_dict(key_set.json())[kid_of(token)]
        jwt.decode(token, key, algorithms=["RS256"], audience=self.service_url, issuer=self.url)

    def saved_ring(self) -> Mapping[str, Any] | None:
        """Return the key ring as stored, or None, from a copy of the database."""
        with tempfile.TemporaryDirectory() as folder:
            for path in self.folder.glob("issuer.db*"):
                with suppress(FileNotFoundError):  # SQLite removes its files at any time
                    shutil.copy(path, folder)
            database = sqlite3.connect(Path(folder) / "issuer.db")
            try:
                row = database.execute("SELECT document FROM key_ring").fetchone()
            except sqlite3.OperationalError:  # there are no tables yet
                row = None
            finally:
                database.close()
        return json.loads(row[0]) if row else None

    def saved_kids(self) -> set[str]:
        """Return the kids in the stored key ring."""
        ring = self.saved_ring()
        return {key["kid"] for key in ring["keys"]} if ring else set()

    def key_files(self) -> set[str]:
        """Return the names of all files of private keys."""
        found = {path.name for path in self.keys.iterdir()} if self.keys.exists() else set()
        return found - {CHECKPOINT}

    def _environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        # Settings of the shell that runs the tests must not reach the servers.
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("ISSUER_", "VERIFIER_"))
        }
        return {**inherited, "TMPDIR": str(self.temporary), **self.settings, **settings}

    def _fork(
        self, program: str, arguments: list[str], port: int, workers: int = 1, *, is_fresh: bool = False
    ) -> Server:
        environment = self._environment({})
        if is_fresh or self.always_fresh or not can_fork(environment):
            assert not self.prelude
            module = "issuer.cli" if program == "issuer" else program
            return self._start(["-m", module, *arguments], port, workers)
        log = self._next_log()
        log.write_bytes(b"")
        process = SERVERS.start(
            program,
            arguments,
            folder=self.folder,
            environment=environment,
            streams=(os.devnull, str(log), str(log)),
            workers=workers,
            prelude=self.prelude,
        )
        return self._started(process, port, log, workers)

    def _next_log(self) -> Path:
        return self.folder / f"{len(self._servers)}.log"

    def _started(self, process: Process, port: int, log: Path, workers: int) -> Server:
        server = Server(process, f"http://{HOST}:{port}", log, workers)
        self._servers.append(server)
        return server

    def _start(self, arguments: list[str], port: int, workers: int) -> Server:
        log = self._next_log()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=self.folder,
                env=self._environment({}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self._started(process, port, log, workers)


def access_token(answer: httpx2.Response) -> str:
    """Return the access token of a token response; fail for any other response."""
    assert answer.status_code == httpx2.codes.OK, answer.text
    token: str = answer.json()["access_token"]
    return token
