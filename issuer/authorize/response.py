"""Responses of the authorization endpoint to a client, as data; `web.oauth.authorize` sends them by redirect or form.

Each carries `iss`, RFC 9207, so that a client of several issuers knows which one answered.
"""

import re
from dataclasses import dataclass, field

from issuer.authorize.request import ReturnAddress
from issuer.oauth import OAuthError
from issuer.urls import with_query

_NOT_IN_DESCRIPTION = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")
"""Characters that error_description must not have, RFC 6749 section 4.1.2.1."""


@dataclass(frozen=True)
class AuthorizationResponse:
    """Parameters on their way to a client."""

    returns_to: ReturnAddress
    parameters: tuple[tuple[str, str], ...] = field(repr=False)

    @property
    def url(self) -> str:
        """The redirect URI with the parameters added to its query, RFC 6749 section 3.1.2."""
        return with_query(self.returns_to.redirect_uri, dict(self.parameters))


def success(to: ReturnAddress, code: str, issuer: str) -> AuthorizationResponse:
    """Return the response that carries a code, RFC 6749 section 4.1.2."""
    return AuthorizationResponse(to, (("code", code), *_state(to), ("iss", issuer)))


def refusal(to: ReturnAddress, error: OAuthError, issuer: str) -> AuthorizationResponse:
    """Return the response that carries an error, RFC 6749 section 4.1.2.1."""
    description = _NOT_IN_DESCRIPTION.sub("'", error.description)
    named = (("error", error.code.value), ("error_description", description))
    return AuthorizationResponse(to, (*named, *_state(to), ("iss", issuer)))


def _state(to: ReturnAddress) -> tuple[tuple[str, str], ...]:
    return () if to.state is None else (("state", to.state),)
