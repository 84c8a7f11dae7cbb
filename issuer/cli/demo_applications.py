"""What signs users in by browser in `issuer demo`: its clients are registered here, and its applications started.

The applications are in `demo_apps`; the pages that ask for the password are the issuer's.
"""

import json
import os
import socket
import sys
from dataclasses import dataclass
from importlib.util import find_spec

from issuer.cli.demo_servers import HOST, Servers
from issuer.cli.output import CommandError
from issuer.cli.ports import listening_from

SCOPE = "items:read"


@dataclass(frozen=True)
class DemoApplication:
    """An application: its module in `demo_apps`, and what is registered of it."""

    module: str
    title: str
    port: int
    """The preferred one."""
    redirect_path: str
    logout_path: str = ""
    """Where the issuer reports that a user has signed out elsewhere."""
    is_public: bool = False
    packages: tuple[tuple[str, str], ...] = ()
    """The modules that it imports and the issuer does not, and the packages that have them."""

    @property
    def missing(self) -> str:
        """Return the command that installs what is missing; empty if nothing is."""
        packages = [name for module, name in self.packages if find_spec(module) is None]
        python = os.path.relpath(sys.executable)  # a bare `pip` may be that of another environment
        return f"{python} -m pip install {' '.join(packages)}" if packages else ""


APPLICATIONS = (
    DemoApplication("single_page", "browser app", 8002, "/", is_public=True),
    DemoApplication(
        "server_side",
        "server app",
        8003,
        "/callback",
        "/signed-out-elsewhere",
        packages=(("authlib", "Authlib"), ("requests", "requests")),
    ),
)


def start_applications(servers: Servers) -> dict[str, str]:
    """Start them and return their URLs by title, or what to install for one that cannot be started."""
    shown: dict[str, str] = {}
    taken = {servers.ports.issuer, servers.ports.service}
    for each in APPLICATIONS:
        if each.missing:
            shown[each.title] = f"not started; to add it: {each.missing}"
            continue
        with listening_from(HOST, each.port, "another port", taken) as listener:
            here = _start(servers, each, listener)
        shown[each.title] = f"{here}/ (sign in with this user)"
    return shown


def _start(servers: Servers, application: DemoApplication, listener: socket.socket) -> str:
    """Register an application and start it on a socket that listens; return its URL, without a slash at the end."""
    here = f"http://{HOST}:{listener.getsockname()[1]}"
    log_out = application.logout_path
    client_id, secret = register(
        servers,
        f"demo: {application.title}",
        f"{here}{application.redirect_path}",
        f"--post-logout-redirect-uri={here}/",
        *((f"--backchannel-logout-uri={here}{log_out}",) if log_out else ()),
        is_public=application.is_public,
    )
    urls = {"issuer": servers.ports.issuer_url, "service": servers.ports.service_url, "here": here}
    credentials = {"client_id": client_id, "client_secret": secret}
    servers.start_application(application.module, {**urls, **credentials}, listener)
    return here


def register_docs(servers: Servers) -> str:
    """Register the page /docs of the example service, and return its client_id."""
    path, port = "/docs/oauth2-redirect", servers.ports.service
    client_id, _ = register(
        servers,
        "demo: /docs of the example service",
        f"{servers.ports.service_url}{path}",
        f"--redirect-uri=http://localhost:{port}{path}",
        is_public=True,
    )
    return client_id


def register(
    servers: Servers, name: str, redirect_uri: str, *options: str, is_public: bool
) -> tuple[str, str]:
    """Register a client, and return its id and secret, which is empty for a public one."""
    auth = ("--auth", "none") if is_public else ()
    made = servers.command(
        "clients", "add", name, "--scope", SCOPE, "--redirect-uri", redirect_uri, *auth, *options, "--json"
    )
    if made.returncode:
        raise CommandError(f"cannot register {name}: {made.stdout}{made.stderr}")
    client = json.loads(made.stdout)
    return client["client_id"], client["client_secret"] or ""
