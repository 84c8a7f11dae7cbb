"""The reasons why a token is not valid, in words; hostile text is refused like any other."""

import base64
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from support.defaults import START

from issuer.clients.key_sets import read_key_set
from issuer.tokens.inspection import Invalid, decode, in_words, require_valid
from issuer.tokens.refresh_text import new_refresh_token

ISSUER, AUDIENCE = "https://issuer.example", "https://api.example"
KEY, OTHER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
JWK = {**ECAlgorithm.to_jwk(KEY.public_key(), as_dict=True), "kid": "one", "alg": "ES256"}
KEYS = read_key_set({"keys": [JWK]})
NOW = int(START.timestamp())
CLAIMS = {
    "iss": ISSUER,
    "sub": "a user",
    "aud": [AUDIENCE],
    "client_id": "a client",
    "jti": "an id",
    "iat": NOW - 60,
    "exp": NOW + 540,
}


def token(changes: Mapping[str, Any] | None = None, key: Any = KEY, alg: str = "ES256", **header: Any) -> str:
    """Return a signed token; a claim or a member of the header that is None is left out."""
    claims = {name: value for name, value in {**CLAIMS, **(changes or {})}.items() if value is not None}
    members = {"kid": "one", "typ": "at+jwt", **header}
    return jwt.encode(claims, key, alg, {name: each for name, each in members.items() if each is not None})


def raw(header: str | bytes, claims: str | bytes) -> str:
    """Return three parts in the form of a JWT, whose signature is nonsense."""
    parts = (each.encode() if isinstance(each, str) else each for each in (header, claims, "nonsense"))
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def require(text: str) -> None:
    require_valid(decode(text), KEYS, ISSUER, AUDIENCE, START)


NOT_COMPLETE = "the signature is not base64url; check that the token is complete"
HEADER = json.dumps({"alg": "ES256", "kid": "one", "typ": "at+jwt"})
WRONG = {
    "expired": (token({"exp": NOW - 7200}), "expired 2 h ago, at 2025-12-31T22:00:00Z"),
    "expired now": (token({"exp": NOW}), "expired 0 s ago"),
    "audience": (token({"aud": "https://a.example"}), f"aud is https://a.example, expected {AUDIENCE}"),
    "audience in a list": (token({"aud": ["a"]}), f"aud is a, expected {AUDIENCE}"),
    "audiences": (token({"aud": ["a", "b"]}), f"aud is [a, b], expected {AUDIENCE}"),
    "issuer": (token({"iss": "https://b.example"}), f"iss is https://b.example, expected {ISSUER}"),
    "kid": (token(kid="two"), "unknown kid two: it is not among the keys of https://issuer.example"),
    "kid of another issuer": (
        token({"iss": "https://b.example"}, kid="two"),
        f"unknown kid two: it is not among the keys of {ISSUER}; the token names another issuer, https://b.example",
    ),
    "no kid": (token(kid=None), "unknown kid None: "),
    "a kid of a type": (
        raw('{"alg":"ES256","kid":["one"],"typ":"at+jwt"}', "{}"),
        "unknown kid ['one']: ",
    ),
    "signature": (token(key=OTHER), "bad signature: "),
    "typ": (token(typ="JWT"), "typ is JWT, expected at+jwt"),
    "id_token": (
        token({"auth_time": NOW, "aud": "an app"}, typ="JWT"),
        f"it is an id_token, signed by a key of {ISSUER}: it tells the client an app who signed in; services",
    ),
    "id_token that expired": (token({"nonce": "n", "exp": NOW - 60}, typ="JWT"), "expired 1 min ago"),
    "id_token of another key": (token({"nonce": "n"}, OTHER, typ="JWT"), "bad signature: "),
    "no typ": (raw('{"alg":"ES256","kid":"one"}', "{}"), "typ is None, expected at+jwt"),
    "typ of another media type": (token(typ="text/at+jwt"), "typ is text/at+jwt, expected at+jwt"),
    **{
        name: (
            raw(json.dumps({"alg": "ES256", "kid": "one", "typ": "at+jwt", name: ""}), "{}"),
            f"the header has {name}, which services do not accept",
        )
        for name in ("crit", "b64", "jwk", "jku", "x5u", "x5c", "zip", "enc", "cty")
    },
    "a signature cut": (token()[:-1], NOT_COMPLETE),
    "a signature with a character more": (f"{token()}B", NOT_COMPLETE),
    "a signature with padding": (f"{token()}==", NOT_COMPLETE),
    "a signature with a full stop": (f"{token()}.", "not a JWT: it has 4 parts separated by dots, not 3"),
    "a signature with other characters": (f"{token()}!", NOT_COMPLETE),
    "alg of another key": (
        raw('{"alg":"RS256","kid":"one","typ":"at+jwt"}', json.dumps(CLAIMS)),
        "alg is RS256, but the key with this kid is for another algorithm",
    ),
    "none": (jwt.encode(CLAIMS, None, "none"), "alg is none: the token is not signed"),
    "None": (raw('{"alg":"nOnE"}', "{}"), "alg is none: the token is not signed"),
    "secret": (
        token(key="a secret of 32 characters or more", alg="HS256"),
        "alg is HS256, expected one of RS256",
    ),
    "alg of a type": (raw('{"alg":["ES256"]}', "{}"), "alg is ['ES256'], expected one of "),
    "no alg": (raw("{}", "{}"), "alg is None, expected one of "),
    "missing claim": (token({"jti": None}), "the claim jti is missing"),
    "claim of a type": (token({"client_id": 1}), "it is malformed: a claim is not a string"),
    "not yet": (token({"nbf": NOW + 300}), "nbf is in the future: in 5 min"),
    "of the future": (token({"iat": NOW + 3600}), "iat is in the future: in 1 h"),
    "huge exp": (token({"exp": 10**300}), "exp is not an instant"),
    "nbf is a boolean": (token({"nbf": True}), "nbf is not an instant"),
    "endless exp": (raw(HEADER, '{"exp": 1e999}'), "not a JWT: its claims cannot be decoded: "),
    "exp of 5000 digits": (
        raw(HEADER, f'{{"exp": {"9" * 5000}}}'),
        "not a JWT: its claims cannot be decoded: ",
    ),
    "exp is NaN": (raw(HEADER, '{"exp": NaN}'), "not a JWT: its claims cannot be decoded: NaN is not JSON"),
    "exp is text": (token({"iat": "yesterday"}), "it is malformed: "),
    "twice": (
        raw(HEADER, '{"a": 1, "a": 2}'),
        "not a JWT: its claims cannot be decoded: a member is repeated",
    ),
    "twice in the header": (
        raw('{"alg": "ES256", "alg": "none"}', "{}"),
        "not a JWT: its header cannot be decoded: ",
    ),
    "deep": (
        raw(HEADER, '{"a":' + "[" * 2500 + "]" * 2500 + "}"),
        "not a JWT: its claims cannot be decoded: ",
    ),
    "a list": (raw("[]", "{}"), "not a JWT: its header is not a JSON object"),
    "not UTF-8": (raw(HEADER, b'{"a": "\xff"}'), "not a JWT: its claims cannot be decoded: "),
    "junk": ("x" * 1_000_000, "it has more than 8192 characters"),
    "one part": ("nonsense", "not a JWT: it has 1 part, not 3"),
    "encrypted": ("a.b.c.d.e", "not a JWT: it has 5 parts separated by dots, not 3"),
    "dots": ("..", "not a JWT: its header cannot be decoded: "),
    "not base64": ("é.é.é", "not a JWT: its header cannot be decoded: "),
    "a surrogate": ("\ud800.\ud800.\ud800", "not a JWT: its header cannot be decoded: "),
    "a refresh token": (
        new_refresh_token("3485e985-d728-4d01-94c3-22c64f5381d2"),
        "not a JWT but an opaque refresh token",
    ),
}


@pytest.mark.parametrize(("text", "reason"), WRONG.values(), ids=WRONG)
def test_an_invalid_token_has_a_reason(text: str, reason: str) -> None:
    with pytest.raises(Invalid) as refused:
        require(text)
    assert str(refused.value).startswith(reason)
    assert len(text) < 32 or text not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "typ"),
    [
        ({}, "at+jwt"),
        ({"aud": AUDIENCE}, "application/at+jwt"),
        ({"nbf": NOW + 5, "iat": NOW + 5}, "AT+JWT"),
        ({"roles": [[["a"]]]}, "Application/At+Jwt"),
    ],
)
def test_a_valid_token_has_none(changes: Mapping[str, Any], typ: str) -> None:
    require(token(changes, typ=typ))


def test_no_repr_shows_the_token() -> None:
    text = token()
    assert text not in repr(decode(text))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.5, "0 s"), (59, "59 s"), (60, "1 min"), (7199, "1 h"), (86400, "1 d"), (10**9, "11574 d")],
)
def test_a_duration_is_shown_in_its_largest_unit(seconds: float, words: str) -> None:
    assert in_words(timedelta(seconds=seconds)) == words
