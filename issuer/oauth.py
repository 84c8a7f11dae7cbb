"""OAuth's vocabulary: errors with code and status, grant types, client authentication methods, scopes, requests.

What a client may request is decided in `clients`; how an error is rendered, in `web.http.errors`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType

SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
"""One scope token, RFC 6749 section 3.3."""
SCOPE_SYNTAX = "scope is a list of printable ASCII words separated by spaces"
CLIENT_ID_MOST_CHARACTERS = 512


class GrantType(StrEnum):
    """The `grant_type` values of this issuer, RFC 6749."""

    CLIENT_CREDENTIALS = "client_credentials"
    PASSWORD = "password"  # noqa: S105 - the name of a grant
    REFRESH_TOKEN = "refresh_token"  # noqa: S105 - the name of a grant
    AUTHORIZATION_CODE = "authorization_code"


class ResponseType(StrEnum):
    """The `response_type` values of this issuer, RFC 6749 section 3.1.1."""

    CODE = "code"


class ResponseMode(StrEnum):
    """How the authorization endpoint returns its response."""

    QUERY = "query"
    FORM_POST = "form_post"


class AuthMethod(StrEnum):
    """How a client authenticates at the token endpoint, RFC 8414 section 2 and RFC 7591 section 2."""

    BASIC = "client_secret_basic"
    POST = "client_secret_post"
    PRIVATE_KEY_JWT = "private_key_jwt"
    NONE = "none"


CONFIDENTIAL_METHODS = tuple(method for method in AuthMethod if method is not AuthMethod.NONE)
"""The methods by which a client proves its identity."""


class ErrorCode(StrEnum):
    """The `error` values of this issuer's responses."""

    INVALID_REQUEST = "invalid_request"
    INVALID_CLIENT = "invalid_client"
    INVALID_GRANT = "invalid_grant"
    INVALID_SCOPE = "invalid_scope"
    INVALID_TARGET = "invalid_target"
    INVALID_TOKEN = "invalid_token"  # noqa: S105 - an error code
    INSUFFICIENT_SCOPE = "insufficient_scope"
    UNAUTHORIZED_CLIENT = "unauthorized_client"
    UNSUPPORTED_GRANT_TYPE = "unsupported_grant_type"
    ACCESS_DENIED = "access_denied"
    UNSUPPORTED_TOKEN_TYPE = "unsupported_token_type"  # noqa: S105 - an error code
    UNSUPPORTED_RESPONSE_TYPE = "unsupported_response_type"
    REQUEST_NOT_SUPPORTED = "request_not_supported"
    REQUEST_URI_NOT_SUPPORTED = "request_uri_not_supported"
    REGISTRATION_NOT_SUPPORTED = "registration_not_supported"
    INVALID_REQUEST_URI = "invalid_request_uri"
    LOGIN_REQUIRED = "login_required"
    CONSENT_REQUIRED = "consent_required"
    UNMET_AUTHENTICATION_REQUIREMENTS = "unmet_authentication_requirements"
    USERNAME_TAKEN = "username_taken"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    TOO_MANY_ATTEMPTS = "too_many_attempts"
    TEMPORARILY_UNAVAILABLE = "temporarily_unavailable"
    SERVER_ERROR = "server_error"


class OAuthError(Exception):
    """An error response of OAuth; each subclass has one code and status. The reference and OpenAPI list them.

    OAuthError
      InvalidRequest       400  RFC 6749 section 5.2
      InvalidClient        401  RFC 6749 section 5.2
      InvalidGrant         400  RFC 6749 section 5.2
        LoginFailed        401  the same at the first-party log-in
      InvalidScope         400  RFC 6749 section 5.2
      InvalidTarget        400  RFC 8707 section 2
      UnauthorizedClient   400  RFC 6749 section 5.2
      UnsupportedGrantType 400  RFC 6749 section 5.2
      UnsupportedTokenType 400  RFC 7009 section 2.2.1
      InvalidToken         401  RFC 6750 section 3.1
      InsufficientScope    403  RFC 6750 section 3.1
      AccessDenied         403  registration or log-in disabled by the operator
      NotFound             404  an unknown path, or a session that has ended or belongs to another user
      MethodNotAllowed     405  the endpoint does not support the method
      UsernameTaken        409  registration
      TooManyAttempts      429  too many failures (RFC 6585 section 4); has `retry_after`
      ServerError          500  an internal error
      Unavailable          503  temporarily unavailable; has `retry_after`
    """

    code: ErrorCode
    status: int = 400
    description: str
    """Of a class: the description of errors that are raised without one, and the example in documents."""
    challenge: str | None = None
    """The scheme of `WWW-Authenticate`, for statuses that require the header."""
    headers: Mapping[str, str] = MappingProxyType({})
    """Further headers of the response."""
    retry_after: timedelta | None = None

    def __init__(self, description: str = "") -> None:
        self.description = description or self.description
        super().__init__(self.description)


class InvalidRequest(OAuthError):
    """A parameter is missing, repeated or malformed."""

    code = ErrorCode.INVALID_REQUEST
    description = "a parameter is repeated"


class InvalidClient(OAuthError):
    """Client authentication failed."""

    code = ErrorCode.INVALID_CLIENT
    status = 401
    description = "client authentication failed"
    challenge = "Basic"


class InvalidGrant(OAuthError):
    """The password is wrong, or the code or refresh token is not valid or no longer valid."""

    code = ErrorCode.INVALID_GRANT
    description = "the refresh token is not valid; log in again"


class LoginFailed(InvalidGrant):
    """The username or the password is wrong, or the account is disabled; the response is the same for all."""

    status = 401
    challenge = "Bearer"
    description = "the username or the password is wrong"


class InvalidScope(OAuthError):
    """None of the requested scopes was granted, or the scope is malformed."""

    code = ErrorCode.INVALID_SCOPE
    description = "nothing of the requested scope was granted"


class InvalidTarget(OAuthError):
    """The requested resource is not among the client's audiences."""

    code = ErrorCode.INVALID_TARGET
    description = "this client may not request tokens for that resource"


class UnauthorizedClient(OAuthError):
    """The client is authenticated but not allowed to use this grant."""

    code = ErrorCode.UNAUTHORIZED_CLIENT
    description = "this client may not use the grant password"


class UnsupportedGrantType(OAuthError):
    """The grant type is unknown."""

    code = ErrorCode.UNSUPPORTED_GRANT_TYPE
    description = "supported grants are authorization_code, client_credentials, password, refresh_token"


class UnsupportedTokenType(OAuthError):
    """A token of this kind cannot be revoked."""

    code = ErrorCode.UNSUPPORTED_TOKEN_TYPE
    description = "an access token of a machine cannot be revoked; it is valid until it expires"


class InvalidToken(OAuthError):
    """The access token is missing, expired or not valid for this endpoint."""

    code = ErrorCode.INVALID_TOKEN
    status = 401
    description = "the access token is not valid here"
    challenge = "Bearer"


class InsufficientScope(OAuthError):
    """The access token is valid, but its scope does not contain what the endpoint needs."""

    code = ErrorCode.INSUFFICIENT_SCOPE
    status = 403
    description = "the access token needs the scope openid"
    headers = MappingProxyType(
        {"WWW-Authenticate": f'Bearer error="{code}", error_description="{description}", scope="openid"'}
    )


class AccessDenied(OAuthError):
    """Disabled by the operator."""

    code = ErrorCode.ACCESS_DENIED
    status = 403
    description = "password log-in is disabled at this issuer"


class UsernameTaken(OAuthError):
    """Another account has this username, or one that looks the same after normalisation."""

    code = ErrorCode.USERNAME_TAKEN
    status = 409
    description = "this username is taken; choose another"


class NotFound(OAuthError):
    """The endpoint or object does not exist, or the object belongs to another user."""

    code = ErrorCode.NOT_FOUND
    status = 404
    description = "there is no such endpoint"


class MethodNotAllowed(OAuthError):
    """The endpoint does not support the method; `Allow` lists the supported ones."""

    code = ErrorCode.METHOD_NOT_ALLOWED
    status = 405
    description = "this endpoint has no such method; see Allow"


class TooManyAttempts(OAuthError):
    """Too many failures of this account, address or device; unknown accounts get the same response."""

    code = ErrorCode.TOO_MANY_ATTEMPTS
    status = 429
    description = "too many attempts; retry after the time in Retry-After"

    def __init__(self, retry_after: timedelta) -> None:
        super().__init__()
        self.retry_after = retry_after


class ServerError(OAuthError):
    """An internal error; the log has the details under the id in `X-Request-Id`."""

    code = ErrorCode.SERVER_ERROR
    status = 500
    description = "internal error; see the log of the issuer"


class Unavailable(OAuthError):
    """Temporarily unavailable; retry after `Retry-After` seconds."""

    code = ErrorCode.TEMPORARILY_UNAVAILABLE
    status = 503
    description = "the issuer is temporarily unavailable"

    def __init__(self, description: str, retry_after: timedelta) -> None:
        super().__init__(description)
        self.retry_after = retry_after


def parse_scope(text: str) -> frozenset[str]:
    """Return the scope tokens in `text`, RFC 6749 section 3.3; raise InvalidScope for a malformed one.

    Several blanks, as forms and shells may produce, separate two tokens like one.
    """
    tokens = [token for token in re.split(r"[ \t\r\n]+", text) if token]
    if not all(SCOPE_TOKEN.fullmatch(token) for token in tokens):
        raise InvalidScope(SCOPE_SYNTAX)
    return frozenset(tokens)


def format_scope(scope: frozenset[str]) -> str:
    """Return `scope` as a string, in a stable order."""
    return " ".join(sorted(scope))


class UnknownToken(InvalidGrant):
    """The refresh token is unknown, or belongs to another client; it may be a guess."""


@dataclass(frozen=True)
class OAuthRequest:
    """The parameters of a request, and its Authorization header."""

    parameters: Mapping[str, str] = field(repr=False)
    resources: tuple[str, ...] = ()
    """The values of `resource`, the only parameter that may be repeated (RFC 8707)."""
    authorization: str | None = field(default=None, repr=False)
