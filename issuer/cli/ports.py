"""Listening sockets, opened before anything else starts, so that a port in use is reported in one line."""

import errno
import socket
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager

import typer

from issuer.cli.output import CommandError

BACKLOG = 2048
PORTS_TRIED = 100
"""By `listening_from`, from the preferred one on."""


@contextmanager
def listening(host: str, port: int, option: str = "--port") -> Iterator[socket.socket]:
    """Yield a socket that listens, for servers and their processes to share.

    Raise CommandError if the port is taken; `option` is how another one is chosen.
    """
    host = host.strip().removeprefix("[").removesuffix("]")
    if not host:  # for a socket it would mean every address
        raise typer.BadParameter("--host is empty; give an address, 0.0.0.0 or :: for all")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6:
            # :: accepts IPv4 too, independent of the system's default; `addresses` normalizes IPv4-mapped addresses.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        try:
            listener.bind((host, port))
            listener.listen(BACKLOG)  # several processes may bind a port, but only one may listen
        except OSError as error:
            raise CommandError(f"cannot listen on {host}:{port}: {_reason(error, option)}") from error
        listener.set_inheritable(True)
        yield listener


def _reason(error: OSError, option: str) -> str:
    """Return the reason for the error, and what to do."""
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return "not an address of this machine; use one, or 0.0.0.0 or :: for all"
    if error.errno == errno.EACCES:
        return f"no permission for this port; choose one from 1024 on with {option}"
    return f"{error.strerror or error}; stop what uses it, or choose another port with {option}"


def require_free(host: str, port: int, option: str) -> None:
    """Raise CommandError unless one could listen on `host` and `port`."""
    with listening(host, port, option):
        pass


@contextmanager
def listening_from(
    host: str, preferred: int, option: str, taken: Collection[int] = ()
) -> Iterator[socket.socket]:
    """Yield a socket that listens on `preferred` or the next port that is free and not in `taken`.

    Raise CommandError if there is none.
    """
    for port in range(preferred, preferred + PORTS_TRIED):
        with ExitStack() as opened:
            if port in taken:
                continue
            try:
                listener = opened.enter_context(listening(host, port, option))
            except CommandError:
                continue
            yield listener
            return
    raise CommandError(
        f"the ports from {preferred} to {preferred + PORTS_TRIED - 1} are taken; choose one with {option}"
    )


def free_port(host: str, preferred: int, option: str, taken: Collection[int] = ()) -> int:
    """Return the port of `listening_from`, which others may take from now on."""
    with listening_from(host, preferred, option, taken) as listener:
        port: int = listener.getsockname()[1]
        return port
