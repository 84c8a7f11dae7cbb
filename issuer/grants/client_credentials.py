"""The grant `client_credentials`, RFC 6749 section 4.4: a machine acts for itself."""

from issuer.grants.permission import Means, Permission, TokenRequest


def grant(request: TokenRequest, means: Means) -> Permission:
    """Permit an authenticated client what it was granted; no refresh token, section 4.4.3."""
    client = request.client
    return Permission(client.id, client.scope, client.audiences or means.client_audience)
