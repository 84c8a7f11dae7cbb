"""The grant `refresh_token`, RFC 6749 section 6, with rotation and reuse detection (RFC 9700 section 4.14).

What presenting a token leads to is decided in `tokens.refresh`; the database enforces single use.
"""

from issuer.digests import digest
from issuer.grants.context import NO_AUDIENCE, Grant, GrantContext, Prepare, TokenRequest, Workload
from issuer.grants.response import UnsignedTokenResponse
from issuer.oauth import GrantType, InvalidGrant, InvalidScope, UnknownToken
from issuer.throttling.limits import subnet
from issuer.tokens.authorization import Authorization
from issuer.tokens.entitlements import may_keep
from issuer.tokens.identity import IDENTITY_SCOPES
from issuer.tokens.redemption import redeem


def execute(request: TokenRequest, context: GrantContext, prepare: Prepare) -> UnsignedTokenResponse:
    """Authorize the holder of a valid refresh token for the scope of its session that user and client still have."""
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
    user, family, client = found.user, found.family, request.client
    if not may_keep(client, family):
        client.require_grant(GrantType.AUTHORIZATION_CODE)
    if user.disabled_at is not None:
        raise InvalidGrant
    if request.scope is not None and not request.scope <= family.scope:
        raise InvalidScope("the requested scope exceeds the scope granted at log-in")
    # The identity scopes are granted by the user, not by an operator.
    held = user.effective_scope | IDENTITY_SCOPES
    scope = context.entitlements.scope(client, family.scope) & held
    audience = context.entitlements.audience(client, family.audience, request.now)
    if not audience:
        raise InvalidGrant(NO_AUDIENCE)
    issue = prepare(
        Authorization(
            user.id,
            family.client_id,
            scope,
            audience,
            user.username,
            renewal,
            user=user,
            id_token_claims=client.id_token_claims,
        )
    )
    return issue()


GRANT = Grant(
    GrantType.REFRESH_TOKEN,
    execute,
    parameters={"refresh_token": {"type": "string"}},
    workload=Workload.ROTATION,
)
