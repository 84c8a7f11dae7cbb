"""Which keys of a client's key set are used: each member is read as RFC 7517 and RFC 7518 define it.

How assertions are verified by them is in `test_client_authentication`.
"""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from issuer.clients.key_sets import BadKeySet, read_key_set

Jwk = dict[str, Any]


def public(private: Any, algorithm: Any) -> Jwk:
    jwk: Jwk = algorithm.to_jwk(private.public_key(), as_dict=True)
    return {name: value for name, value in jwk.items() if name != "key_ops"}


RSA = public(rsa.generate_private_key(65537, 2048), RSAAlgorithm)
EC = public(ec.derive_private_key(7, ec.SECP256R1()), ECAlgorithm)
OKP = public(ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)), OKPAlgorithm)
KEYS = [RSA, EC, OKP]


@pytest.mark.parametrize("jwk", KEYS, ids=["RSA", "EC", "OKP"])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"use": "sig"},
        {"kid": "k"},
        {"key_ops": ["verify"]},
        {"key_ops": ["sign", "verify"], "use": "sig"},
        {"unknown": [1]},
        {"x5c": ["MIIB"]},
    ],
)
def test_a_key_is_used_and_what_is_not_known_of_it_ignored(jwk: Jwk, more: Jwk) -> None:
    (key,) = read_key_set({"keys": [{**jwk, **more}]})
    assert key.kid == more.get("kid")


@pytest.mark.parametrize("jwk", KEYS, ids=["RSA", "EC", "OKP"])
@pytest.mark.parametrize(
    "more",
    [
        {"use": "enc"},
        {"use": "SIG"},
        {"use": None},
        {"use": ["sig"]},
        {"kid": 1},
        {"kid": ["k"]},
        {"key_ops": "verify"},
        {"key_ops": {"verify": True}},
        {"key_ops": []},
        {"key_ops": ["sign"]},
        {"key_ops": ["verify", "verify"]},
        {"key_ops": ["verify", 1]},
        {"key_ops": ["verify", "encrypt"], "use": "sig"},
        {"alg": "rs256"},
        {"alg": ["RS256"]},
        {"kty": ["RSA"]},
        {"kty": "rsa"},
    ],
)
def test_a_key_for_something_else_or_with_a_member_of_the_wrong_form_is_not_used(jwk: Jwk, more: Jwk) -> None:
    with pytest.raises(BadKeySet):
        read_key_set({"keys": [{**jwk, **more}]})


@pytest.mark.parametrize(
    ("jwk", "name"), [(RSA, "n"), (RSA, "e"), (EC, "x"), (EC, "y"), (OKP, "x")], ids=range(5)
)
def test_numbers_are_base64url_without_padding(jwk: Jwk, name: str) -> None:
    for text in (
        jwk[name] + "=",
        jwk[name] + "==",
        " " + jwk[name],
        jwk[name] + "\n",
        "+/" + jwk[name],
        "",
        None,
        5,
    ):
        with pytest.raises(BadKeySet):
            read_key_set({"keys": [{**jwk, name: text}]})


def test_an_rsa_number_has_no_octet_more_than_it_needs() -> None:
    with pytest.raises(BadKeySet):
        read_key_set({"keys": [{**RSA, "e": "AAEAAQ"}]})


def test_a_key_is_found_behind_many_that_are_for_something_else() -> None:
    others = [{**RSA, "kid": f"e{number}", "use": "enc", "alg": "RSA-OAEP"} for number in range(120)]
    (key,) = read_key_set({"keys": [*others, {**EC, "kid": "k"}]})
    assert key.kid == "k"


def test_of_very_many_keys_the_first_hundred_are_used() -> None:
    found = read_key_set({"keys": [{**EC, "kid": f"k{number}"} for number in range(120)]})
    assert [key.kid for key in found] == [f"k{number}" for number in range(100)]


@pytest.mark.parametrize("name", ["d", "p", "q", "dp", "dq", "qi", "oth", "k"])
def test_a_set_with_a_part_of_a_private_key_is_refused(name: str) -> None:
    with pytest.raises(BadKeySet, match="private"):
        read_key_set({"keys": [EC, {**RSA, name: "AQAB"}]})
