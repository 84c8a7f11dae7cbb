"""Raw HTTP to the issuer and to the example service, as they run as servers."""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

import httpx2
import pytest

from support.servers import HOST, PATIENCE_SECONDS, Installation, Server, eventually

LAST = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
FORM = b"Host: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
FEW_DESCRIPTORS = 128


class Service(NamedTuple):
    """One of the two services as it runs."""

    server: Server
    port: int
    path: str
    """What takes POST in the issuer; in the example nothing does."""
    refuses: bytes
    """The status of a POST without credentials."""


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Service]]:
    with Installation(tmp_path_factory.mktemp("both")) as installation:
        issuer, example = installation.serve(), installation.serve_service()
        plain = installation.serve_service_by_uvicorn()
        yield {
            "issuer": Service(issuer.until_ready(), installation.port, "/oauth2/token", b"401"),
            "example": Service(example.until_ready(), installation.service_port, "/me", b"405"),
            "uvicorn": Service(plain.until_ready(), plain.port, "/me", b"405"),
        }


@pytest.fixture(params=["issuer", "example", "uvicorn"])
def service(request: pytest.FixtureRequest, both: dict[str, Service]) -> Service:
    """Either service; the example by its own command, and by plain uvicorn."""
    found: Service = both[request.param]
    return found


def exchange(port: int, *parts: bytes) -> bytes:
    """Send the parts, and return everything that is answered until the server closes the connection."""
    with socket.create_connection((HOST, port), timeout=PATIENCE_SECONDS) as connection:
        for part in parts:
            connection.sendall(part)
        received = b""
        with suppress(ConnectionError):
            while data := connection.recv(65536):
                received += data
        return received


def statuses(answers: bytes) -> list[bytes]:
    return re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)


def post(path: str, headers: bytes = b"", body: bytes = b"grant_type=client_credentials") -> bytes:
    length = b"" if b"Transfer-Encoding" in headers else b"Content-Length: %d\r\n" % len(body)
    return b"POST %s HTTP/1.1\r\n" % path.encode() + FORM + length + headers + b"\r\n" + body


def get(headers: bytes = b"Host: x\r\n", target: bytes = b"/healthz", version: bytes = b"1.1") -> bytes:
    return b"GET %s HTTP/%s\r\n%s\r\n" % (target, version, headers)


def start(installation: Installation, which: str, *options: str) -> Server:
    serve = installation.serve if which == "issuer" else installation.serve_service
    return serve(*options).until_ready() if which == "issuer" else serve(*options).until_alive()


def descriptors(server: Server) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


class User:
    """A client that continues to ask beside the others, on a kept connection and on new ones."""

    def __init__(self, server: Server, path: str = "/healthz") -> None:
        self._url = f"{server.url}{path}"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.seen: list[int | str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        eventually(lambda: self.seen, "the user is answered")
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        with httpx2.Client(trust_env=False, timeout=PATIENCE_SECONDS) as kept:
            while not self._over.wait(0.02):
                for ask in (kept.get, lambda url: httpx2.get(url, trust_env=False, timeout=PATIENCE_SECONDS)):
                    try:
                        self.seen.append(ask(self._url).status_code)
                    except httpx2.TransportError as error:
                        self.seen.append(repr(error))


def wait_for_more(user: User, number: int = 10) -> None:
    before = len(user.seen)
    eventually(lambda: len(user.seen) >= before + number, "the user is answered")


SLOW = (
    b"",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: ",
    post("/login", body=b"a" * 1000)[:-500],
    get(target=b"/static-offline-docs/swagger-ui-bundle.js") * 3,  # and reads nothing
)
