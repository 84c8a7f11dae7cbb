"""Whether a port can be listened on, asked before anything is started."""

import socket

from issuer.cli.output import CommandError


def require_free(host: str, port: int) -> None:
    """Raise CommandError unless `host` and `port` can be bound."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CommandError(
                f"cannot listen on {host}:{port}: {error.strerror or error}; stop what uses it or choose another"
            ) from error
