"""Errors as HTTP responses: the handler of each exception, the JSON renderer, and their description in OpenAPI.

Codes and statuses are defined in `oauth`; an endpoint with another renderer declares it by `endpoints`.
"""

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
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
from issuer.oauth import (
    ErrorCode,
    InvalidRequest,
    InvalidToken,
    MethodNotAllowed,
    NotFound,
    OAuthError,
    ServerError,
    Unavailable,
)
from issuer.tokens.refresh import RepeatRefused, ReuseDetected
from issuer.web.http.endpoints import ErrorResponse, Renderer, renderer_of
from issuer.web.http.methods import allowed
from issuer.web.instruments import Instruments

log = structlog.get_logger("issuer.web")

DESCRIPTION_MOST_CHARACTERS = 500
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
"""RFC 6749 section 5.1."""


class ErrorBody(BaseModel):
    """An error response, RFC 6749 section 5.2."""

    error: str = Field(description="An error code for programs.", examples=["invalid_request"])
    error_description: str = Field(
        description="A description for developers.", examples=["the parameter x is missing"]
    )


class MissingToken(InvalidToken):
    """The request has no access token: the challenge carries no error code, RFC 6750 section 3.1."""

    description = "this endpoint needs an access token"


_RETRY_AFTER = {"Retry-After": {"required": True, "schema": {"type": "integer", "minimum": 1}}}
_CHALLENGE = {"WWW-Authenticate": {"required": True, "schema": {"type": "string"}}}
_HEADERS: dict[int, dict[str, Any]] = {401: _CHALLENGE, 429: _RETRY_AFTER, 503: _RETRY_AFTER}
"""The headers of error responses, as OpenAPI describes them."""

Documented = OAuthError | type[OAuthError]
"""An error as documents show it; a class has the description of errors that are raised without one."""
_ANYWHERE: tuple[Documented, ...] = (
    InvalidRequest("the request has more than one header authorization"),
    MethodNotAllowed,
)
"""Errors that any endpoint may answer."""


def documented(*errors: Documented) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI `responses` of an endpoint that answers these errors, each with its body; never a 422."""
    statuses = sorted({error.status for error in errors})
    responses: dict[int | str, dict[str, Any]] = {
        status: _response([error for error in errors if error.status == status], _HEADERS.get(status, {}))
        for status in statuses
    }
    return {**responses, "4XX": _response(_ANYWHERE, {})}


def answered(body: Any, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI `responses` of an endpoint whose JSON has no model: an example of the body."""
    return {status: {"content": {"application/json": {"example": body}}}}


def cause(error: Documented) -> str:
    """Return when an error occurs, in one sentence."""
    return (error.__doc__ or "").partition("\n")[0]


def _response(errors: Sequence[Documented], headers: dict[str, Any]) -> dict[str, Any]:
    causes = [cause(error) for error in errors]
    return {
        "model": ErrorBody,
        "description": causes[0] if len(causes) == 1 else "\n".join(f"- {each}" for each in causes),
        "headers": headers,
        "content": {"application/json": {"examples": _examples(errors)}},
    }


def _examples(errors: Sequence[Documented]) -> dict[str, Any]:
    """Return the body of each error under its code, and a number if there are several with the code."""
    examples: dict[str, Any] = {}
    for error in errors:
        number = 1 + sum(name.partition(" ")[0] == error.code for name in examples)
        name = f"{error.code} {number}" if number > 1 else str(error.code)
        examples[name] = {"summary": error.description, "value": _body(error.code, error.description)}
    return examples


def install(app: FastAPI, for_browsers: Renderer) -> None:
    """Register the handlers of all exceptions; `for_browsers` renders that a browser opened what does not exist."""
    app.state.page_of_error = for_browsers
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)


async def respond_to(request: Request, error: Exception) -> Response:
    """Return the response to an exception; called directly where FastAPI does not call the handlers."""
    return await next(_HANDLERS[kind] for kind in type(error).__mro__ if kind in _HANDLERS)(request, error)


def prefers_html(accept: str) -> bool:
    """Return whether an Accept header is that of a browser: it names HTML, which programs do not."""
    return "text/html" in accept.lower()


def render_json(_request: Request, error: ErrorResponse) -> Response:
    """Return an error as JSON, RFC 6749 section 5.2: the renderer of endpoints that declare none."""
    return JSONResponse(_body(error.code, error.description), error.status, {**NO_STORE, **error.headers})


def _body(code: str, description: str) -> dict[str, str]:
    return {"error": code, "error_description": description}


def _respond(
    request: Request, status: int, code: str, description: str, headers: Mapping[str, str] | None = None
) -> Response:
    Instruments.of(request).request_refused(request.scope, code)
    render = renderer_of(request.scope.get("endpoint")) or render_json
    return render(request, ErrorResponse(status, code, description, headers or {}))


async def _oauth_error(request: Request, error: Exception) -> Response:
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
    instruments = Instruments.of(request)
    if isinstance(error, ReuseDetected):
        instruments.refresh_token_reused()
    if isinstance(error, RepeatRefused):
        instruments.refresh_token_retried("refused")
    if isinstance(error, QueueFull):
        instruments.hashing_rejected()
    return _respond(request, error.status, error.code, error.description, headers)


_VALIDATION_ERRORS = {
    "missing": "is missing",
    "model_attributes_type": "must be an object",
    "string_pattern_mismatch": "has a value that is not supported",
    "string_type": "must be a string",
    "string_unicode": "must be Unicode text",
}
"""Descriptions of pydantic's errors."""


async def _invalid_parameters(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    # Names and reasons, never values: one of them may be a password.
    problems = [
        f"{'.'.join(map(str, each['loc'][1:])) or 'the body'} {_VALIDATION_ERRORS.get(each['type'], 'is not valid')}"
        for each in error.errors()
    ]
    return _respond(
        request,
        400,
        ErrorCode.INVALID_REQUEST,
        "; ".join(dict.fromkeys(problems))[:DESCRIPTION_MOST_CHARACTERS],
    )


async def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    headers = dict(error.headers or {})
    if error.status_code == MethodNotAllowed.status:
        headers["Allow"] = allowed(request.app.routes, request.scope)
        # Preflight requests of browsers were answered by `cors`.
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=headers)
        return _respond(request, 405, MethodNotAllowed.code, MethodNotAllowed.description, headers)
    if error.status_code == NotFound.status:
        if "endpoint" not in request.scope and prefers_html(request.headers.get("accept", "")):
            Instruments.of(request).request_refused(request.scope, NotFound.code)
            page: Renderer = request.app.state.page_of_error
            return page(request, ErrorResponse(404, NotFound.code, NotFound.description, headers))
        return _respond(request, 404, NotFound.code, NotFound.description, headers)
    return _respond(request, error.status_code, ErrorCode.INVALID_REQUEST, str(error.detail), headers)


async def _client_disconnected(_request: Request, _error: Exception) -> Response:
    return Response(status_code=400)


async def _unavailable(request: Request, error: Exception) -> Response:
    log.error("service unavailable", reason=str(error))
    retry_after = timedelta(seconds=RETRY_SECONDS)
    return await _oauth_error(request, Unavailable(Unavailable.description, retry_after))


async def _shortage(request: Request, error: Exception) -> Response:
    return await (_unavailable if is_shortage(error) else _internal_error)(request, error)


async def _internal_error(request: Request, error: Exception) -> Response:
    log.error("internal error", exc_info=error)
    return await _oauth_error(request, ServerError())


_HANDLERS: Mapping[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
    OAuthError: _oauth_error,
    RequestValidationError: _invalid_parameters,
    HTTPException: _http_error,
    StoreError: _unavailable,
    KeyRingError: _unavailable,
    ClientDisconnect: _client_disconnected,
    **dict.fromkeys(KINDS, _shortage),
    Exception: _internal_error,
}
