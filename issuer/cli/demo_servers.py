"""The servers of `issuer demo` as processes, and commands for the issuer."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from issuer.cli.output import CommandError

HOST = "127.0.0.1"
ISSUER_PORT = 8000
SERVICE_PORT = 8001
START_SECONDS = 30
STOP_SECONDS = 5
_PYTHON = (sys.executable, "-P", "-m")
LISTENS = b"Application startup complete"
"""Logged by a server that has its port; without it, what answers there may be another process."""


@dataclass(frozen=True)
class Ports:
    """Where the two servers listen."""

    issuer: int = ISSUER_PORT
    service: int = SERVICE_PORT

    @property
    def issuer_url(self) -> str:
        """Return the issuer's URL."""
        return f"http://{HOST}:{self.issuer}"

    @property
    def service_url(self) -> str:
        """Return the URL of the example service."""
        return f"http://{HOST}:{self.service}"

    @property
    def curl_lines(self) -> str:
        """Return commands to try; README has them for the default ports, and a test compares and runs them."""
        return f"""\
token() {{ python3 -I -c 'import json, sys; print(json.load(sys.stdin)["access_token"])'; }}
TOKEN=$(curl -s {self.issuer_url}/login -d username=demo --data-urlencode "password=$DEMO_PASSWORD" | token)
curl -sw '\\n' {self.service_url}/protected_route -H "Authorization: Bearer $TOKEN"
curl -sw '\\n' {self.service_url}/me -H "Authorization: Bearer $TOKEN"
MACHINE=$(curl -s {self.issuer_url}/oauth2/token -u "$DEMO_CLIENT" -d grant_type=client_credentials | token)
curl -sw '\\n' {self.service_url}/items -H "Authorization: Bearer $MACHINE"
curl -sw '\\n' {self.issuer_url}/.well-known/jwks.json
"""


@dataclass(frozen=True)
class Server:
    """A server process and its log file."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def stop(self) -> None:
        """Stop the process, by SIGKILL if it does not end in time."""
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Servers:
    """The issuer and the service, and commands for them; all are stopped at the end of the block."""

    def __init__(self, folder: Path, ports: Ports) -> None:
        self.folder = folder
        self.ports = ports
        self._running: dict[str, Server] = {}
        # Settings in the environment must not reach the demo.
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("ISSUER_", "VERIFIER_"))
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._running):
            self.stop(name)

    def start(self) -> None:
        """Start both and wait until they are ready; raise CommandError with its last log line if one is not."""
        self.start_issuer()
        self.start_service()

    def start_issuer(self) -> None:
        """Start the issuer, as `start` does."""
        command = [*_PYTHON, "issuer.cli", "serve", "--host", HOST, "--port", str(self.ports.issuer)]
        self._start("issuer", command, self.ports.issuer_url)

    def start_service(self) -> None:
        """Start the example service, as `start` does."""
        command = [*_PYTHON, "verifier_example", "--host", HOST, "--port", str(self.ports.service)]
        self._start("service", command, self.ports.service_url)

    def start_application(self, name: str, settings: Mapping[str, str], listener: socket.socket) -> None:
        """Start one of `demo_apps`, as `start` does; it reads its settings from standard input."""
        command = [*_PYTHON, "issuer.cli.demo_apps", name, str(listener.fileno())]
        self._start(name, command, settings["here"], json.dumps(settings), (listener.fileno(),))

    def stop(self, name: str) -> None:
        """Stop one of them."""
        self._running.pop(name).stop()

    def check_alive(self) -> None:
        """Raise CommandError if one has ended unexpectedly."""
        for server in self._running.values():
            if server.process.poll() is not None:
                raise CommandError(f"the {server.name} stopped: {_last_line(server.log)}")

    def command(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command for the issuer of the demo and return its result."""
        return subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-P", "-m", "issuer.cli", *arguments],
            cwd=self.folder,
            env=self._environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    def _start(
        self, name: str, command: list[str], url: str, stdin: str = "", descriptors: Sequence[int] = ()
    ) -> None:
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - our own servers
                command,
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=descriptors,
                start_new_session=True,  # Ctrl-C must reach only this command, which stops them in order
            )
        if process.stdin:
            with suppress(BrokenPipeError), process.stdin:  # of one that has ended, which is reported below
                process.stdin.write(stdin.encode())
        self._running[name] = Server(name, process, log)
        deadline = time.monotonic() + START_SECONDS
        while LISTENS not in log.read_bytes() or not _ready(url):
            self.check_alive()
            if time.monotonic() > deadline:
                raise CommandError(f"the {name} is not ready after {START_SECONDS} s: {_last_line(log)}")
            time.sleep(0.1)


def _ready(url: str) -> bool:
    import httpx2  # noqa: PLC0415 - most commands make no request

    try:
        return httpx2.get(f"{url}/readyz", timeout=2, trust_env=False).is_success
    except httpx2.TransportError:
        return False


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "its log is empty"
