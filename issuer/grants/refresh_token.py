"""The grant `refresh_token`, RFC 6749 section 6 with the rotation of RFC 9700 section 4.14.

What presenting a token leads to is decided in `tokens`; single use is enforced by the store.
"""

from issuer.digests import refresh_token_digest
from issuer.grants.context import Means, TokenRequest
from issuer.oauth import InvalidGrant, InvalidScope, UnknownToken
from issuer.throttling.limits import site
from issuer.tokens.authorization import Authorization
from issuer.tokens.redemption import NOT_VALID, redeem


def grant(request: TokenRequest, means: Means) -> Authorization:
    """Authorize the holder of a valid refresh token for the scope of its log-in, less what was taken away since."""
    presented = request.require("refresh_token")
    found = means.families.find(refresh_token_digest(presented)) or means.families.find_superseded(presented)
    if found is None or found.family.client_id != request.client.id:
        raise UnknownToken(NOT_VALID)
    here = site(request.origin.address)
    renewal = redeem(means.families, presented, found, here, request.now, means.clock_skew)
    user, family = found.user, found.family
    if user.disabled_at is not None:
        raise InvalidGrant(NOT_VALID)
    if request.scope is not None and not request.scope <= family.scope:
        raise InvalidScope("scope asks for more than the log-in was granted")
    scope = family.scope & user.scope
    return Authorization(user.id, family.client_id, scope, family.audience, user.username, renewal)
