"""How long tokens of a key live, read from tokens that are issued: of every type that the key ring signs."""

from dataclasses import replace
from datetime import timedelta
from functools import lru_cache
from typing import Any, cast

import jwt

from issuer.keyring.key import Key
from issuer.keyring.policy import Policy
from issuer.sessions.logout_notices import LogoutNotice
from issuer.sessions.session import SignIn
from issuer.tokens.access_tokens import AccessTokens
from issuer.tokens.authorization import Authorization
from issuer.tokens.backchannel_logout import BackchannelLogout
from issuer.tokens.id_tokens import IdTokens
from issuer.tokens.refresh import Family
from issuer.tokens.signed_jwt import JwtSigner
from support.defaults import START, sound_key

LONGEST = timedelta(days=365)
FAMILY = Family("a family", "a user", "a client", frozenset({"openid"}), ("x",), START, START + LONGEST)
NOTICE = LogoutNotice(
    id="a notice",
    client_id="a client",
    user_id="a user",
    sid="a sid",
    created_at=START,
    attempts=0,
    due_at=START,
)


class Unsigned:
    """Replaces a signer: the signature is empty."""

    def sign(self, kid: str, data: bytes) -> bytes:
        del kid, data
        return b""


@lru_cache(maxsize=1000)
def lifetimes(policy: Policy, recorded: timedelta) -> dict[str, timedelta]:
    """Return the lifetime of each type of token by a key whose recorded `token_lifetime` that is."""
    key = replace(Key.standby(sound_key("a"), policy, START, timedelta(0)), token_lifetime=recorded)
    signer = JwtSigner(cast("Any", Unsigned()), cast("Any", None), policy, "https://issuer.example")
    authorization = Authorization("a user", "a client", frozenset(), ("x",))
    access = AccessTokens(signer).sign(authorization, None, key, START)
    sign_in = SignIn(None, "a sid", START, "1", ("pwd",))
    logout = BackchannelLogout(*cast("Any", (None, None, signer, None, None, "")))
    tokens = {
        "access": access.text,
        "id": IdTokens(signer).sign(authorization, FAMILY, sign_in, access.text, key, START),
        "logout": logout.token(NOTICE, key, START),
    }
    return {name: _lifetime(token) for name, token in tokens.items()}


def longest_lifetime(policy: Policy, key: Key) -> timedelta:
    """Return how long any token that `key` signs is valid."""
    return max(lifetimes(policy, key.token_lifetime).values())


def _lifetime(token: str) -> timedelta:
    claims = jwt.decode(token, options={"verify_signature": False})
    return timedelta(seconds=claims["exp"] - START.timestamp())
