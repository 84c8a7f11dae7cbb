"""A misbehaving server of key sets in its own process: `python hostile_server.py VALID_DOCUMENT`.

The path selects the behaviour: `/RUN/BEHAVIOUR/N` answers N times correctly, then with the behaviour. Requests are
counted. It is used by `test_hostile` and `benchmarks/verifier.py`.
"""

import asyncio
import contextlib
import gzip
import ipaddress
import json
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, unquote

import httpx2
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

Behaviour = Callable[[asyncio.StreamWriter, bytes], Coroutine[Any, Any, None]]


def http(body: bytes, *headers: str, status: str = "200 OK", length: object = None) -> bytes:
    """Return a response; its Content-Length is right unless given."""
    stated = len(body) if length is None else length
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {stated}", *headers, "", ""]).encode() + body


def answering(make: Callable[[bytes], bytes]) -> Behaviour:
    """Send bytes made from the valid document, and close the connection."""

    async def behave(writer: asyncio.StreamWriter, good: bytes) -> None:
        writer.write(make(good))
        await writer.drain()

    return behave


def forever(start: bytes, part: bytes, pause: float = 0.0) -> Behaviour:
    """Begin a response and never end it."""

    async def behave(writer: asyncio.StreamWriter, _: bytes) -> None:
        writer.write(start)
        while not writer.is_closing():
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)

    return behave


def silent(start: bytes) -> Behaviour:
    """Begin a response and send nothing more."""

    async def behave(writer: asyncio.StreamWriter, _: bytes) -> None:
        writer.write(start)
        await writer.drain()
        await asyncio.sleep(60)

    return behave


def reset(start: bytes) -> Behaviour:
    """Begin a response and reset the connection."""

    async def behave(writer: asyncio.StreamWriter, _: bytes) -> None:
        writer.write(start)
        await writer.drain()
        await asyncio.sleep(0.05)  # else the reset would overtake the data
        abort(writer)

    return behave


def abort(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def never_done(writer: asyncio.StreamWriter, good: bytes) -> None:
    """Send the valid document, then single bytes without an end."""
    await forever(http(good, length=len(good) + 60_000), b" ", 0.01)(writer, good)


async def late(writer: asyncio.StreamWriter, good: bytes) -> None:
    """Answer correctly after a delay."""
    await asyncio.sleep(0.2)
    writer.write(http(good, "Cache-Control: max-age=300"))


async def away(writer: asyncio.StreamWriter, _: bytes) -> None:
    """Reset every connection until `come_back`."""
    abort(writer)


def redirect(where: str, status: str = "302 Found") -> Behaviour:
    return answering(lambda good: http(good, f"Location: {where}", status=status))


def compressed(coding: str, compress: Callable[[bytes], bytes]) -> Behaviour:
    return answering(lambda good: http(compress(good), f"Content-Encoding: {coding}"))


def bomb(coding: str) -> Behaviour:
    """Send 60 KB that decompress to 60 MB."""
    packed = (gzip.compress if coding == "gzip" else zlib.compress)(b" " * 60_000_000, 9)[:60_000]
    return answering(lambda _: http(packed, f"Content-Encoding: {coding}"))


def large_keys(good: bytes) -> bytes:
    """Send as many keys as fit into 64 KB, each larger than any in use."""
    jwk = json.loads(good)["keys"][0]
    keys = [{**jwk, "kid": f"k{number}", "n": jwk["n"] * 4} for number in range(40)]
    return http(json.dumps({"keys": keys}).encode())


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

HOSTILE: Mapping[str, Behaviour] = {
    "drip of headers": forever(HEAD + b"X: ", b"x", 0.01),
    "drip of a body": forever(HEAD + b"Content-Length: 60000\r\n\r\n", b" ", 0.01),
    "drip after a whole document": never_done,
    "drip of chunks": forever(CHUNKED, b"1\r\n \r\n", 0.01),
    "silence at once": silent(b""),
    "silence in the headers": silent(HEAD),
    "silence in the body": silent(HEAD + b"Content-Length: 10\r\n\r\n{"),
    "endless body": forever(HEAD + b"\r\n", b" " * 65536),
    "endless chunks": forever(CHUNKED, b"10000\r\n" + b" " * 65536 + b"\r\n"),
    "endless tiny chunks": forever(CHUNKED, b"1\r\n \r\n" * 4096),
    "endless headers": forever(HEAD, b"X: y\r\n" * 4096),
    "endless header": forever(HEAD + b"X: ", b"y" * 65536),
    "endless early hints": forever(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", 0.01),
    "endless trailers": forever(CHUNKED + b"0\r\n", b"X: y\r\n" * 4096),
    "a header of 1 MB": answering(lambda good: http(good, "X: " + "y" * 1_000_000)),
    "100 000 headers": answering(lambda good: http(good, *["X: y"] * 100_000)),
    "gzip bomb": bomb("gzip"),
    "deflate bomb": bomb("deflate"),
    "gzip": compressed("gzip", gzip.compress),
    "gzip twice": compressed("gzip, gzip", lambda good: gzip.compress(gzip.compress(good))),
    "a coding that nobody knows": compressed("x-rot13", lambda good: good),
    "gzip as transfer coding": answering(lambda _: HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "an image": answering(lambda _: http(b"\x89PNG\r\n\x1a\n" + bytes(1000), "Content-Type: image/png")),
    "a form": answering(lambda _: http(b"keys=1", "Content-Type: application/x-www-form-urlencoded")),
    "64 KB of digits": answering(lambda _: http(b'{"keys": ' + b"9" * 64_000 + b"}")),
    "64 KB of brackets": answering(lambda _: http(b'{"keys": ' + b"[" * 64_000)),
    "64 KB of members": answering(lambda _: http(json.dumps({str(n): 0 for n in range(5000)}).encode())),
    "keys of 8192 bits": answering(large_keys),
    "304 of nothing asked": answering(lambda _: b"HTTP/1.1 304 Not Modified\r\n\r\n"),
    "304 with a body": answering(lambda good: http(good, status="304 Not Modified")),
    "reset at once": reset(b""),
    "reset in the headers": reset(HEAD),
    "reset in the body": reset(HEAD + b'Content-Length: 100\r\n\r\n{"keys": ['),
    "end in the body": answering(lambda good: http(good, length=len(good) + 1)),
    "end in a chunk": answering(lambda good: CHUNKED + b"fff\r\n" + good),
    "two lengths": answering(lambda good: http(good, "Content-Length: 2")),
    "a negative length": answering(lambda good: http(good, length=-1)),
    "a length of 10^30": answering(lambda good: http(good, length=10**30)),
    "a chunk that is not hexadecimal": answering(lambda good: CHUNKED + b"zz\r\n" + good),
    "a chunk of 2^64": answering(lambda good: CHUNKED + b"10000000000000000\r\n" + good),
    "NUL in a header": answering(lambda good: http(good, "X: \0")),
    "status 999": answering(lambda good: http(good, status="999 Of nothing")),
    "status of letters": answering(lambda good: http(good, status="OK 200")),
    "an upgrade": answering(lambda _: b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n"),
    "HTTP 0.9": answering(lambda good: good),
    "HTTP 2": answering(lambda _: b"\0\0\0\4\0\0\0\0\0"),
    "another protocol": answering(lambda _: b"220 smtp.test ESMTP\r\n"),
    "a redirect to a good set": redirect("/elsewhere/good/9"),
    "a redirect to itself": redirect("", "301 Moved Permanently"),
    "a redirect to a file": redirect("file:///etc/passwd", "307 Temporary Redirect"),
    "a refresh": answering(lambda _: http(b"", "Refresh: 0; url=/elsewhere/good/9", status="204 No Content")),
}  # fmt: skip
OTHERS: Mapping[str, Behaviour] = {
    "good": answering(lambda good: http(good, "Cache-Control: max-age=300")),
    "late": late,
    "away": away,
}


class Server:
    """Serves behaviours by path; counts the requests of each path, and the most at once."""

    def __init__(self, good: bytes) -> None:
        self._good = good
        self._asked: Counter[str] = Counter()
        self._open: Counter[str] = Counter()
        self._at_once: Counter[str] = Counter()
        self._is_back = False

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            path = unquote(head.split()[1].decode())
            if path == "/counts":
                counts = {name: (count, self._at_once[name]) for name, count in self._asked.items()}
                writer.write(http(json.dumps(counts).encode()))
                return
            if path == "/back":
                self._is_back = True
                writer.write(http(b"{}"))
                return
            self._asked[path] += 1
            self._open[path] += 1
            self._at_once[path] = max(self._at_once[path], self._open[path])
            _, _, behaviour, good = path.split("/")
            behave = OTHERS.get(behaviour) or HOSTILE[behaviour]
            if self._asked[path] <= int(good) or (behaviour == "away" and self._is_back):
                behave = OTHERS["good"]
            try:
                closed = asyncio.create_task(reader.read())  # ends when the client disconnects
                answered = asyncio.create_task(behave(writer, self._good))
                await asyncio.wait({closed, answered}, return_when=asyncio.FIRST_COMPLETED)
                for task in (closed, answered):
                    task.cancel()
                await asyncio.gather(closed, answered, return_exceptions=True)
            finally:
                self._open[path] -= 1
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client disconnected, or the server ends
        finally:
            writer.close()


def self_signed(folder: Path) -> ssl.SSLContext:
    """Return a TLS context with a self-signed certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem = folder / "certificate.pem"
    pem.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + certificate.public_bytes(Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


async def serve(good: bytes) -> None:
    """Serve until standard input ends; print the ports for plain HTTP and for TLS with a self-signed certificate."""
    server = Server(good)
    with tempfile.TemporaryDirectory() as folder:
        context = self_signed(Path(folder))
    plain = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    distrusted = await asyncio.start_server(server.handle, "127.0.0.1", 0, ssl=context)
    ports = [str(each.sockets[0].getsockname()[1]) for each in (plain, distrusted)]
    sys.stdout.write(" ".join(ports) + "\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


class HostileServer:
    """The server process, with its URL and counts."""

    def __init__(self, jwks: Mapping[str, object]) -> None:
        self._runs = 0
        self._process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(jwks)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        self.port, self.tls_port = map(int, self._process.stdout.readline().split())
        self.url = f"http://127.0.0.1:{self.port}"

    def path(self, behaviour: str, good: int = 0) -> str:
        """Return a new path for a behaviour that begins after `good` valid responses."""
        self._runs += 1
        return quote(f"/{self._runs}/{behaviour}/{good}")

    def counts(self, path: str) -> tuple[int, int]:
        """Return the number of requests of a path, and the most at once."""
        asked, at_once = httpx2.get(f"{self.url}/counts", trust_env=False).json().get(unquote(path), (0, 0))
        return asked, at_once

    def come_back(self) -> None:
        """End the behaviour "away": answer correctly."""
        httpx2.get(f"{self.url}/back", trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()  # closes its standard input, which ends it


@contextlib.contextmanager
def hostile_server(jwks: Mapping[str, object]) -> Iterator[HostileServer]:
    """Run a server within the block."""
    with HostileServer(jwks) as server:
        yield server


class Stall:
    """Measures the longest time for which the event loop is blocked: `async with Stall() as stall`."""

    seconds = 0.0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0)  # else a block at the end would be missed
        self._task.cancel()

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            asked = loop.time()
            await asyncio.sleep(0.001)
            self.seconds = max(self.seconds, loop.time() - asked - 0.001)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(sys.argv[1].encode()))
