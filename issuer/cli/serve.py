"""`issuer serve`: run the issuer under uvicorn."""

import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated
from urllib.parse import urlsplit

import typer
import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from issuer.cli.output import CommandError, opened
from issuer.cli.ports import listening
from issuer.settings import Settings

WORKER = "issuer.web.worker:create_worker"  # by name: uvicorn imports it where it runs
GRACE_SECONDS = 10
DEFAULT_PORTS = {"http": 80, "https": 443}


def serve(
    *,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="How many processes.")] = 1,
) -> None:
    """Run the issuer; the first time this makes the database and the key ring."""
    with listening(host, port) as listener:
        with opened() as issuer:
            issuer.node.refresh()  # what cannot start says so here, in one line
            sys.stderr.write(
                f"issuer {issuer.settings.url}  database {issuer.database}  keys {issuer.settings.keys}\n"
            )
            for warning in _warnings(issuer.settings, port):
                sys.stderr.write(f"warning: {warning}\n")
        _run(listener, workers)


def _run(listener: socket.socket, workers: int) -> None:
    config = uvicorn.Config(
        WORKER,
        factory=True,
        workers=workers,
        server_header=False,
        proxy_headers=False,  # the address of a client is the one that connected
        timeout_graceful_shutdown=GRACE_SECONDS,
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


def _warnings(settings: Settings, port: int) -> Iterator[str]:
    """Yield what starts, and will not work as its operator thinks."""
    url = urlsplit(settings.url)
    if settings.is_loopback and (url.port or DEFAULT_PORTS[url.scheme]) != port:
        yield f"tokens and discovery name ISSUER_URL {settings.url}, but this listens on port {port}"
    if not settings.is_loopback and url.scheme == "http":
        yield f"ISSUER_URL {settings.url} is plain http: verifiers and clients refuse it, or should"
