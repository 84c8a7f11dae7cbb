"""Errors of the authorization endpoint: those of OpenID Connect, and the one that is shown as a page.

Those that other endpoints answer as well are in `oauth`.
"""

from issuer.oauth import ErrorCode, OAuthError


class NoRedirect(OAuthError):
    """The request names no client, or no redirect URI of the client: it is answered with a page, never a redirect.

    RFC 6749 section 4.1.2.1.
    """

    code = ErrorCode.INVALID_REQUEST
    description = "client_id is missing"

    def __init__(self, description: str, *, sent: str = "", registered: str = "") -> None:
        super().__init__(description)
        self.sent = sent
        """The redirect URI of the request, if that is what is wrong."""
        self.registered = registered
        """The registered redirect URI that is most like it."""


class InvalidRequestURI(NoRedirect):
    """The `request_uri` of a pushed request is unknown, expired or was used, RFC 9126 section 4."""

    code = ErrorCode.INVALID_REQUEST_URI
    description = "the request_uri has expired or was used"

    def __init__(self) -> None:
        super().__init__(self.description)


class UnsupportedResponseType(OAuthError):
    """The response type is not `code`, RFC 6749 section 4.1.2.1."""

    code = ErrorCode.UNSUPPORTED_RESPONSE_TYPE
    description = "response_type must be code"


class RequestNotSupported(OAuthError):
    """The request has the parameter `request`, OpenID Connect Core section 3.1.2.6."""

    code = ErrorCode.REQUEST_NOT_SUPPORTED
    description = "request objects are not supported; send the parameters, or push them (RFC 9126)"


class RequestURINotSupported(OAuthError):
    """The request has a `request_uri` that is not one of this issuer, OpenID Connect Core section 3.1.2.6."""

    code = ErrorCode.REQUEST_URI_NOT_SUPPORTED
    description = "request_uri must be one that a pushed request returned (RFC 9126)"


class RegistrationNotSupported(OAuthError):
    """The request has the parameter `registration`, OpenID Connect Core section 3.1.2.6."""

    code = ErrorCode.REGISTRATION_NOT_SUPPORTED
    description = "the parameter registration is not supported; an operator registers clients"


class LoginRequired(OAuthError):
    """With `prompt=none`: the user is not signed in, or has to sign in again."""

    code = ErrorCode.LOGIN_REQUIRED
    description = "the user has to sign in"


class ConsentRequired(OAuthError):
    """With `prompt=none`: the user has not consented yet."""

    code = ErrorCode.CONSENT_REQUIRED
    description = "the user has to consent"


class UnmetAuthenticationRequirements(OAuthError):
    """An essential `acr` cannot be reached: OpenID Connect Unmet Authentication Requirements section 3."""

    code = ErrorCode.UNMET_AUTHENTICATION_REQUIREMENTS
    description = "this issuer cannot authenticate the user as the claim acr demands"
