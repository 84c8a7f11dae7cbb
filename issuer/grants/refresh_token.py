"""The grant `refresh_token`, RFC 6749 section 6, with rotation and reuse detection (RFC 9700 section 4.14).

What presenting a token leads to is decided in `tokens.refresh`; the database enforces single use.
"""

from issuer.digests import digest
from issuer.grants.context import Grant, GrantContext, Issue, TokenRequest, Workload
from issuer.grants.response import UnsignedTokenResponse
from issuer.oauth import GrantType, InvalidGrant, InvalidScope, UnknownToken
from issuer.throttling.limits import subnet
from issuer.tokens.authorization import Authorization
from issuer.tokens.identity import IDENTITY_SCOPES
from issuer.tokens.redemption import redeem


def execute(request: TokenRequest, context: GrantContext, issue: Issue) -> UnsignedTokenResponse:
    """Authorize the holder of a valid refresh token for the scope of its session, as far as the user still has it."""
    presented = request.require("refresh_token")
    found = (
        request.found
        or context.families.find(digest(presented))
        or context.families.find_superseded(presented)
    )
    if found is None or found.family.client_id != request.client.id:
        raise UnknownToken
    address = subnet(request.origin.address)
    renewal = redeem(context.families, presented, found, address, request.now, context.grace)
    user, family = found.user, found.family
    if user.disabled_at is not None:
        raise InvalidGrant
    if request.scope is not None and not request.scope <= family.scope:
        raise InvalidScope("the requested scope exceeds the scope granted at log-in")
    # The identity scopes are granted by the user, not by an operator.
    scope = family.scope & (user.effective_scope | IDENTITY_SCOPES)
    return issue(
        Authorization(
            user.id,
            family.client_id,
            scope,
            family.audience,
            user.username,
            renewal,
            user=user,
            id_token_claims=request.client.id_token_claims,
        )
    )


GRANT = Grant(
    GrantType.REFRESH_TOKEN,
    execute,
    parameters={"refresh_token": {"type": "string"}},
    workload=Workload.ROTATION,
)
