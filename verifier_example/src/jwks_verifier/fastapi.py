"""FastAPI dependencies of a protected service: the current user, and error responses by RFC 6750.

Verifying tokens is left to `verifier`; the service decides which routes require which scope:

    current_user = CurrentUser(verifier, token_url="https://issuer.example/login")
    app = FastAPI(lifespan=current_user.lifespan)
    app.include_router(current_user.router)
    ItemsReader = Annotated[AccessToken, current_user.with_scope("items:read", "Read the items")]

    @app.get("/items")
    async def items(user: ItemsReader) -> ...

The same dependency works for WebSocket routes. Browsers cannot set headers there, and send the token as a
subprotocol after the word "bearer": `new WebSocket(url, ["bearer", token])`. A token in the URL would be logged by
proxies, a cookie would be sent by any page that opens the socket, and a first message comes after the connection
has been accepted.
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Annotated, Any, cast
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, HTTPException, Request, Security, WebSocket
from fastapi.exception_handlers import http_exception_handler
from fastapi.openapi.models import OAuth2, OAuthFlowPassword, OAuthFlows
from fastapi.responses import JSONResponse
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocketClose

from .claims import AccessToken
from .errors import InvalidToken, KeysUnavailable, Reason
from .logs import shown
from .refusals import (
    SCOPE_MISSING,
    TOKEN_EXPIRED,
    TOKEN_INVALID,
    TOKEN_MISSING,
    TOKENS_REPEATED,
    UNAVAILABLE,
    Refusal,
    Refused,
    refused,
)
from .verifier import TokenVerifier

SUBPROTOCOL = "bearer"
WELL_KNOWN = "/.well-known/oauth-protected-resource"
_URI = re.compile(r"[!$-;=?-Z\[\]_a-z~]+")  # RFC 3986; a challenge could not hold other characters

POLICY_VIOLATION, TRY_AGAIN_LATER = 1008, 1013  # close codes, RFC 6455 section 7.4.1 and IANA's registry


class ResourceMetadata(BaseModel):
    """Metadata of a protected resource (RFC 9728 section 2)."""

    resource: str = Field(examples=["https://api.example"])
    authorization_servers: list[str] = Field(examples=[["https://issuer.example"]])
    scopes_supported: list[str] = Field(examples=[["items:read"]])
    bearer_methods_supported: list[str] = Field(examples=[["header"]])


def unavailable(description: str, retry_after: int) -> HTTPException:
    """Return a 503 with `Retry-After` in seconds."""
    return refused(UNAVAILABLE._replace(description=description), Retry_After=str(retry_after))


async def render_refusal(connection: HTTPConnection, error: Exception) -> Any:
    """Render a refusal as an ErrorBody, and any other HTTPException as FastAPI does.

    A WebSocket gets the same response before it is accepted; if the server lacks the ASGI extension for that, it is
    closed instead.
    """
    if not isinstance(error, StarletteHTTPException):
        raise error
    extensions = connection.scope.get("extensions") or {}
    if isinstance(connection, WebSocket) and "websocket.http.response" not in extensions:
        later = error.status_code == HTTPStatus.SERVICE_UNAVAILABLE
        return WebSocketClose(TRY_AGAIN_LATER if later else POLICY_VIOLATION)
    if isinstance(error, Refused):
        return JSONResponse(error.detail, error.status_code, error.headers)
    return await http_exception_handler(cast("Request", connection), error)


async def accept(websocket: WebSocket) -> None:
    """Accept the socket; the subprotocol "bearer" is selected, never the one with the token."""
    await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in websocket.scope["subprotocols"] else None)


class CurrentUser(SecurityBase):
    """The dependency that returns the caller's verified token, which must have every scope that the route requires.

    Raises 400, 401, 403 and 503 with the challenges of RFC 6750 section 3; these name the resource's metadata if the
    audience is a URL (RFC 9728 section 5.1). In OpenAPI it is an OAuth 2.0 password flow at `token_url`, so that the
    Authorize button of /docs works. Two of them in one application need different names there.
    """

    def __init__(self, verifier: TokenVerifier, *, token_url: str, scheme_name: str = "issuer") -> None:
        self._verifier = verifier
        self._password = OAuthFlowPassword(tokenUrl=token_url, scopes={})
        self.model = OAuth2(
            flows=OAuthFlows(password=self._password), description="Log in with an account of the issuer."
        )
        self.scheme_name = scheme_name
        self.optional = _Optional(self)
        """The same dependency, but None if there is no token; an invalid token is refused as elsewhere."""
        url = urlsplit(verifier.audience)
        is_url = url.scheme and url.netloc and _URI.fullmatch(verifier.audience)
        self.metadata_path = WELL_KNOWN + url.path.rstrip("/") if is_url else None
        """The path of the resource's metadata (RFC 9728 section 3.1); None if the audience is not a URL."""
        self._common: dict[str, str] = {}  # parameters of every challenge
        if self.metadata_path is not None:
            self._common["resource_metadata"] = f"{url.scheme}://{url.netloc}{self.metadata_path}"

    def with_scope(self, name: str, description: str) -> Any:
        """Return the dependency of a route that requires a scope, and add the scope to OpenAPI and the metadata."""
        self._password.scopes[name] = description
        return Security(self, scopes=[name])

    def metadata(self) -> ResourceMetadata:
        """Return the resource's metadata with the scopes registered so far."""
        return ResourceMetadata(
            resource=self._verifier.audience,
            authorization_servers=list(self._verifier.caches),
            scopes_supported=sorted(self._password.scopes),
            bearer_methods_supported=["header"],
        )

    @property
    def router(self) -> APIRouter:
        """The route of the resource's metadata, which every challenge names; none if the audience is not a URL."""
        router = APIRouter(tags=["discovery"])
        if self.metadata_path is not None:

            @router.get(self.metadata_path, summary="Get the metadata (RFC 9728)")
            async def resource_metadata() -> ResourceMetadata:
                """Return the metadata of this resource: its authorization servers and scopes (RFC 9728)."""
                return self.metadata()

        return router

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncIterator[None]:
        """Keep the keys up to date while the application runs: `FastAPI(lifespan=current_user.lifespan)`."""
        async with self._verifier:
            yield

    async def __call__(self, connection: HTTPConnection, required: SecurityScopes) -> AccessToken:
        """Verify the caller's token; async, because switching to a thread costs more than verifying the signature."""
        token = self.find_token(connection)
        if not token:  # then the challenge has no error code (RFC 6750 section 3.1)
            raise refused(TOKEN_MISSING, WWW_Authenticate=self._challenge())
        try:
            access = await self._verifier.verify(token)
        except InvalidToken as invalid:
            is_expired = invalid.reason is Reason.EXPIRED
            raise self._refused(TOKEN_EXPIRED if is_expired else TOKEN_INVALID) from invalid
        except KeysUnavailable as missing:
            raise unavailable(UNAVAILABLE.description, missing.retry_after) from missing
        if not access.scopes.issuperset(required.scopes):
            needed, given = (" ".join(sorted(each)) for each in (required.scopes, access.scopes))
            self._verifier.refusal_log.warn("SCOPE", f"needs {needed}, has {shown(given) or 'none'}")
            raise self._refused(SCOPE_MISSING, scope=required.scope_str)
        return access

    def find_token(self, connection: HTTPConnection) -> str | None:
        """Return the only token in the Authorization header (RFC 6750 section 2.1) and the subprotocols, or None.

        It is empty if only the scheme was sent. Raises 400 for several.
        """
        headers = connection.headers.getlist("authorization")
        offered = connection.scope.get("subprotocols", [])
        if SUBPROTOCOL in offered:
            headers += [f"Bearer {token}" for token in offered if token != SUBPROTOCOL] or ["Bearer"]
        if len(headers) > 1:  # a proxy could check one and this service another
            raise self._refused(TOKENS_REPEATED)
        scheme, _, token = (headers[0] if headers else "").partition(" ")
        return token.strip(" ") if scheme.lower() == "bearer" else None

    def _refused(self, refusal: Refusal, **parameters: str) -> HTTPException:
        challenge = self._challenge(error=refusal.code, error_description=refusal.description, **parameters)
        return refused(refusal, WWW_Authenticate=challenge)

    def _challenge(self, **parameters: str) -> str:
        listed = ", ".join(f'{name}="{value}"' for name, value in {**parameters, **self._common}.items())
        return f"Bearer {listed}".rstrip()


class _Nobody(SecurityBase):
    """An empty security requirement, which makes the others optional (OpenAPI 3.1, Operation Object).

    FastAPI has no such thing, but leaves names that begin with `_sa` out of what it encodes (`sqlalchemy_safe` of
    `jsonable_encoder`): of `{name: []}` remains `{}`.
    """

    scheme_name = "_sa_nobody"
    model = OAuth2(flows=OAuthFlows())

    async def __call__(self) -> None:
        """Require nothing."""


_nobody = _Nobody()


class _Optional(SecurityBase):
    """The current user, or None if the request has no token."""

    def __init__(self, current_user: CurrentUser) -> None:
        self._current_user = current_user
        self.model, self.scheme_name = current_user.model, current_user.scheme_name

    async def __call__(
        self, connection: HTTPConnection, required: SecurityScopes, _: Annotated[None, Depends(_nobody)]
    ) -> AccessToken | None:
        """Verify the caller's token; credentials of another scheme are none."""
        if self._current_user.find_token(connection) is None:
            return None
        return await self._current_user(connection, required)
