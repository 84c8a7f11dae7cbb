"""`issuer serve`: run the issuer under uvicorn."""

import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from issuer.cli.output import CommandError, opened, warn
from issuer.cli.ports import listening
from issuer.settings import Settings, unknown_settings
from issuer.wiring import Issuer

WORKER = "issuer.web.worker:create_worker"  # by name: uvicorn imports it where it runs
GRACE_SECONDS = 10
START_SECONDS = 30  # within this a worker has started: on a busy machine one takes more than uvicorn's five
LOOPBACK = ("127.0.0.1", "::1", "localhost")
DEFAULT_PORTS = {"http": 80, "https": 443}


def serve(
    *,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="How many processes.")] = 1,
) -> None:
    """Run the issuer; the first time this makes the database and the key ring."""
    with listening(host, port) as listener:
        with opened(expect_tables=False) as issuer:
            issuer.node.refresh()  # what cannot start says so here, in one line
            sys.stderr.write(_title(issuer, host, port, workers))
            for warning in [*_warnings(issuer.settings, host, port), *_strays(issuer)]:
                warn(warning)
        _run(listener, workers)


def _run(listener: socket.socket, workers: int) -> None:
    config = uvicorn.Config(
        WORKER,
        factory=True,
        workers=workers,
        server_header=False,
        log_config=None,
        access_log=False,  # `web.requests` tells of each request
        proxy_headers=False,  # the application knows which proxies to believe
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_worker_healthcheck=START_SECONDS,
    )
    if workers > 1:
        supervisor = Multiprocess(config, [listener])
        supervisor.run()
        started = all(process.exitcode != STARTUP_FAILURE for process in supervisor.processes)
    else:
        server = uvicorn.Server(config)
        with suppress(SystemExit):  # uvicorn's own exit code would mean something else here
            server.run([listener])
        started = server.started
    if not started:
        raise CommandError("the server did not start; its log tells why")


def _title(issuer: Issuer, host: str, port: int, workers: int) -> str:
    settings = issuer.settings
    encrypted = "encrypted" if settings.passphrase() else "NOT encrypted: no passphrase is set"
    where = {
        "database": f"in the database, {encrypted}",
        "pkcs11": f"in the PKCS#11 token {settings.pkcs11_token}, which they never leave",
    }.get(settings.keys, f"in {Path(settings.keys).resolve()}, {encrypted}")
    return (
        f"issuer        {issuer.settings.url}\n"
        f"listening on  {host} port {port}, {workers} worker{'s' if workers > 1 else ''}; Ctrl-C ends it\n"
        f"database      {issuer.database}\n"
        f"private keys  {where}\n"
    )


def _strays(issuer: Issuer) -> Iterator[str]:
    ring, now = issuer.node.view.ring, issuer.clock()
    for name in issuer.signer.strays([key.kid for key in ring.published_keys(now)]):
        yield f"{name} lies among the private keys and belongs to no key of the ring; see: issuer keys verify"


def _warnings(settings: Settings, host: str, port: int) -> Iterator[str]:
    """Yield what starts, and will not work as its operator thinks."""
    url = urlsplit(settings.url)
    if settings.is_loopback and (url.port or DEFAULT_PORTS[url.scheme]) != port:
        yield f"tokens and discovery name ISSUER_URL {settings.url}, but this listens on port {port}"
    if settings.is_loopback and host not in LOOPBACK:
        yield f"this listens on {host}, which others may reach, but ISSUER_URL is {settings.url}"
    if not settings.is_loopback and url.scheme == "http":
        yield f"ISSUER_URL {settings.url} is plain http: verifiers and clients refuse it, or should"
    if url.scheme == "https" and not settings.trusted_proxies:
        yield (
            "a proxy must terminate TLS in front of this, but ISSUER_TRUSTED_PROXIES names none: limits on guessing"
            " count all clients as one address"
        )
    for name, resembles in unknown_settings().items():
        yield f"{name} is no setting" + (f"; did you mean {resembles}?" if resembles else "")
