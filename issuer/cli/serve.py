"""`issuer serve`: run the issuer under uvicorn."""

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
import uvicorn
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE
from uvicorn.importer import import_from_string

from issuer.checks import configuration, private_keys
from issuer.cli.output import CommandError, opened, warn
from issuer.cli.ports import listening
from issuer.counting import counting
from issuer.wiring import Issuer

# By name: uvicorn imports them where they run.
WORKER = "issuer.web.worker:create_worker"
APPLICATION = "issuer.web.worker:application"
GRACE_SECONDS = 10
LOOPBACK = ("127.0.0.1", "::1", "localhost")
DEFAULT_PORTS = {"http": 80, "https": 443}


def serve(
    *,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="How many processes.")] = 1,
) -> None:
    """Run the issuer; the first time this makes the database and the key ring."""
    with listening(host, port) as listener, counting(workers), ExitStack() as stack:
        issuer = stack.enter_context(opened(expect_tables=False, node=True))
        issuer.node.refresh()  # what cannot start says so here, in one line
        sys.stderr.write(_title(issuer, host, port, workers))
        for warning in _warnings(issuer, host, port):
            warn(warning)
        if workers == 1:
            _run_here(import_from_string(APPLICATION)(issuer), listener)
        else:
            stack.close()
            _run_workers(listener, workers)


def _config(app: FastAPI | str, workers: int) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        factory=isinstance(app, str),
        workers=workers,
        server_header=False,
        log_config=None,
        ws="none",
        access_log=False,  # `web.requests` tells of each request
        proxy_headers=False,  # the application knows which proxies to believe
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


def _run_here(app: FastAPI, listener: socket.socket) -> None:
    server = uvicorn.Server(_config(app, 1))
    with suppress(SystemExit):  # uvicorn's own exit code would mean something else here
        server.run([listener])
    _require_start(started=server.started)


def _run_workers(listener: socket.socket, workers: int) -> None:
    from issuer.cli.workers import Supervisor  # noqa: PLC0415 - it brings what watches files, too

    supervisor = Supervisor(_config(WORKER, workers), [listener])
    supervisor.run()
    _require_start(started=all(process.exitcode != STARTUP_FAILURE for process in supervisor.processes))


def _require_start(*, started: bool) -> None:
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


def _warnings(issuer: Issuer, host: str, port: int) -> Iterator[str]:
    """Yield what starts, and will not work as its operator thinks; `issuer check` says more."""
    settings = issuer.settings
    url = urlsplit(settings.url)
    if settings.is_loopback and (url.port or DEFAULT_PORTS[url.scheme]) != port:
        yield f"tokens and discovery name ISSUER_URL {settings.url}, but this listens on port {port}"
    if settings.is_loopback and host not in LOOPBACK:
        yield f"this listens on {host}, which others may reach, but ISSUER_URL is {settings.url}"
    strays = private_keys.strays(settings, issuer.signer, issuer.node.view.ring, issuer.clock())
    for finding in (*configuration.not_as_thought(settings), *configuration.misspelt(), *strays):
        yield finding.wrong
