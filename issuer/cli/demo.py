"""`issuer demo`: runs the issuer, the example service and applications, with settings and data in a temporary folder.

Their processes are in `demo_servers`, the applications in `demo_applications`, the scenario of `--once` in
`demo_scenario`.
"""

import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from issuer.cli.demo_applications import register_docs, start_applications
from issuer.cli.demo_servers import HOST, ISSUER_PORT, SERVICE_PORT, Ports, Servers
from issuer.cli.output import CommandError
from issuer.cli.ports import free_port, require_free
from issuer.cli.tables import draw_members
from issuer.cli.terminal import complain, console, status

USER = "demo"
STOPPED_BY = (signal.SIGTERM, signal.SIGHUP)

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

Port = Annotated[
    int | None,
    typer.Option(
        min=1, max=65535, metavar="PORT", help=f"The port of the issuer: {ISSUER_PORT}, or the next free one."
    ),
]
ServicePort = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=65535,
        metavar="PORT",
        help=f"The port of the example service: {SERVICE_PORT}, or the next free one.",
    ),
]


def demo(
    *,
    once: Annotated[
        bool, typer.Option("--once", help="Run the full scenario, check each step, and stop.")
    ] = False,
    port: Port = None,
    service_port: ServicePort = None,
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
        if once:
            with status("starting the issuer and the example service", as_json=False):
                servers.start()
            run_scenario(servers, ports.issuer_url, ports.service_url, TIMINGS)
        else:
            with status("starting the issuer, the example service and two applications", as_json=False):
                applications = _start_all(servers)
            _print_instructions(servers, applications)
            _wait_for_ctrl_c(servers)


def _start_all(servers: Servers) -> dict[str, str]:
    """Start what a person tries; return the lines about the applications."""
    servers.start_issuer()
    with (servers.folder / ".env").open("a") as settings:
        settings.write(f"VERIFIER_DOCS_CLIENT_ID={register_docs(servers)}\n")
    servers.start_service()
    return start_applications(servers)


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


def _print_instructions(servers: Servers, applications: Mapping[str, str]) -> None:
    """Create a user and a client, and print what to try."""
    password = secrets.token_urlsafe(16)
    with status("making a user and a client", as_json=False):
        user = ("users", "add", USER, "--name", "Demo User", "--scope", "items:read", "--password-stdin")
        made = servers.command(*user, "--json", stdin=password)
        client = servers.command("clients", "add", "demo machine", "--scope", "items:read", "--json")
    if made.returncode or client.returncode:
        raise CommandError(f"cannot make the demo's user and client: {made.stderr}{client.stderr}")
    client_id, client_secret = _client(client.stdout)
    members = {
        "issuer": f"{servers.ports.issuer_url}/docs",
        "service": f"{servers.ports.service_url}/docs (Authorize with this user)",
        **applications,
        "account": f"{servers.ports.issuer_url}/account",
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


def _stop(_signal: int, _frame: object) -> NoReturn:
    # A terminal that closes sends SIGHUP, perhaps after SIGTERM; that must not interrupt the stopping of the servers.
    for each in STOPPED_BY:
        signal.signal(each, lambda *_: None)
    raise SystemExit(1)
