"""The grant `password`, RFC 6749 section 4.3, for the built-in first-party client only.

RFC 9700 section 2.4 retires it for everybody else: other clients would see the password.
"""

from issuer.accounts.passwords import WrongPassword
from issuer.accounts.user import VERIFIED_MOST_BYTES, VerifiedPassword, hashable
from issuer.grants.context import Means, TokenRequest
from issuer.oauth import LoginFailed
from issuer.tokens.authorization import Authorization
from issuer.tokens.refresh import NewFamily


def grant(request: TokenRequest, means: Means) -> Authorization:
    """Authorize a user with the right password for what they were granted; LoginFailed alike for all else."""
    username = request.require("username")
    password = request.require("password")
    user = means.accounts.by_username(username) if hashable(username) else None
    decoy = means.accounts.decoy_hash(username if hashable(username) else "")
    own = user.password_hash if user else None
    # Nothing matches for anybody else: what matches an older hash is hashed anew, and that takes time that tells.
    admitted = user if user and user.disabled_at is None and request.may_succeed else None
    if not hashable(password, VERIFIED_MOST_BYTES):  # no account can have it
        admitted, password = None, "x"
    try:
        # The work is that of the account's own hash in any case, or its time would tell that there is an account.
        better_hash = means.passwords.verify(password, own if admitted else None, own or decoy)
    except WrongPassword:
        raise LoginFailed from None
    if admitted is None:
        raise LoginFailed
    family = NewFamily(VerifiedPassword(admitted.password_hash, better_hash))
    return Authorization(
        admitted.id, request.client.id, admitted.scope, means.user_audience, admitted.username, family
    )
