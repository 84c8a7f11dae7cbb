"""The grant `client_credentials`, RFC 6749 section 4.4: a machine acts for itself."""

from issuer.grants.context import Grant, GrantContext, Prepare, TokenRequest
from issuer.grants.response import UnsignedTokenResponse
from issuer.oauth import GrantType
from issuer.tokens.authorization import Authorization


def execute(request: TokenRequest, context: GrantContext, prepare: Prepare) -> UnsignedTokenResponse:
    """Authorize an authenticated client for its own scope; no refresh token, section 4.4.3."""
    client = request.client
    own = client.audiences or context.client_audience
    audience = context.resources.audience(request.resources, own, request.now)
    issue = prepare(Authorization(client.id, client.id, client.scope, audience))
    return issue()


GRANT = Grant(GrantType.CLIENT_CREDENTIALS, execute)
