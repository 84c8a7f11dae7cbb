"""Limits on request bodies, for the fast path as well: their size, and no Content-Encoding."""

from types import MappingProxyType

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from issuer.oauth import ErrorCode, OAuthError
from issuer.web.http.errors import Documented, respond_to

BODY_MOST_BYTES = 64 * 1024
LENGTH_DIGITS = 12


class BodyTooLarge(OAuthError):
    """The request body is larger than 64 KiB."""

    code = ErrorCode.INVALID_REQUEST
    status = 413
    description = f"the request body is larger than {BODY_MOST_BYTES} bytes"


class ContentCoded(OAuthError):
    """The request body has a Content-Encoding; none is supported (RFC 9110 sections 12.5.3 and 15.5.16)."""

    code = ErrorCode.INVALID_REQUEST
    status = 415
    headers = MappingProxyType({"Accept-Encoding": "identity"})
    description = "the request body has a Content-Encoding; send it without"


BODY_ERRORS: tuple[Documented, ...] = (BodyTooLarge, ContentCoded)
"""Errors of every endpoint with a request body."""


async def read_body(request: Request) -> bytes:
    """Return the body, measuring it as it arrives; raise BodyTooLarge or ContentCoded."""
    _require_small(request.scope)
    if request.headers.get("content-encoding", "").lower() not in {"", "identity"}:
        raise ContentCoded
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_MOST_BYTES:
            raise BodyTooLarge
    return body


class RefuseLargeBodies:
    """ASGI middleware: refuses a request whose Content-Length is too large, also where no body is read."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on."""
        try:
            if scope["type"] == "http":
                _require_small(scope)
        except BodyTooLarge as error:
            await (await respond_to(Request(scope), error))(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _require_small(scope: Scope) -> None:
    """Raise BodyTooLarge for a request whose Content-Length is too large, before the body is read."""
    length = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    digits = length.lstrip(b"0")  # the parser accepts any number of leading zeros
    if digits.isdigit() and (len(digits) > LENGTH_DIGITS or int(digits) > BODY_MOST_BYTES):
        raise BodyTooLarge
