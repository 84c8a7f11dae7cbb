"""Errors as HTTP: the one place that writes them, in OAuth's shape, and their description in OpenAPI.

Which error it is, with its code and status, is defined in `oauth`.
"""

import math
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from issuer.accounts.hashing_pool import QueueFull
from issuer.connections.shortages import KINDS, RETRY_SECONDS, is_shortage
from issuer.database.errors import StoreError
from issuer.errors import KeyRingError
from issuer.oauth import ErrorCode, InvalidToken, MethodNotAllowed, NotFound, OAuthError, Unavailable
from issuer.tokens.refresh import RepeatRefused, ReuseDetected
from issuer.web.http.methods import allowed
from issuer.web.instruments import Figures

log = structlog.get_logger("issuer.web")

DESCRIPTION_MOST = 500
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
"""RFC 6749 section 5.1."""


class ErrorBody(BaseModel):
    """Every error of this service, RFC 6749 section 5.2."""

    error: str = Field(description="A code for programs.", examples=["invalid_request"])
    error_description: str = Field(
        description="A sentence for people.", examples=["the parameter x is missing"]
    )


class MissingToken(InvalidToken):
    """No access token at all: the challenge carries no error code, RFC 6750 section 3.1."""

    def __init__(self) -> None:
        super().__init__("this endpoint needs an access token")


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI `responses` of an endpoint that answers with these errors; never a 422."""
    reasons = {
        400: "The request is malformed or not allowed as it stands.",
        401: "Authentication failed or is missing.",
        403: "Switched off by the operator.",
        404: "There is no such thing, or it is not the caller's.",
        409: "The username is taken.",
        413: "The request body is too large.",
        415: "The request body has a Content-Encoding.",
        429: "Too many attempts; see Retry-After.",
        503: "The issuer cannot answer for the moment; see Retry-After.",
    }
    described: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorBody, "description": reasons[status], "headers": _HEADERS.get(status, {})}
        for status in statuses
    }
    return {**described, "4XX": {"model": ErrorBody, "description": "Any other refusal."}}


_AGAIN = {"Retry-After": {"required": True, "schema": {"type": "integer", "minimum": 1}}}
_CHALLENGE = {"WWW-Authenticate": {"required": True, "schema": {"type": "string"}}}
_HEADERS: dict[int, dict[str, Any]] = {401: _CHALLENGE, 429: _AGAIN, 503: _AGAIN}
"""The headers that come with errors, in OpenAPI's words."""


def install(app: FastAPI) -> None:
    """Let every error that can leave an endpoint be written here."""
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)


async def write(request: Request, error: Exception) -> Response:
    """Write an error that left an endpoint; where FastAPI is not in between, it is called for each."""
    return await next(_HANDLERS[kind] for kind in type(error).__mro__ if kind in _HANDLERS)(request, error)


def _answer(
    request: Request, status: int, code: str, description: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    Figures.of(request).refused(request.scope, code)
    body = {"error": code, "error_description": description}
    return JSONResponse(body, status, {**NO_STORE, **(headers or {})})


async def _oauth_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, OAuthError):
        raise error
    headers = {}
    if isinstance(error, InvalidToken) and not isinstance(error, MissingToken):
        headers["WWW-Authenticate"] = f'Bearer error="{error.code}", error_description="{error.description}"'
    elif error.challenge:
        realm = ' realm="issuer", charset="UTF-8"' if error.challenge == "Basic" else ""
        headers["WWW-Authenticate"] = error.challenge + realm
    headers.update(error.headers)
    if error.retry_after:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after.total_seconds())))
    figures = Figures.of(request)
    if isinstance(error, ReuseDetected):
        figures.replayed()
    if isinstance(error, RepeatRefused):
        figures.repeated("refused")
    if isinstance(error, QueueFull):
        figures.turned_away()
    return _answer(request, error.status, error.code, error.description, headers)


_REASONS = {
    "missing": "is missing",
    "model_attributes_type": "must be an object",
    "string_pattern_mismatch": "has a value that is not supported",
    "string_type": "must be a string",
    "string_unicode": "must be Unicode text",
}
"""What pydantic finds wrong, in the words of this service."""


async def _invalid_parameters(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    # Names and reasons, never values: one of them may be a password.
    problems = [
        f"{'.'.join(map(str, each['loc'][1:])) or 'the body'} {_REASONS.get(each['type'], 'is not valid')}"
        for each in error.errors()
    ]
    return _answer(
        request, 400, ErrorCode.INVALID_REQUEST, "; ".join(dict.fromkeys(problems))[:DESCRIPTION_MOST]
    )


async def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    headers = dict(error.headers or {})
    if error.status_code == MethodNotAllowed.status:
        headers["Allow"] = allowed(request.app.routes, request.scope)
        if request.method == "OPTIONS":  # of no browser: `cors` has answered those
            return Response(status_code=204, headers=headers)
        return _answer(
            request, 405, MethodNotAllowed.code, "this endpoint has no such method; see Allow", headers
        )
    if error.status_code == NotFound.status:
        return _answer(request, 404, NotFound.code, "there is no such endpoint", headers)
    return _answer(request, error.status_code, ErrorCode.INVALID_REQUEST, str(error.detail), headers)


async def _nobody_listens(_request: Request, _error: Exception) -> Response:
    return Response(status_code=400)


async def _unavailable(request: Request, error: Exception) -> JSONResponse:
    log.error("cannot answer", reason=str(error))
    later = timedelta(seconds=RETRY_SECONDS)
    return await _oauth_error(request, Unavailable("the issuer cannot answer now", later))


async def _shortage(request: Request, error: Exception) -> JSONResponse:
    return await (_unavailable if is_shortage(error) else _defect)(request, error)


async def _defect(request: Request, error: Exception) -> JSONResponse:
    log.error("defect", exc_info=error)
    return _answer(request, 500, "server_error", "internal error; see the log of the issuer")


_HANDLERS: Mapping[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
    OAuthError: _oauth_error,
    RequestValidationError: _invalid_parameters,
    HTTPException: _http_error,
    StoreError: _unavailable,
    KeyRingError: _unavailable,
    ClientDisconnect: _nobody_listens,
    **dict.fromkeys(KINDS, _shortage),
    Exception: _defect,
}
