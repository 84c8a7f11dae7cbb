"""The grant `password`, RFC 6749 section 4.3, for the built-in first-party client only.

RFC 9700 section 2.4 forbids it to other clients, which would see the password. `accounts.login` verifies it.
"""

from issuer.accounts.login import AuthenticatedUser
from issuer.grants.context import Grant, GrantContext, Prepare, TokenRequest, Workload
from issuer.grants.response import UnsignedTokenResponse
from issuer.oauth import GrantType
from issuer.tokens.authorization import Authorization
from issuer.tokens.refresh import NewFamily


def check(request: TokenRequest, context: GrantContext) -> None:
    """Raise the errors that do not depend on the password: raised later, they would reveal that it is correct."""
    username, _ = request.require("username"), request.require("password")
    request.client.audience_for(request.resources, context.user_audience)
    context.signing_key(request.now)
    context.login.check(username, request.origin, request.now)


def execute(request: TokenRequest, context: GrantContext, prepare: Prepare) -> UnsignedTokenResponse:
    """Authorize a user with the right password for the scope of the account; raise LoginFailed."""
    key = context.signing_key(request.now)

    def authorized(authenticated: AuthenticatedUser) -> UnsignedTokenResponse:
        user = authenticated.user
        authorization = Authorization(
            user.id,
            request.client.id,
            user.effective_scope,
            context.user_audience,
            user.username,
            NewFamily(authenticated.password),
            user=user,
            may_have_no_scope=True,
        )
        issue = prepare(authorization, key)
        return issue()

    username, password = request.require("username"), request.require("password")
    return context.login.authenticate(username, password, request.origin, request.now, authorized)


GRANT = Grant(
    GrantType.PASSWORD,
    execute,
    check,
    parameters={"username": {"type": "string"}, "password": {"type": "string", "format": "password"}},
    workload=Workload.HASHING,
    is_first_party=True,
)
