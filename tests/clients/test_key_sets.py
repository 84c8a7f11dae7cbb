"""Which keys of a client's key set are used: each member is read as RFC 7517 and RFC 7518 define it.

Assertions are tested in `test_assertion`.
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
def test_unknown_members_of_a_key_are_ignored(jwk: Jwk, more: Jwk) -> None:
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
def test_a_key_for_another_use_or_with_a_malformed_member_is_not_used(jwk: Jwk, more: Jwk) -> None:
    with pytest.raises(BadKeySet):
        read_key_set({"keys": [{**jwk, **more}]})


@pytest.mark.parametrize(
    ("jwk", "name"), [(RSA, "n"), (RSA, "e"), (EC, "x"), (EC, "y"), (OKP, "x")], ids=range(5)
)
def test_numbers_must_be_base64url_without_padding(jwk: Jwk, name: str) -> None:
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


def test_an_rsa_number_must_be_minimal() -> None:
    with pytest.raises(BadKeySet):
        read_key_set({"keys": [{**RSA, "e": "AAEAAQ"}]})


def test_a_key_is_found_after_many_for_another_use() -> None:
    others = [{**RSA, "kid": f"e{number}", "use": "enc", "alg": "RSA-OAEP"} for number in range(120)]
    (key,) = read_key_set({"keys": [*others, {**EC, "kid": "k"}]})
    assert key.kid == "k"


def test_only_the_first_hundred_keys_are_used() -> None:
    found = read_key_set({"keys": [{**EC, "kid": f"k{number}"} for number in range(120)]})
    assert [key.kid for key in found] == [f"k{number}" for number in range(100)]


@pytest.mark.parametrize("name", ["d", "p", "q", "dp", "dq", "qi", "oth", "k"])
def test_a_key_set_with_a_private_member_is_rejected(name: str) -> None:
    with pytest.raises(BadKeySet, match="private"):
        read_key_set({"keys": [EC, {**RSA, name: "AQAB"}]})
