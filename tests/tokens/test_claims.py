"""Claims are typed, and a token of one type is never taken for another."""

from datetime import timedelta
from typing import Any

import pytest
from support.defaults import START

from issuer.oauth import InvalidToken
from issuer.services import Issuer
from issuer.tokens.access_tokens import AccessTokens
from issuer.tokens.authorization import Authorization
from issuer.tokens.claims import AccessTokenClaims
from issuer.tokens.refresh import Family
from issuer.tokens.signed_jwt import ACCESS_TOKEN, JwtSigner, TokenType

USER = Authorization("a user", "a client", frozenset({"b", "a"}), ("x", "y"), "alice")
SESSION = Family(
    "a session",
    "a user",
    "a client",
    USER.scope,
    USER.audience,
    START,
    START + timedelta(days=1),
    sid="a sid",
)
MACHINE = Authorization("a client", "a client", frozenset(), ("x",))


def claims(authorization: Authorization, family: Family | None = None) -> AccessTokenClaims:
    return AccessTokenClaims.issued(authorization, family, "x", START, timedelta(minutes=10))


@pytest.mark.parametrize("issued", [claims(USER, SESSION), claims(MACHINE)])
def test_an_issued_token_is_read_back(issued: AccessTokenClaims) -> None:
    assert AccessTokenClaims.parsed(issued.members()) == issued


def test_a_machine_has_neither_a_name_nor_a_session() -> None:
    assert {"username", "grant_id", "sid"} <= claims(USER, SESSION).members().keys()
    assert not {"username", "grant_id", "sid"} & claims(MACHINE).members().keys()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sub", 1),
        ("aud", [1]),
        ("aud", None),
        ("client_id", None),
        ("exp", "1"),
        ("exp", True),
        ("iat", 1.5),
        ("scope", ["a"]),
        ("username", 1),
        ("grant_id", ["a"]),
        ("sid", 1),
    ],
)
def test_claims_of_another_type_are_refused(name: str, value: Any) -> None:
    with pytest.raises(TypeError):
        AccessTokenClaims.parsed({**claims(USER, SESSION).members(), name: value})


def test_a_token_of_another_type_with_the_same_claims_is_no_access_token(issuer: Issuer) -> None:
    issuer.keys.node.refresh()
    signer = JwtSigner(issuer.keys.signer, lambda: issuer.keys.node.view, issuer.policy, "x")
    key, members = signer.signing_key(START), claims(USER, SESSION).members()
    assert AccessTokens(signer).verify(signer.sign(ACCESS_TOKEN, members, key), START).sub == "a user"
    with pytest.raises(InvalidToken):
        AccessTokens(signer).verify(signer.sign(TokenType("JWT", ("sub",)), members, key), START)
