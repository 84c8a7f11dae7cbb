"""The error responses of a protected service: one table, their body, and their description in OpenAPI.

Which of them a request gets is decided in `fastapi`.
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

from fastapi import HTTPException
from pydantic import BaseModel


class ErrorBody(BaseModel):
    """The body of every error response (RFC 6749 section 5.2)."""

    error: str
    error_description: str


class Refused(HTTPException):
    """A response of this library: its body is an ErrorBody, and not in `detail`."""


class Refusal(NamedTuple):
    """An error response; `_replace` makes one with another description."""

    status: HTTPStatus
    code: str
    description: str
    cause: str
    """When it is sent, for documents."""

    @property
    def body(self) -> dict[str, str]:
        """The body of the response."""
        return ErrorBody(error=self.code, error_description=self.description).model_dump()


# Codes of RFC 6750 section 3.1. More detail about an invalid token would help forgers.
TOKENS_REPEATED = Refusal(
    HTTPStatus.BAD_REQUEST, "invalid_request", "more than one token was sent", "More than one token."
)
TOKEN_MISSING = Refusal(
    HTTPStatus.UNAUTHORIZED, "invalid_token", "a bearer token is required", "The request has no token."
)
TOKEN_INVALID = Refusal(
    HTTPStatus.UNAUTHORIZED,
    "invalid_token",
    "invalid token",
    "The token is not valid for this service.",
)
TOKEN_EXPIRED = Refusal(HTTPStatus.UNAUTHORIZED, "invalid_token", "token expired", "The token has expired.")
SCOPE_MISSING = Refusal(
    HTTPStatus.FORBIDDEN, "insufficient_scope", "a scope is missing", "The token lacks a scope."
)
NOT_FOUND = Refusal(HTTPStatus.NOT_FOUND, "not_found", "there is no such endpoint", "The path is unknown.")
METHOD_NOT_ALLOWED = Refusal(
    HTTPStatus.METHOD_NOT_ALLOWED,
    "method_not_allowed",
    "this endpoint has no such method; see Allow",
    "The path does not have the method; `Allow` lists those it has.",
)
UNAVAILABLE = Refusal(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "temporarily_unavailable",
    "the issuer's keys are not available",
    "There are no keys to verify tokens with; retry after `Retry-After` seconds.",
)
REFUSALS = (
    TOKENS_REPEATED,
    TOKEN_MISSING,
    TOKEN_INVALID,
    TOKEN_EXPIRED,
    SCOPE_MISSING,
    NOT_FOUND,
    METHOD_NOT_ALLOWED,
    UNAVAILABLE,
)
"""All of them, by status."""
OF_EACH_ROUTE = (TOKENS_REPEATED, TOKEN_MISSING, TOKEN_INVALID, TOKEN_EXPIRED, UNAVAILABLE)
"""Those of each route with a current user; SCOPE_MISSING comes with a scope."""

_CHALLENGE = {"WWW-Authenticate": {"required": True, "schema": {"type": "string"}}}
_RETRY_AFTER = {"Retry-After": {"required": True, "schema": {"type": "integer", "minimum": 0}}}
_HEADERS: dict[HTTPStatus, Any] = {
    HTTPStatus.BAD_REQUEST: _CHALLENGE,
    HTTPStatus.UNAUTHORIZED: _CHALLENGE,
    HTTPStatus.FORBIDDEN: _CHALLENGE,
    HTTPStatus.SERVICE_UNAVAILABLE: _RETRY_AFTER,
}


def refused(refusal: Refusal, **headers: str) -> Refused:
    """Return the exception of a refusal; `_` in the names of headers stands for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Refused(refusal.status, refusal.body, named)


def documented(*refusals: Refusal) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI `responses` of a route that sends these refusals, each with its body as an example."""
    statuses = sorted({refusal.status for refusal in refusals})
    return {
        int(status): _response([each for each in refusals if each.status is status], _HEADERS.get(status, {}))
        for status in statuses
    }


def _response(refusals: Sequence[Refusal], headers: dict[str, Any]) -> dict[str, Any]:
    examples = {each.description: {"summary": each.cause, "value": each.body} for each in refusals}
    causes = list(dict.fromkeys(each.cause for each in refusals))
    return {
        "model": ErrorBody,
        "description": causes[0] if len(causes) == 1 else "\n".join(f"- {cause}" for cause in causes),
        "headers": headers,
        "content": {"application/json": {"examples": examples}},
    }
