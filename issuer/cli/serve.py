"""`issuer serve`: run the issuer under uvicorn."""

import sys
from typing import Annotated

import typer
import uvicorn

from issuer.cli.output import opened
from issuer.cli.ports import require_free

WORKER = "issuer.web.worker:create_worker"
GRACE_SECONDS = 10


def serve(
    *,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="How many processes.")] = 1,
) -> None:
    """Run the issuer; the first time this makes the database and the key ring."""
    require_free(host, port)
    with opened() as issuer:
        issuer.node.refresh()  # what cannot start says so here, in one line
        sys.stderr.write(
            f"issuer {issuer.settings.url}  database {issuer.database}  keys {issuer.settings.keys}\n"
        )
    uvicorn.run(
        WORKER,
        factory=True,
        host=host,
        port=port,
        workers=workers,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
