"""The grant `password`, RFC 6749 section 4.3, for the built-in first-party client only.

RFC 9700 section 2.4 retires it for everybody else: other clients would see the password.
"""

from issuer.accounts import canonical_password, hashable
from issuer.grants.permission import Means, NewSession, Permission, TokenRequest
from issuer.oauth import LoginFailed
from issuer.passwords import WrongPassword

_ALIKE = "the username or the password is wrong"


def grant(request: TokenRequest, means: Means) -> Permission:
    """Permit a user with the right password what they were granted; LoginFailed alike for all else."""
    username = request.require("username")
    password = canonical_password(request.require("password"))
    user = means.accounts.by_username(username) if hashable(username) else None
    if not hashable(password):  # too long for any account: the same work, on a short one
        user, password = None, "x"
    try:
        better = means.passwords.verify(password, user.password_hash if user else None)
    except WrongPassword:
        raise LoginFailed(_ALIKE) from None
    if user is None or user.disabled_at is not None:
        raise LoginFailed(_ALIKE)
    if better:
        means.accounts.set_password_hash(user.id, better)
    return Permission(user.id, user.scope, means.user_audience, user.username, NewSession())
