"""`issuer serve`: options, warnings and the start of the server.

Processes are left to `serving`.
"""

import socket
import ssl
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import structlog
import typer
import uvicorn
from fastapi import FastAPI
from uvicorn.importer import import_from_string

from issuer.checks import configuration, private_keys
from issuer.cli.output import CommandError, opened, warn
from issuer.cli.ports import listening
from issuer.cli.private_keys import require_file
from issuer.connections import Config, Limits
from issuer.connections.limits import BODY_SECONDS, HEAD_BYTES, HEAD_SECONDS, KEEP_ALIVE_SECONDS
from issuer.logs import serve_with_log, terminal_safe
from issuer.metrics_directory import shared_metrics_directory
from issuer.services import Issuer
from issuer.settings.sources import source
from issuer.urls import DEFAULT_PORTS

# Names, because uvicorn imports them in the processes that use them.
WORKER = "issuer.serving.worker:create_worker"
APPLICATION = "issuer.serving.worker:application"
CONNECTION = "issuer.serving.connections:Connection"
GRACE_SECONDS = 10
START_SECONDS = 30
"""How long the start of a worker may take; on a busy machine it takes longer than uvicorn's default of 5 seconds."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")

Host = Annotated[str, typer.Option(help="The address to listen on.")]
Port = Annotated[int, typer.Option(min=1, max=65535, metavar="PORT", help="The port to listen on.")]
Workers = Annotated[int, typer.Option(min=1, max=64, metavar="NUMBER", help="Number of worker processes.")]
Drain = Annotated[
    int,
    typer.Option(
        min=0,
        max=600,
        metavar="SECONDS",
        help="After SIGTERM, report not ready on /readyz and keep serving for this long.",
    ),
]
Certificate = Annotated[Path | None, typer.Option(help="Serve TLS with this certificate chain.")]
CertificateKey = Annotated[
    Path | None, typer.Option(help="The private key of the certificate, if it is in another file.")
]
KeepAlive = Annotated[
    int,
    typer.Option(
        min=1,
        max=3600,
        metavar="SECONDS",
        help="Close connections that are idle for this long. Must be longer than the idle timeout of the proxy or"
        " load balancer, which would otherwise use closed connections.",
    ),
]
HeadTimeout = Annotated[
    int,
    typer.Option(
        min=1, max=3600, metavar="SECONDS", help="Time limit for receiving the request line and headers."
    ),
]
BodyTimeout = Annotated[
    int, typer.Option(min=1, max=3600, metavar="SECONDS", help="Time limit for receiving a request body.")
]
MaxHead = Annotated[
    int,
    typer.Option(
        min=1024,
        max=1024 * 1024,
        metavar="BYTES",
        help="Size limit of the request line and headers together.",
    ),
]
MaxConnections = Annotated[
    int,
    typer.Option(
        min=0,
        max=1_000_000,
        metavar="NUMBER",
        help="Maximum number of connections of a worker; beyond it, those that have waited longest for their client"
        " are closed. 0: what its file descriptors allow, at most 4096.",
    ),
]
MaxConnectionsPerAddress = Annotated[
    int,
    typer.Option(
        min=0,
        max=1_000_000,
        metavar="NUMBER",
        help="Maximum number of connections from one address that is not in ISSUER_TRUSTED_PROXIES. 0: half of"
        " --max-connections.",
    ),
]


def serve(
    *,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    workers: Workers = 1,
    drain: Drain = 0,
    ssl_certfile: Certificate = None,
    ssl_keyfile: CertificateKey = None,
    keep_alive: KeepAlive = KEEP_ALIVE_SECONDS,
    head_timeout: HeadTimeout = HEAD_SECONDS,
    body_timeout: BodyTimeout = BODY_SECONDS,
    max_head: MaxHead = HEAD_BYTES,
    max_connections: MaxConnections = 0,
    max_connections_per_address: MaxConnectionsPerAddress = 0,
) -> None:
    """Run the issuer; the first start creates the database and the key ring."""
    _require_certificate(ssl_certfile, ssl_keyfile)
    tls = ssl_certfile is not None
    with (
        listening(host, port) as listener,
        shared_metrics_directory(workers) as metrics_warning,
        ExitStack() as stack,
    ):
        issuer = stack.enter_context(opened(expect_tables=False, node=True))
        issuer.keys.node.refresh()  # errors of a start are reported here, in one line
        warnings = filter(None, (metrics_warning, *_warnings(issuer, host, port, tls=tls)))
        _announce(_title(issuer, host, port, workers, tls=tls), warnings)
        app = import_from_string(APPLICATION)(issuer) if workers == 1 else WORKER
        if workers > 1:
            stack.close()  # each worker opens its own
        limits = Limits(
            keep_alive_seconds=keep_alive,
            head_seconds=head_timeout,
            body_seconds=body_timeout,
            head_bytes=max_head,
            connections=max_connections,
            connections_per_address=max_connections_per_address,
            proxies=issuer.settings.trusted_proxies,
        )
        _run(_config(app, workers, ssl_certfile, ssl_keyfile, limits), listener, drain)


def _require_certificate(certificate: Path | None, key: Path | None) -> None:
    if certificate is None:
        if key is not None:
            raise typer.BadParameter("--ssl-keyfile needs --ssl-certfile")
        return
    for file in filter(None, (certificate, key)):
        require_file(file)
    try:
        # Never prompts for a passphrase, as workers are replaced unattended.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except OSError as error:
        raise CommandError(
            f"cannot serve TLS with {certificate}{f' and {key}' if key else ''}: {_refused(error)}; both must be PEM"
            " and match, and the key must not be encrypted"
        ) from error


def _refused(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):  # its message is one of OpenSSL's source code
        return "not a certificate with its private key"
    return error.strerror or str(error)


def _config(
    app: FastAPI | str, workers: int, certificate: Path | None, key: Path | None, limits: Limits
) -> uvicorn.Config:
    return Config(
        app,
        limits,
        factory=isinstance(app, str),
        workers=workers,
        http=CONNECTION,
        server_header=False,
        log_config=None,
        ws="none",
        access_log=False,  # see `web.http.access_log`
        proxy_headers=False,  # see `web.http.proxies`
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_worker_healthcheck=START_SECONDS,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )


def _run(config: uvicorn.Config, listener: socket.socket, drain_seconds: int) -> None:
    from issuer.serving.supervisor import run  # noqa: PLC0415 - imports all of uvicorn's supervisors

    serve_with_log()
    if not run(config, listener, drain_seconds):
        raise CommandError("the server did not start; see its log")
    if isinstance(config.app, FastAPI) and config.app.state.supervisor.has_ended:
        raise CommandError("a background task could not be kept running; see the log")


def _announce(title: dict[str, str], warnings: Iterable[str]) -> None:
    """Print the settings of the start and warnings: on a terminal as text, otherwise as log lines."""
    if sys.stderr.isatty():
        sys.stderr.writelines(f"{name:<13} {terminal_safe(value)}\n" for name, value in title.items())
        for warning in warnings:
            warn(warning)
        return
    log = structlog.get_logger("issuer.serve")
    log.info("starting", **{name.replace(" ", "_"): value for name, value in title.items()})
    for warning in warnings:
        log.warning(warning)


def _title(issuer: Issuer, host: str, port: int, workers: int, *, tls: bool) -> dict[str, str]:
    settings = issuer.settings
    encrypted = "encrypted" if settings.passphrase() else "NOT encrypted: no passphrase is set"
    where = {
        "database": f"in the database, {encrypted}",
        "pkcs11": f"in the PKCS#11 token {settings.pkcs11_token}, which they never leave",
    }.get(settings.keys, f"in {Path(settings.keys).resolve()}, {encrypted}")
    how = f"{'TLS, ' if tls else ''}{workers} worker{'s' if workers > 1 else ''}"
    return {
        "issuer": issuer.settings.url,
        "settings": f"from {source()}",
        "listening on": f"{host} port {port}, {how}; Ctrl-C ends it",
        "database": str(issuer.database),
        "private keys": where,
    }


def _warnings(issuer: Issuer, host: str, port: int, *, tls: bool) -> Iterator[str]:
    """Yield warnings about settings that are probably mistakes; `issuer check` has more."""
    settings = issuer.settings
    url = urlsplit(settings.url)
    if settings.is_loopback and (url.port or DEFAULT_PORTS[url.scheme]) != port:
        yield f"tokens and discovery contain ISSUER_URL {settings.url}, but this listens on port {port}"
    if settings.is_loopback and host not in LOOPBACK:
        yield f"this listens on {host}, which other machines may reach, but ISSUER_URL is {settings.url}"
    if url.scheme == "http" and tls:
        yield f"this serves TLS, but ISSUER_URL {settings.url} is plain http"
    strays = private_keys.orphans(settings, issuer.keys.signer, issuer.keys.node.view.ring, issuer.clock())
    mistakes = configuration.likely_mistakes(settings, tls=tls)
    for finding in (*mistakes, *configuration.given_values(), *strays):
        yield finding.wrong
    for warning in settings.passphrase_warnings():
        yield warning.message
