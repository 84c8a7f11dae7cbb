"""The grant `authorization_code`, RFC 6749 section 4.1.3: a code becomes tokens, and starts a session.

What makes a code valid, and its single use, are the work of `authorize.redeeming`.
"""

from dataclasses import replace

from issuer.accounts.user import User
from issuer.authorize.code import AuthorizationCode
from issuer.authorize.redeeming import Presented
from issuer.authorize.request import scope_of_user
from issuer.clients.client import Client
from issuer.grants.context import NO_AUDIENCE, Grant, GrantContext, Issue, TokenRequest
from issuer.grants.response import UnsignedTokenResponse
from issuer.oauth import GrantType, InvalidGrant, ServerError
from issuer.tokens.authorization import Authorization
from issuer.tokens.entitlements import Entitlements
from issuer.tokens.refresh import NewFamily


def execute(request: TokenRequest, context: GrantContext, issue: Issue) -> UnsignedTokenResponse:
    """Authorize the client for what the user consented to, as far as the user still has it; raise InvalidGrant."""
    key = context.signing_key(request.now)

    def start(issued: AuthorizationCode, user: User) -> tuple[UnsignedTokenResponse, str]:
        code = _narrowed(issued, request.client, context.entitlements)
        authorization = Authorization(
            user.id,
            code.client_id,
            scope_of_user(code.scope, user.effective_scope),
            code.audience,
            user.username,
            NewFamily(sign_in=code.sign_in),
            nonce=code.nonce,
            user=user,
            id_token_claims=request.client.id_token_claims,
        )
        response = issue(authorization, key)
        if response.family is None:
            raise ServerError
        return response, response.family.id

    presented = Presented(
        request.require("code"),
        request.client,
        request.parameters.get("redirect_uri"),
        request.parameters.get("code_verifier"),
    )
    return context.codes.redeem(presented, request.now, start)


def _narrowed(code: AuthorizationCode, client: Client, entitlements: Entitlements) -> AuthorizationCode:
    """Return a code as if it were issued now: an operator may have narrowed its client. Raise InvalidGrant."""
    audience = entitlements.audience(client, code.audience)
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
