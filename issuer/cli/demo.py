"""`issuer demo`: runs the issuer and the example service as servers, with settings and data in a temporary folder.

The scenario of `--once` is defined in `demo_scenario`.
"""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, NoReturn, Self

import typer

from issuer.cli.output import CommandError
from issuer.cli.ports import free_port, require_free
from issuer.cli.tables import draw_members
from issuer.cli.terminal import complain, console, status

HOST = "127.0.0.1"
USER = "demo"
ISSUER_PORT = 8000
SERVICE_PORT = 8001
STOPPED_BY = (signal.SIGTERM, signal.SIGHUP)
START_SECONDS = 30
STOP_SECONDS = 5

TIMINGS = {
    "ISSUER_JWKS_MAX_AGE": "2s",
    "ISSUER_NODE_TIMEOUT": "3s",
    "ISSUER_OUTAGE_LIMIT": "3s",
    "ISSUER_CLOCK_SKEW": "1s",
    "ISSUER_PUBLISH_LEAD": "10s",
    "VERIFIER_TTL_FLOOR": "1s",
    "VERIFIER_COOLDOWN": "1s",
}
"""The rules of production, with seconds instead of hours."""


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


def demo(
    *,
    once: Annotated[
        bool, typer.Option("--once", help="Run the full scenario, check each step, and stop.")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            metavar="PORT",
            help=f"The port of the issuer: {ISSUER_PORT}, or the next free one.",
        ),
    ] = None,
    service_port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            metavar="PORT",
            help=f"The port of the example service: {SERVICE_PORT}, or the next free one.",
        ),
    ] = None,
) -> None:
    """Run the issuer and the example service on this machine, with temporary settings and data.

    The key ring follows the rules of production, with seconds instead of hours.
    """
    for each in STOPPED_BY:
        signal.signal(each, _stop)
    if port is not None and port == service_port:
        raise typer.BadParameter("--port and --service-port must differ")
    if find_spec("jwks_verifier") is None:
        raise CommandError(
            "the package jwks_verifier is not installed, and the example service needs it;"
            " run, in the checkout: pip install ./verifier_example"
        )
    ports = choose_ports(port, service_port)
    from issuer.cli.demo_scenario import run_scenario  # noqa: PLC0415 - it imports an HTTP client

    with _scratch_folder(ports) as folder, Servers(folder, ports) as servers:
        with status("starting the issuer and the example service", as_json=False):
            servers.start()
        if once:
            run_scenario(servers, ports.issuer_url, ports.service_url, TIMINGS)
        else:
            _print_instructions(servers)
            _wait_for_ctrl_c(servers)


def choose_ports(issuer: int | None, service: int | None) -> Ports:
    """Return the ports that were asked for, or else free ones; raise CommandError if one is taken."""
    for port, option in ((issuer, "--port"), (service, "--service-port")):
        if port is not None:
            require_free(HOST, port, option)
    issuer = issuer or _free_port("issuer", ISSUER_PORT, "--port", {service or SERVICE_PORT})
    return Ports(issuer, service or _free_port("example service", SERVICE_PORT, "--service-port", {issuer}))


def _free_port(name: str, preferred: int, option: str, taken: set[int]) -> int:
    port = free_port(HOST, preferred, option, taken)
    if port != preferred:
        complain(
            "note",
            f"port {preferred} is taken, so the {name} listens on {port}; {option} chooses another one",
        )
    return port


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
        python = [sys.executable, "-P", "-m"]
        address = ["--host", HOST, "--port"]
        issuer = [*python, "issuer.cli", "serve", *address, str(self.ports.issuer)]
        service = [*python, "verifier_example", *address, str(self.ports.service)]
        self._start("issuer", issuer, self.ports.issuer_url)
        self._start("service", service, self.ports.service_url)

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

    def _start(self, name: str, command: list[str], url: str) -> None:
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - our own servers
                command,
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C must reach only this command, which stops them in order
            )
        self._running[name] = Server(name, process, log)
        deadline = time.monotonic() + START_SECONDS
        while not _ready(url):
            self.check_alive()
            if time.monotonic() > deadline:
                raise CommandError(f"the {name} is not ready after {START_SECONDS} s: {_last_line(log)}")
            time.sleep(0.1)


@contextmanager
def _scratch_folder(ports: Ports) -> Iterator[Path]:
    """Yield a new folder with the settings; it is removed at the end, unless the demo failed."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="demo-", dir=Path.cwd()))
        settings = {
            "ISSUER_URL": ports.issuer_url,
            "ISSUER_AUDIENCE": ports.service_url,
            "ISSUER_CORS_ORIGINS": f"{ports.service_url},http://localhost:{ports.service}",
            "ISSUER_KEYS_PASSPHRASE": secrets.token_urlsafe(24),
            "VERIFIER_ISSUER": ports.issuer_url,
            "VERIFIER_AUDIENCE": ports.service_url,
            **TIMINGS,
        }
        _write_settings(folder / ".env", settings)
    except OSError as error:
        raise CommandError(f"cannot make a scratch folder in {Path.cwd()}: {error.strerror}") from error
    try:
        yield folder
    except Exception:
        sys.stderr.write(f"the logs are in {folder.name}/\n")
        raise
    except BaseException:
        shutil.rmtree(folder)
        raise
    shutil.rmtree(folder)


def _write_settings(path: Path, settings: Mapping[str, str]) -> None:
    path.touch(mode=0o600)
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))


def _print_instructions(servers: Servers) -> None:
    """Create a user and a client, and print what to try."""
    password = secrets.token_urlsafe(16)
    with status("making a user and a client", as_json=False):
        made = servers.command(
            "users", "add", USER, "--scope", "items:read", "--password-stdin", "--json", stdin=password
        )
        client = servers.command("clients", "add", "demo machine", "--scope", "items:read", "--json")
    if made.returncode or client.returncode:
        raise CommandError(f"cannot make the demo's user and client: {made.stderr}{client.stderr}")
    client_id, client_secret = _client(client.stdout)
    members = {
        "issuer": f"{servers.ports.issuer_url}/docs",
        "service": f"{servers.ports.service_url}/docs (Authorize with this user)",
        "user": USER,
        "password": password,
        "client": client_id,
        "secret": client_secret,
        "folder": f"{servers.folder.name}/ (settings, data and logs; removed at the end)",
    }
    draw_members(members, console())
    say = partial(console().print, markup=False, soft_wrap=True)  # what is copied must not be broken
    say("\nKeys follow the rules of production, with seconds instead of hours.")
    say("In another terminal, with the secrets of this run:\n")
    say(f"export DEMO_PASSWORD='{password}' DEMO_CLIENT='{client_id}:{client_secret}'")
    say(servers.ports.curl_lines)
    command = os.path.relpath(Path(sys.executable).with_name("issuer"), servers.folder)
    say(f"Rotate the key:  cd {servers.folder.name} && {command} keys rotate")
    say("\nCtrl-C stops the demo.")


def _client(document: str) -> tuple[str, str]:
    client = json.loads(document)
    return client["client_id"], client["client_secret"]


def _wait_for_ctrl_c(servers: Servers) -> None:
    try:
        while True:
            time.sleep(0.5)
            servers.check_alive()
    except KeyboardInterrupt:
        console().print("\nstopped", markup=False)


def _ready(url: str) -> bool:
    import httpx2  # noqa: PLC0415 - as above

    try:
        return httpx2.get(f"{url}/readyz", timeout=2, trust_env=False).is_success
    except httpx2.TransportError:
        return False


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "its log is empty"


def _stop(_signal: int, _frame: object) -> NoReturn:
    # A terminal that closes sends SIGHUP, perhaps after SIGTERM; that must not interrupt the stopping of the servers.
    for each in STOPPED_BY:
        signal.signal(each, lambda *_: None)
    raise SystemExit(1)
