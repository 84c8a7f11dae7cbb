"""`python -P -m verifier_example`: runs the example service with limits on its connections.

The application itself is defined in `app`.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from ipaddress import ip_network
from pathlib import Path

import uvicorn

from verifier_example.connections import Config, Limits
from verifier_example.connections.limits import BODY_SECONDS, HEAD_BYTES, HEAD_SECONDS, KEEP_ALIVE_SECONDS

GRACE_SECONDS = 10


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until a signal ends it."""
    _open_standard_files()
    given = _parser().parse_args(arguments)
    limits = Limits(
        keep_alive_seconds=given.keep_alive,
        head_seconds=given.head_timeout,
        body_seconds=given.body_timeout,
        head_bytes=given.max_head,
        connections=given.max_connections,
        connections_per_address=given.max_connections_per_address,
        proxies=tuple(given.proxy),
    )
    config = Config(
        "verifier_example.app:create_app",
        limits,
        factory=True,
        host=given.host,
        port=given.port,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    config.load()  # before binding: an application that cannot start never listens
    uvicorn.Server(config).run([config.bind_socket()])


def _open_standard_files() -> None:
    """Open /dev/null for closed descriptors 0 to 2: uvicorn needs them, and a connection would get the number."""
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(Path(os.devnull), os.O_RDWR)  # the lowest number that is free
            os.set_inheritable(opened, True)
            setattr(sys, name, os.fdopen(opened, mode, closefd=False))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -P -m verifier_example", description="Run the example service."
    )
    option = parser.add_argument
    option("--host", default="127.0.0.1", help="the address to listen on")
    option("--port", type=int, default=8001, help="the port to listen on")
    option(
        "--proxy",
        action="append",
        default=[],
        metavar="NETWORK",
        type=_network,
        help="an address or network of a proxy, whose connections are not bounded by address; may be repeated",
    )
    for name, default, least, text in (
        ("--keep-alive", KEEP_ALIVE_SECONDS, 1, "seconds until an idle connection is closed"),
        ("--head-timeout", HEAD_SECONDS, 1, "seconds that the request line and headers may take"),
        ("--body-timeout", BODY_SECONDS, 1, "seconds that a request body may take"),
        ("--max-head", HEAD_BYTES, 1024, "bytes of the request line and headers"),
        ("--max-connections", 0, 0, "connections; 0: what the file descriptors allow, at most 4096"),
        ("--max-connections-per-address", 0, 0, "connections of one address; 0: half of all"),
    ):
        option(name, type=_at_least(least), default=default, help=text)
    return parser


def _network(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{error}; write an address, or a network such as 10.0.0.0/8"
        ) from None


def _at_least(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
        return int(text)

    return read


if __name__ == "__main__":
    main()
