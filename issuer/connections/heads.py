"""Validates the head of a request by RFC 9110 and RFC 9112 where the parser is more lenient.

The parser itself refuses Content-Length together with Transfer-Encoding, obsolete line folding, bare line feeds and
NUL bytes.
"""

import json
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from http import HTTPStatus

import httptools

from .ledger import Cause

Headers = Sequence[tuple[bytes, bytes]]

_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+;=%-]*|\[[0-9A-Za-z:.%]+\])(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?#@]+)(.*)", re.DOTALL)
_VERSIONS = frozenset({"1.0", "1.1"})
_FRAMING = frozenset({b"host", b"transfer-encoding", b"content-length", b"expect"})
HEADER_OVERHEAD_BYTES = len(b": \r\n")


class Refused(Exception):
    """A request is refused before it reaches the application."""

    def __init__(self, reason: Cause, status: HTTPStatus, description: str) -> None:
        super().__init__(description)
        self.reason = reason
        self.status = status

    def answer(self, date: Headers) -> bytes:
        """Return the response: an error as in RFC 6749 section 5.2, with `Connection: close`."""
        is_busy = self.status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}
        code = "temporarily_unavailable" if is_busy else "invalid_request"
        body = json.dumps({"error": code, "error_description": str(self)}).encode()
        lines = [
            b"HTTP/1.1 %d %s" % (self.status, self.status.phrase.encode()),
            *(b"%s: %s" % header for header in date),
            b"content-type: application/json",
            b"cache-control: no-store",
            b"content-length: %d" % len(body),
            b"connection: close",
        ]
        if is_busy:
            lines.append(b"retry-after: 1")
        return b"\r\n".join([*lines, b"", body])


def malformed(description: str) -> Refused:
    """Return the refusal of an invalid HTTP/1.1 request."""
    return Refused(Cause.MALFORMED, HTTPStatus.BAD_REQUEST, description)


def refusal_of(error: httptools.HttpParserError) -> Refused:
    """Return the refusal for an error of the parser, which may have been raised by a callback."""
    if isinstance(error.__context__, Refused):
        return error.__context__
    if isinstance(error, httptools.HttpParserCallbackError):
        # The only other error of a callback.
        return malformed("the request target is malformed")
    # The parser's message contains no data of the request.
    return malformed(f"malformed HTTP request: {error}")


def head_too_large(most_bytes: int) -> Refused:
    """Return the refusal of a request line and headers that are too large together."""
    return Refused(
        Cause.HEAD_TOO_LARGE,
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        f"the request line and headers are larger than {most_bytes} bytes",
    )


def too_many_headers(most: int) -> Refused:
    """Return the refusal of a request with too many header lines."""
    return Refused(
        Cause.HEAD_TOO_LARGE,
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        f"the request has more than {most} headers",
    )


def target_too_long(most_bytes: int) -> Refused:
    """Return the refusal of a request target that is too long."""
    return Refused(
        Cause.TARGET_TOO_LONG,
        HTTPStatus.REQUEST_URI_TOO_LONG,
        f"the request target is longer than {most_bytes} bytes",
    )


def size(target: bytes, headers: Headers) -> int:
    """Return the size of a head in bytes, without blanks that the parser has dropped."""
    return len(target) + sum([len(name) + len(value) + HEADER_OVERHEAD_BYTES for name, value in headers])


def framing(version: str, headers: Headers) -> dict[bytes, bytes]:
    """Return Host and the headers that frame the body; raise Refused if one is repeated or invalid."""
    if version not in _VERSIONS:
        raise malformed("only HTTP/1.1 and HTTP/1.0 are supported")
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _FRAMING:
            # RFC 9112 section 3.2 for Host; the parser itself refuses a repeated Content-Length.
            if name in found:
                raise malformed(f"more than one {name.decode().title()} header")
            found[name] = value
    host = found.get(b"host")
    if host is None:
        if version == "1.1":
            raise malformed("the Host header is missing")
    elif not is_host(host):
        raise malformed("the Host header is invalid")
    coding = found.get(b"transfer-encoding")
    if coding is not None and (version != "1.1" or coding.lower() != b"chunked"):
        raise malformed("the only supported Transfer-Encoding is chunked, in HTTP/1.1")
    return found


@lru_cache(maxsize=64)
def is_host(value: bytes) -> bool:
    """Whether this is a valid Host, RFC 9110 section 7.2; no comma, which would join two."""
    return _HOST.fullmatch(value) is not None


def origin_form(method: bytes, target: bytes) -> tuple[bytes, bytes | None]:
    """Return path and query of a request target, and its host if it is an absolute URL (RFC 9112 section 3.2)."""
    if method == b"CONNECT":
        raise malformed("CONNECT is for proxies, and this server is not one")
    if target.startswith(b"/") or (target == b"*" and method == b"OPTIONS"):
        return target, None
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or not is_host(absolute[1]):
        raise malformed("the request target must be a path or an http URL")
    rest = absolute[2]
    return rest if rest.startswith(b"/") else b"/" + rest, absolute[1]


def with_host(headers: Iterable[tuple[bytes, bytes]], host: bytes) -> list[tuple[bytes, bytes]]:
    """Return the headers with another Host, as RFC 9112 section 3.2.2 requires for an absolute target."""
    return [(b"host", host), *(header for header in headers if header[0] != b"host")]


def tokens(headers: Headers, name: bytes) -> list[bytes]:
    """Return the members of a list header from all of its lines, in lower case."""
    return [token.strip().lower() for each, value in headers if each == name for token in value.split(b",")]
