"""The FastAPI side of the verifier: the current-user dependency, and refusals as RFC 6750 words them.

What makes a token good is left to `verifier`; which routes need which scope, to the service:

    current_user = CurrentUser(verifier, token_url="https://issuer.example/login")
    ItemsReader = Annotated[AccessToken, current_user.with_scope("items:read", "Read the items")]

    @app.get("/items")
    async def items(user: ItemsReader) -> ...

The same serves WebSocket routes. A browser can set no headers there, and offers the token as a subprotocol,
after the word "bearer": `new WebSocket(url, ["bearer", token])`. In the URL it would be logged along the way, a
cookie would be sent by any page that opens the socket, and a first message would come after strangers are let in.
"""

import logging
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from fastapi import HTTPException, Response, Security, WebSocket
from fastapi.openapi.models import OAuth2, OAuthFlowPassword, OAuthFlows
from fastapi.responses import JSONResponse
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase
from pydantic import BaseModel
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocketClose

from verifier_example.connections.shortages import RETRY_SECONDS, is_shortage
from verifier_example.verifier import AccessToken, InvalidToken, KeysUnavailable, Reason, TokenVerifier

SUBPROTOCOL = "bearer"
WELL_KNOWN = "/.well-known/oauth-protected-resource"
logger = logging.getLogger(__name__)
_WORDS = {  # those of the issuer
    HTTPStatus.NOT_FOUND: "there is no such endpoint",
    HTTPStatus.METHOD_NOT_ALLOWED: "this endpoint has no such method; see Allow",
}

POLICY_VIOLATION, TRY_AGAIN_LATER = 1008, 1013  # close codes, RFC 6455 section 7.4.1 and IANA's registry


class ErrorBody(BaseModel):
    """Every refusal's body, the shape of RFC 6749 section 5.2."""

    error: str
    error_description: str


class ResourceMetadata(BaseModel):
    """How to get at a protected resource (RFC 9728 section 2)."""

    resource: str
    authorization_servers: list[str]
    scopes_supported: list[str]
    bearer_methods_supported: list[str]


def refusal(status: HTTPStatus, error: str, description: str, **headers: str) -> HTTPException:
    """Word a refusal; `_` in the names of headers stands for `-`."""
    body = ErrorBody(error=error, error_description=description).model_dump()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HTTPException(status, body, named)


def unavailable(description: str, retry_after: int) -> HTTPException:
    """Word a 503 that may be tried again after so many seconds."""
    status = HTTPStatus.SERVICE_UNAVAILABLE
    return refusal(status, "temporarily_unavailable", description, Retry_After=str(retry_after))


async def render_refusal(connection: HTTPConnection, error: Exception) -> Any:
    """Write any HTTPException in the one shape, those of the framework (404, 405) too.

    A WebSocket is refused before it is accepted, by the same answer; where the server cannot give one (that is an
    extension of ASGI), by closing it.
    """
    if is_shortage(error):
        logger.error("cannot answer: %s", error)
        error = unavailable("the service cannot answer now", RETRY_SECONDS)
    if not isinstance(error, StarletteHTTPException):
        raise error
    extensions = connection.scope.get("extensions") or {}
    if isinstance(connection, WebSocket) and "websocket.http.response" not in extensions:
        later = error.status_code == HTTPStatus.SERVICE_UNAVAILABLE
        return WebSocketClose(TRY_AGAIN_LATER if later else POLICY_VIOLATION)
    headers = dict(error.headers or {})
    if "Allow" in headers:
        methods = {*headers["Allow"].split(", "), "OPTIONS"}
        headers["Allow"] = ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))
    method, path = connection.scope.get("method"), connection.scope["path"]
    if method == "OPTIONS" and (path == "*" or error.status_code == HTTPStatus.METHOD_NOT_ALLOWED):
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=headers)  # RFC 9110 section 9.3.7
    body: object = error.detail
    if not isinstance(body, dict):
        status = HTTPStatus(error.status_code)
        body = {"error": status.name.lower(), "error_description": _WORDS.get(status, status.phrase)}
    return JSONResponse(body, error.status_code, headers)


async def accept(websocket: WebSocket) -> None:
    """Let in a caller who was verified; of the subprotocols only the word is chosen, never the token."""
    await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in websocket.scope["subprotocols"] else None)


class CurrentUser(SecurityBase):
    """The dependency: the verified token of the caller, who must hold every scope the route asks for.

    Answers 400, 401, 403 and 503 with the challenges of RFC 6750 section 3, which name the resource's metadata if its
    audience is a URL (RFC 9728 section 5.1). Documents itself in OpenAPI as a password log-in at `token_url`, so
    that the Authorize button of /docs works.
    """

    def __init__(self, verifier: TokenVerifier, *, token_url: str) -> None:
        self._verifier = verifier
        self._password = OAuthFlowPassword(tokenUrl=token_url, scopes={})
        self.model = OAuth2(flows=OAuthFlows(password=self._password))
        self.scheme_name = "issuer"
        url = urlsplit(verifier.audience)
        self.metadata_path = WELL_KNOWN + url.path.rstrip("/") if url.scheme and url.netloc else None
        """Where the resource's metadata belongs (RFC 9728 section 3.1); None if the audience is no URL."""
        self._told: dict[str, str] = {}  # in every challenge
        if self.metadata_path is not None:
            self._told["resource_metadata"] = f"{url.scheme}://{url.netloc}{self.metadata_path}"

    def with_scope(self, name: str, description: str) -> Any:
        """Give the dependency of a route that needs a scope; the documents list what was asked for here."""
        self._password.scopes[name] = description
        return Security(self, scopes=[name])

    def metadata(self) -> ResourceMetadata:
        """Describe the resource, as its routes have been registered."""
        return ResourceMetadata(
            resource=self._verifier.audience,
            authorization_servers=[self._verifier.cache.issuer],
            scopes_supported=sorted(self._password.scopes),
            bearer_methods_supported=["header"],
        )

    async def __call__(self, connection: HTTPConnection, required: SecurityScopes) -> AccessToken:
        """Verify the caller's token; async, because a hop to a thread costs more than the signature."""
        token = self._find_token(connection)
        try:
            access = await self._verifier.verify(token)
        except InvalidToken as refused:
            raise self._invalid_token(expired=refused.reason is Reason.EXPIRED) from refused
        except KeysUnavailable as nothing:
            raise unavailable("the issuer's keys are out of reach", nothing.retry_after) from nothing
        if not access.scopes.issuperset(required.scopes):
            error, description = "insufficient_scope", "a scope is missing"
            challenge = self._challenge(error=error, error_description=description, scope=required.scope_str)
            raise refusal(HTTPStatus.FORBIDDEN, error, description, WWW_Authenticate=challenge)
        return access

    def _find_token(self, connection: HTTPConnection) -> str:
        """Find the one token of the one Authorization header (RFC 6750 section 2.1), or of the subprotocols."""
        headers = connection.headers.getlist("authorization")
        offered = connection.scope.get("subprotocols", [])
        if SUBPROTOCOL in offered:
            headers += [f"Bearer {token}" for token in offered if token != SUBPROTOCOL] or ["Bearer"]
        if len(headers) > 1:  # a proxy and this service could each believe another one
            error, description = "invalid_request", "more than one token was sent"
            challenge = self._challenge(error=error, error_description=description)
            raise refusal(HTTPStatus.BAD_REQUEST, error, description, WWW_Authenticate=challenge)
        scheme, _, token = (headers[0] if headers else "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip(" "):
            # No token at all: no error code either (RFC 6750 section 3.1).
            description, challenge = "a bearer token is needed", self._challenge()
            raise refusal(HTTPStatus.UNAUTHORIZED, "invalid_token", description, WWW_Authenticate=challenge)
        return token.strip(" ")

    def _invalid_token(self, *, expired: bool = False) -> HTTPException:
        error = "invalid_token"
        description = "token expired" if expired else "invalid token"  # anything more would teach forgers
        challenge = self._challenge(error=error, error_description=description)
        return refusal(HTTPStatus.UNAUTHORIZED, error, description, WWW_Authenticate=challenge)

    def _challenge(self, **parameters: str) -> str:
        told = ", ".join(f'{name}="{value}"' for name, value in {**parameters, **self._told}.items())
        return f"Bearer {told}".rstrip()
