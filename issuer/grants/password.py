"""The grant `password`, RFC 6749 section 4.3, for the built-in first-party client only.

RFC 9700 section 2.4 retires it for everybody else: other clients would see the password.
"""

from issuer.accounts import VERIFIED_MOST_BYTES, hashable
from issuer.grants.means import Means, TokenRequest
from issuer.oauth import LoginFailed
from issuer.passwords import WrongPassword
from issuer.tokens import Authorization, NewFamily


def grant(request: TokenRequest, means: Means) -> Authorization:
    """Authorize a user with the right password for what they were granted; LoginFailed alike for all else."""
    username = request.require("username")
    password = request.require("password")
    user = means.accounts.by_username(username) if hashable(username) else None
    decoy = means.accounts.decoy_hash(username if hashable(username) else "")
    may_match = hashable(password, VERIFIED_MOST_BYTES)
    if not may_match:  # no account can have it: the same hash all the same, or times tell which names exist
        password = "x"  # noqa: S105 - it opens nothing
    try:
        better_hash = means.passwords.verify(password, user.password_hash if user else None, decoy)
    except WrongPassword:
        raise LoginFailed from None
    if user is None or user.disabled_at is not None or not may_match:
        raise LoginFailed
    family = NewFamily(user.password_hash, better_hash)
    return Authorization(user.id, request.client.id, user.scope, means.user_audience, user.username, family)
