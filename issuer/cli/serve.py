"""`issuer serve`: run the issuer under uvicorn."""

import socket
import sys
from typing import Annotated

import typer
import uvicorn

from issuer.cli.output import CommandError, opened

WORKER = "issuer.web.worker:create_worker"
GRACE_SECONDS = 10


def serve(
    *,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="How many processes.")] = 1,
) -> None:
    """Run the issuer; the first time this makes the database and the key ring."""
    _require_free(host, port)
    with opened() as issuer:
        issuer.node.refresh()  # what cannot start says so here, in one line
        sys.stderr.write(f"issuer {issuer.settings.url}  database {issuer.database}  keys {issuer.settings.keys}\n")
    uvicorn.run(
        WORKER,
        factory=True,
        host=host,
        port=port,
        workers=workers,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


def _require_free(host: str, port: int) -> None:
    """Raise CommandError unless the port can be bound, before anything is started."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise CommandError(f"cannot listen on {host}:{port}: {error}; choose another --port") from error
