"""The grant `refresh_token`, RFC 6749 section 6 with the rotation of RFC 9700 section 4.14.

What presenting a token leads to is decided in `tokens`; single use is the store's.
"""

from issuer.grants.means import Means, Replayed, TokenRequest, UnknownToken
from issuer.oauth import InvalidGrant, InvalidScope
from issuer.tokens import Authorization, Redemption, Renewal, redemption, refresh_token_digest

_NOT_VALID = "the refresh token is not valid; log in again"


def grant(request: TokenRequest, means: Means) -> Authorization:
    """Authorize the holder of a live refresh token for the scope of its log-in, less what was taken away since."""
    presented = request.require("refresh_token")
    found = means.families.find(refresh_token_digest(presented))
    if found is None or found.family.client_id != request.client.id:
        raise UnknownToken(_NOT_VALID)
    token, family, user = found
    outcome = redemption(token, family, request.now)
    if outcome is Redemption.REUSE:
        raise Replayed(_NOT_VALID, family)
    if user.disabled_at is not None:
        raise InvalidGrant(_NOT_VALID)
    if request.scope is not None and not request.scope <= family.scope:
        raise InvalidScope("scope asks for more than the log-in was granted")
    renewal = Renewal(presented, token, family, repeat=outcome is Redemption.REPEAT)
    scope = family.scope & user.scope
    return Authorization(user.id, family.client_id, scope, family.audience, user.username, renewal)
