"""The grant `client_credentials`, RFC 6749 section 4.4: a machine acts for itself."""

from issuer.grants.context import Means, TokenRequest
from issuer.tokens.authorization import Authorization


def grant(request: TokenRequest, means: Means) -> Authorization:
    """Authorize an authenticated client for what it was granted; no refresh token, section 4.4.3."""
    client = request.client
    return Authorization(client.id, client.id, client.scope, client.audiences or means.client_audience)
