"""Web applications as processes on loopback, which sign people in with a third-party client.

Each passes what it learns about the person to a service behind it, or shows it itself. The browser and the expected
results are in `test_sign_in_to_applications`.
"""

import getpass
import grp
import json
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import httpx2
from support.components import APACHE_MODULES, INTEROP
from support.servers import HOST, PATIENCE_SECONDS, eventually

SCOPE = "openid profile email offline_access"
BOOT = (
    "java",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-cp",
    "target/classes:target/jars/*",
    "interop.Application",
)


class Registered(NamedTuple):
    """An application as a client of an issuer."""

    issuer: str
    url: str
    """Of the application."""
    client_id: str
    client_secret: str

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


@contextmanager
def running(
    command: list[str], url: str, *, folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run a server until the end of the block, which begins when the URL answers."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

        def answers() -> bool:
            if process.poll() is not None:
                output.seek(0)
                raise AssertionError(output.read().decode("utf-8", "replace"))
            with suppress(httpx2.TransportError):
                return bool(httpx2.get(url, trust_env=False, timeout=PATIENCE_SECONDS).status_code)
            return False

        try:
            eventually(answers, f"{command[0]} answers")
            yield
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def mod_auth_openidc(registered: Registered, backend: str) -> Iterator[None]:
    """Apache httpd with mod_auth_openidc."""
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwnam(getpass.getuser())
    # Not in pytest's folder, which the unprivileged server processes cannot read.
    folder = Path(tempfile.mkdtemp(prefix="application-"))
    folder.chmod(0o755)
    values = {
        "FOLDER": str(folder),
        "MODULES": str(APACHE_MODULES),
        "PORT": str(registered.port),
        "USER": user.pw_name,
        "GROUP": grp.getgrgid(user.pw_gid).gr_name,
        "ISSUER": registered.issuer,
        "CLIENT_ID": registered.client_id,
        "CLIENT_SECRET": registered.client_secret,
        "URL": registered.url,
        "COOKIE_SECRET": secrets.token_hex(16),
        "SCOPE": SCOPE,
        "BACKEND": backend,
    }
    config = (INTEROP / "apache/relying_party.conf").read_text("utf-8")
    for name, value in values.items():
        config = config.replace(f"@{name}@", value)
    (folder / "httpd.conf").write_text(config)
    command = ["apache2", "-DFOREGROUND", "-f", str(folder / "httpd.conf")]
    try:
        with running(command, f"{registered.url}/signed-out"):
            yield
    finally:
        shutil.rmtree(folder)


@contextmanager
def oauth2_proxy(registered: Registered, backend: str) -> Iterator[None]:
    """oauth2-proxy, which keeps its session in a cookie."""
    options = {
        "provider": "oidc",
        "oidc-issuer-url": registered.issuer,
        "client-id": registered.client_id,
        "redirect-url": f"{registered.url}/oauth2/callback",
        "http-address": f"{HOST}:{registered.port}",
        "upstream": backend,
        "scope": SCOPE,
        "code-challenge-method": "S256",
        "insecure-oidc-skip-nonce": "false",
        "email-domain": "*",
        "cookie-secure": "false",
        "cookie-refresh": "1s",
        "skip-provider-button": "true",
        "pass-access-token": "true",
        "pass-authorization-header": "true",
        "whitelist-domain": registered.issuer.removeprefix("http://"),
    }
    command = [
        str(INTEROP / "oauth2_proxy/oauth2-proxy"),
        *(f"--{name}={value}" for name, value in options.items()),
    ]
    hidden = {
        "OAUTH2_PROXY_CLIENT_SECRET": registered.client_secret,
        "OAUTH2_PROXY_COOKIE_SECRET": secrets.token_hex(16),
    }
    with running(command, f"{registered.url}/ping", environment=hidden):
        yield


@contextmanager
def spring_boot(registered: Registered) -> Iterator[None]:
    """Spring Boot with its OAuth client."""
    client = {
        "client-id": registered.client_id,
        "client-secret": registered.client_secret,
        "scope": SCOPE.replace(" ", ","),
        "authorization-grant-type": "authorization_code",
        "redirect-uri": "{baseUrl}/login/oauth2/code/{registrationId}",
    }
    settings = {
        "server": {"port": registered.port, "address": HOST},
        "spring": {
            "main": {"banner-mode": "off"},
            "security": {
                "oauth2": {
                    "client": {
                        "registration": {"issuer": client},
                        "provider": {"issuer": {"issuer-uri": registered.issuer}},
                    }
                }
            },
        },
    }
    environment = {"SPRING_APPLICATION_JSON": json.dumps(settings)}
    with running(
        list(BOOT), f"{registered.url}/signed-out", folder=INTEROP / "spring_boot", environment=environment
    ):
        yield


class _Handler(BaseHTTPRequestHandler):
    """Answers without a log."""

    def answer(self, body: bytes, media_type: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler], port: int = 0) -> Iterator[str]:
    """Run a server in this process, and yield its URL."""
    with ThreadingHTTPServer((HOST, port), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://{HOST}:{server.server_port}"
        finally:
            server.shutdown()


class _Showing(_Handler):
    """Answers with the headers of the request, as JSON."""

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.answer(json.dumps(headers).encode(), "application/json")


def service_behind() -> AbstractContextManager[str]:
    """Run a service that shows what it was sent."""
    return serving(_Showing)


def single_page(registered: Registered) -> AbstractContextManager[str]:
    """Serve a single-page application with oidc-client-ts."""
    page = (INTEROP / "single_page/index.html").read_bytes()
    library = "oidc-client-ts.min.js"
    files = {
        "/app.js": (INTEROP / "single_page/app.js").read_bytes(),
        f"/{library}": (INTEROP / f"oauth/node_modules/oidc-client-ts/dist/browser/{library}").read_bytes(),
    }
    settings = {"authority": registered.issuer, "client_id": registered.client_id, "scope": SCOPE}

    class Pages(_Handler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/settings.json":
                self.answer(json.dumps(settings).encode(), "application/json")
            elif path in files:
                self.answer(files[path], "text/javascript")
            else:
                self.answer(page, "text/html; charset=utf-8")

    return serving(Pages, registered.port)
