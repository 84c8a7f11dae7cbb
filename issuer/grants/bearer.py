"""Access tokens presented to the issuer itself, RFC 6750: who is calling its own account endpoints.

Other services verify tokens through the JWKS; see `verifier_example`.
"""

from collections.abc import Callable
from datetime import datetime

import jwt
from jwt.types import Options

from issuer.accounts import User
from issuer.grants.pipeline import ACCESS_TOKEN_TYPE
from issuer.key import Key
from issuer.keyring import Phase
from issuer.nodes import View
from issuer.oauth import InvalidToken
from issuer.policy import Policy
from issuer.store.accounts import AccountStore

TOKEN_MOST_CHARACTERS = 8192
_REQUIRED = ["iss", "sub", "aud", "exp", "iat", "jti", "client_id"]
# Time is an argument here: PyJWT would read the clock itself.
_OPTIONS: Options = {"require": _REQUIRED, "verify_exp": False, "verify_iat": False, "verify_nbf": False}


class BearerAuthentication:
    """Turns an access token whose `aud` holds the issuer's own URL into its user."""

    def __init__(self, accounts: AccountStore, view: Callable[[], View], policy: Policy, issuer: str) -> None:
        self._accounts = accounts
        self._view = view
        self._policy = policy
        self._issuer = issuer

    def user(self, token: str, now: datetime) -> User:
        """Return the user that `token` speaks for; raise InvalidToken, one text for every fault but age."""
        try:
            claims = self._claims(token, now)
        # PyJWT lets these escape for hostile input, besides its own errors.
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
            raise InvalidToken("the access token is not valid here") from None
        if not isinstance(claims["exp"], int) or claims["exp"] <= now.timestamp():
            raise InvalidToken("the access token has expired")
        user = self._accounts.by_id(str(claims["sub"])) if "username" in claims else None
        if user is None or user.disabled_at is not None:
            raise InvalidToken("the access token is not valid here")
        return user

    def _claims(self, token: str, now: datetime) -> dict[str, object]:
        if len(token) > TOKEN_MOST_CHARACTERS:
            raise InvalidToken("the access token is not valid here")
        header = jwt.get_unverified_header(token)
        key = self._key(str(header["kid"]), now)
        if header["typ"] != ACCESS_TOKEN_TYPE:
            raise ValueError(header["typ"])
        return dict(
            jwt.decode(
                token,
                jwt.PyJWK(dict(key.jwk)),
                algorithms=[key.alg],
                audience=self._issuer,
                issuer=self._issuer,
                options=_OPTIONS,
            )
        )

    def _key(self, kid: str, now: datetime) -> Key:
        view = self._view()
        view.max_age(self._policy, now)  # a view too old to publish is too old to judge by
        ring = view.ring
        for key in ring.keys:
            if key.kid == kid and ring.phase(key, now) not in {Phase.REVOKED, Phase.RETIRED}:
                return key
        raise KeyError(kid)
