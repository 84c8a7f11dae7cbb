"""The protocol's words: errors with their code and status, grant names, client authentication, scopes.

What a client may ask for is decided in `clients`; how an error is written, in `web.http.errors`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from ipaddress import ip_address
from types import MappingProxyType
from urllib.parse import urlsplit

SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
"""One scope token, RFC 6749 section 3.3."""


BLANKS = re.compile(r"[ \t\r\n]+")


class GrantType(StrEnum):
    """The `grant_type` values this issuer knows, RFC 6749."""

    CLIENT_CREDENTIALS = "client_credentials"
    PASSWORD = "password"  # noqa: S105 - the name of a grant
    REFRESH_TOKEN = "refresh_token"  # noqa: S105 - the name of a grant


class AuthMethod(StrEnum):
    """How a client authenticates at the token endpoint, RFC 8414 section 2 and RFC 7591 section 2."""

    BASIC = "client_secret_basic"
    POST = "client_secret_post"
    PRIVATE_KEY_JWT = "private_key_jwt"
    NONE = "none"


class ErrorCode(StrEnum):
    """The `error` values this issuer answers with."""

    INVALID_REQUEST = "invalid_request"
    INVALID_CLIENT = "invalid_client"
    INVALID_GRANT = "invalid_grant"
    INVALID_SCOPE = "invalid_scope"
    INVALID_TARGET = "invalid_target"
    INVALID_TOKEN = "invalid_token"  # noqa: S105 - an error code
    UNAUTHORIZED_CLIENT = "unauthorized_client"
    UNSUPPORTED_GRANT_TYPE = "unsupported_grant_type"
    ACCESS_DENIED = "access_denied"
    UNSUPPORTED_TOKEN_TYPE = "unsupported_token_type"  # noqa: S105 - an error code
    USERNAME_TAKEN = "username_taken"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    TOO_MANY_ATTEMPTS = "too_many_attempts"
    TEMPORARILY_UNAVAILABLE = "temporarily_unavailable"


class OAuthError(Exception):
    """An answer to the client in the protocol's own shape; each subclass is one code with its status.

    OAuthError
      InvalidRequest       400  RFC 6749 section 5.2
      InvalidClient        401  RFC 6749 section 5.2
      InvalidGrant         400  RFC 6749 section 5.2
        LoginFailed        401  the same, at the first-party log-in
      InvalidScope         400  RFC 6749 section 5.2
      InvalidTarget        400  RFC 8707 section 2
      UnauthorizedClient   400  RFC 6749 section 5.2
      UnsupportedGrantType 400  RFC 6749 section 5.2
      UnsupportedTokenType 400  RFC 7009 section 2.2.1
      InvalidToken         401  RFC 6750 section 3.1
      AccessDenied         403  registration or a log-in that the operator switched off
      NotFound             404  an unknown path, or a session that is not the caller's or has ended
      MethodNotAllowed     405  a path without the method of the request
      UsernameTaken        409  registration
      TooManyAttempts      429  too many failures, and when to try again (RFC 6585 section 4)
      Unavailable          503  the issuer cannot answer for the moment, and says when to try again
    """

    code: ErrorCode
    status: int = 400
    challenge: str | None = None
    """The scheme of `WWW-Authenticate`, where the status asks for one."""
    headers: Mapping[str, str] = MappingProxyType({})
    """Further headers of the response."""
    retry_after: timedelta | None = None

    def __init__(self, description: str) -> None:
        super().__init__(description)
        self.description = description


class InvalidRequest(OAuthError):
    """A parameter is missing, repeated or malformed."""

    code = ErrorCode.INVALID_REQUEST


class InvalidClient(OAuthError):
    """Client authentication failed."""

    code = ErrorCode.INVALID_CLIENT
    status = 401
    challenge = "Basic"


class InvalidGrant(OAuthError):
    """The password is wrong, or the refresh token is not or no longer valid."""

    code = ErrorCode.INVALID_GRANT


class LoginFailed(InvalidGrant):
    """The username or the password is wrong, or the account is disabled; the answer does not tell which."""

    status = 401
    challenge = "Bearer"

    def __init__(self) -> None:
        super().__init__("the username or the password is wrong")


class InvalidScope(OAuthError):
    """Nothing of the scope asked for was granted, or it is malformed."""

    code = ErrorCode.INVALID_SCOPE


class InvalidTarget(OAuthError):
    """The resource asked for is not among the client's audiences."""

    code = ErrorCode.INVALID_TARGET


class UnauthorizedClient(OAuthError):
    """The client is authenticated, but may not use this grant."""

    code = ErrorCode.UNAUTHORIZED_CLIENT


class UnsupportedGrantType(OAuthError):
    """No grant of that name is registered here."""

    code = ErrorCode.UNSUPPORTED_GRANT_TYPE


class UnsupportedTokenType(OAuthError):
    """A token of this kind cannot be revoked."""

    code = ErrorCode.UNSUPPORTED_TOKEN_TYPE


class InvalidToken(OAuthError):
    """The access token is missing, expired or not valid for this endpoint."""

    code = ErrorCode.INVALID_TOKEN
    status = 401
    challenge = "Bearer"


class AccessDenied(OAuthError):
    """Switched off by the operator."""

    code = ErrorCode.ACCESS_DENIED
    status = 403


class UsernameTaken(OAuthError):
    """Another account has this name, or one that looks the same after normalisation."""

    code = ErrorCode.USERNAME_TAKEN
    status = 409


class NotFound(OAuthError):
    """There is no such endpoint or object, or it is not the caller's."""

    code = ErrorCode.NOT_FOUND
    status = 404


class MethodNotAllowed(OAuthError):
    """The endpoint has no such method; `Allow` names those that it has."""

    code = ErrorCode.METHOD_NOT_ALLOWED
    status = 405


class TooManyAttempts(OAuthError):
    """Too many failures of this account, address or device; the same for accounts that do not exist."""

    code = ErrorCode.TOO_MANY_ATTEMPTS
    status = 429

    def __init__(self, retry_after: timedelta) -> None:
        super().__init__("too many attempts; wait before the next, see Retry-After")
        self.retry_after = retry_after


class Unavailable(OAuthError):
    """The issuer cannot answer now; retry after `Retry-After` seconds."""

    code = ErrorCode.TEMPORARILY_UNAVAILABLE
    status = 503

    def __init__(self, description: str, retry_after: timedelta) -> None:
        super().__init__(description)
        self.retry_after = retry_after


def parse_scope(text: str) -> frozenset[str]:
    """Return the scope tokens in `text`, RFC 6749 section 3.3; raise InvalidScope for a malformed one.

    More than one blank between two, which forms and shells leave, says the same as one.
    """
    tokens = [token for token in BLANKS.split(text) if token]
    if not all(SCOPE_TOKEN.fullmatch(token) for token in tokens):
        raise InvalidScope("scope is a list of printable ASCII words separated by spaces")
    return frozenset(tokens)


def format_scope(scope: frozenset[str]) -> str:
    """Return `scope` as the protocol writes it, in a stable order."""
    return " ".join(sorted(scope))


def is_loopback(url: str) -> bool:
    """Whether `url` names this machine only."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class UnknownToken(InvalidGrant):
    """The refresh token never was, or not this client's: perhaps a guess."""


@dataclass(frozen=True)
class OAuthRequest:
    """The parameters of a request, with the Authorization header that may go with them."""

    parameters: Mapping[str, str] = field(repr=False)
    resources: tuple[str, ...] = ()
    """The values of the one parameter that may be repeated, RFC 8707."""
    authorization: str | None = field(default=None, repr=False)
