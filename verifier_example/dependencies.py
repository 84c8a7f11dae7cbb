"""The FastAPI side of the verifier: the current-user dependency, and refusals as RFC 6750 words them.

What makes a token good is left to `verifier`; which routes need which scope, to the service:

    current_user = CurrentUser(verifier, token_url="https://issuer.example/login", scopes={})

    @app.get("/items")
    async def items(user: Annotated[AccessToken, Security(current_user, scopes=["items:read"])]) -> ...
"""

from collections.abc import Mapping
from http import HTTPStatus

from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse
from fastapi.security import OAuth2PasswordBearer, SecurityScopes
from fastapi.security.base import SecurityBase
from pydantic import BaseModel
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import HTTPConnection

from verifier_example.verifier import AccessToken, InvalidToken, KeysUnavailable, Reason, TokenVerifier


class ErrorBody(BaseModel):
    """Every refusal's body, the shape of RFC 6749 section 5.2."""

    error: str
    error_description: str


def refusal(status: HTTPStatus, error: str, description: str, **headers: str) -> HTTPException:
    """Word a refusal; `_` in the names of headers stands for `-`."""
    body = ErrorBody(error=error, error_description=description).model_dump()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HTTPException(status, body, named)


def unavailable(description: str, retry_after: int) -> HTTPException:
    """Word a 503 that may be tried again after so many seconds."""
    status = HTTPStatus.SERVICE_UNAVAILABLE
    return refusal(status, "temporarily_unavailable", description, Retry_After=str(retry_after))


async def render_refusal(_: Request, error: Exception) -> JSONResponse:
    """Write any HTTPException in the one shape, those of the framework (404, 405) too."""
    if not isinstance(error, StarletteHTTPException):
        raise error
    body: object = error.detail
    if not isinstance(body, dict):
        status = HTTPStatus(error.status_code)
        body = {"error": status.name.lower(), "error_description": status.phrase}
    return JSONResponse(body, error.status_code, error.headers)


class CurrentUser(SecurityBase):
    """The dependency: the verified token of the caller, who must hold every scope the route asks for.

    Answers 401, 403 and 503 with the challenges of RFC 6750 section 3. Documents itself in OpenAPI as a
    password log-in at `token_url`, so that the Authorize button of /docs works.
    """

    def __init__(self, verifier: TokenVerifier, *, token_url: str, scopes: Mapping[str, str]) -> None:
        self.model = OAuth2PasswordBearer(tokenUrl=token_url, scopes=dict(scopes)).model
        self.scheme_name = "issuer"
        self._verifier = verifier

    async def __call__(self, connection: HTTPConnection, required: SecurityScopes) -> AccessToken:
        """Verify the caller's token; async, because a hop to a thread costs more than the signature."""
        token = _bearer_token(connection)
        try:
            access = await self._verifier.verify(token)
        except InvalidToken as refused:
            raise _invalid_token(expired=refused.reason is Reason.EXPIRED) from refused
        except KeysUnavailable as nothing:
            raise unavailable("the issuer's keys are out of reach", nothing.retry_after) from nothing
        if not access.scopes.issuperset(required.scopes):
            raise refusal(
                HTTPStatus.FORBIDDEN,
                "insufficient_scope",
                "a scope is missing",
                WWW_Authenticate='Bearer error="insufficient_scope", error_description="a scope is missing", '
                f'scope="{required.scope_str}"',
            )
        return access


def _bearer_token(connection: HTTPConnection) -> str:
    """Find the one token of the one Authorization header (RFC 6750 section 2.1)."""
    headers = connection.headers.getlist("authorization")
    scheme, _, token = (headers[0] if headers else "").partition(" ")
    if len(headers) > 1:  # a proxy and this service could each believe another one
        raise _invalid_token()
    if scheme.lower() != "bearer" or not token.strip(" "):
        # No token at all: no error code either (RFC 6750 section 3.1).
        status = HTTPStatus.UNAUTHORIZED
        raise refusal(status, "unauthorized", "a bearer token is needed", WWW_Authenticate="Bearer")
    return token.strip(" ")


def _invalid_token(*, expired: bool = False) -> HTTPException:
    description = "token expired" if expired else "invalid token"  # anything more would teach forgers
    return refusal(
        HTTPStatus.UNAUTHORIZED,
        "invalid_token",
        description,
        WWW_Authenticate=f'Bearer error="invalid_token", error_description="{description}"',
    )
