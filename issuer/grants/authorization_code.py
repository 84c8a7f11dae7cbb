"""The grant `authorization_code`, RFC 6749 section 4.1.3: a code becomes tokens, and starts a session.

What makes a code valid, and its single use, are the work of `authorize.redeeming`.
"""

from dataclasses import replace

from issuer.accounts.user import User
from issuer.authorize.code import AuthorizationCode
from issuer.authorize.redeeming import Prepared, Presented
from issuer.authorize.request import scope_of_user
from issuer.grants.context import NO_AUDIENCE, Grant, GrantContext, Prepare, TokenRequest
from issuer.grants.response import UnsignedTokenResponse
from issuer.oauth import GrantType, InvalidGrant
from issuer.tokens.authorization import Authorization
from issuer.tokens.entitlements import Entitlements
from issuer.tokens.refresh import NewFamily


def execute(request: TokenRequest, context: GrantContext, prepare: Prepare) -> UnsignedTokenResponse:
    """Authorize the client for what the user consented to, as far as the user still has it; raise InvalidGrant."""

    def prepared(issued: AuthorizationCode, user: User) -> Prepared[UnsignedTokenResponse]:
        code = _narrowed(issued, request, context.entitlements)
        new = NewFamily(sign_in=code.sign_in)
        authorization = Authorization(
            user.id,
            code.client_id,
            scope_of_user(code.scope, user.effective_scope),
            code.audience,
            user.username,
            new,
            nonce=code.nonce,
            user=user,
            id_token_claims=request.client.id_token_claims,
        )
        return Prepared(new.id, prepare(authorization))

    presented = Presented(
        request.require("code"),
        request.client,
        request.parameters.get("redirect_uri"),
        request.parameters.get("code_verifier"),
    )
    return context.codes.redeem(presented, request.now, prepared)


def _narrowed(
    code: AuthorizationCode, request: TokenRequest, entitlements: Entitlements
) -> AuthorizationCode:
    """Return a code as if it were issued now: an operator may have narrowed its client. Raise InvalidGrant."""
    client = request.client
    audience = entitlements.audience(client, code.audience, request.now)
    if not audience:
        raise InvalidGrant(NO_AUDIENCE)
    return replace(code, scope=entitlements.scope(client, code.scope), audience=audience)


GRANT = Grant(
    GrantType.AUTHORIZATION_CODE,
    execute,
    parameters={
        "code": {"type": "string"},
        "redirect_uri": {"type": "string", "description": "That of the authorization request."},
        "code_verifier": {"type": "string", "description": "For PKCE, RFC 7636."},
    },
)
