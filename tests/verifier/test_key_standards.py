"""Each member of a key and of a key set is read as its standard defines it.

RFC 7517 sections 4 and 5, RFC 7518 section 6, RFC 8037 section 2; tokens are in `test_standards`.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from jwt.algorithms import ECAlgorithm, OKPAlgorithm
from support.attacks.forging import NOW
from support.attacks.keys import another, number, value
from support.attacks.value_forms import ABSENT, NOT_TEXT, Form, Jwk, changed, forms

from jwks_verifier import Event, JwksCache, KeysUnavailable
from jwks_verifier.jwk import MAX_KEYS, import_key
from jwks_verifier.testing import JWKS_PATH, InProcessIssuer, KeyPair

_EC = ec.derive_private_key(7, ec.SECP256R1())
_ED = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
P256 = {**ECAlgorithm.to_jwk(_EC.public_key(), as_dict=True), "kid": "k"}
ED25519 = {**OKPAlgorithm.to_jwk(_ED.public_key(), as_dict=True), "kid": "k"}
STANDARD_BASE64 = "ab+/" * 86  # of 344 characters, as many as 2048 bits take with padding


def with_zero(text: str) -> str:
    """Encode a number with a leading zero octet."""
    return jwt.utils.base64url_encode(b"\0" + jwt.utils.base64url_decode(text)).decode()


COMMON_MEMBERS = [
    *forms("RFC 7517 4.1", "kty", wrong=["rsa", "ec", "okp", "oct", "", "AKP", ABSENT, *NOT_TEXT]),
    *forms(
        "RFC 7517 4.2",
        "use",
        right=["sig", ABSENT],
        wrong=["enc", "SIG", "Sig", "", "sig ", ["sig"], *NOT_TEXT],
    ),
    *forms(
        "RFC 7517 4.3",
        "key_ops",
        right=[ABSENT, ["verify"], ["verify", "sign"], ["verify", "https://example.test/op"]],
        wrong=[
            "verify",
            {"verify": True},
            [],
            ["sign"],
            ["Verify"],
            ["verify", "verify"],
            ["verify", 1],
            ["verify", None],
            [["verify"]],
            ["verify", "sign", "sign"],
            ["encrypt"],
            "sign verify",
            *NOT_TEXT,
        ],
    ),
    *forms(
        "RFC 7517 4.5",
        "kid",
        right=["k", "a/b+c=", "https://issuer.test/keys/1", "did:web:issuer.test#key-1", "x" * 256],
        wrong=["", "a b", "a\nb", "x" * 257, "\u00e9", ABSENT, *NOT_TEXT],
    ),
    *forms("RFC 7517 4.6 to 4.9", "x5u", right=["https://issuer.test/x", 1]),
    *forms("RFC 7517 4.6 to 4.9", "x5c", right=[["MIIB"], "MIIB", []]),
    *forms("RFC 7517 4.6 to 4.9", "x5t", right=["dGh1bWI", None]),
    *forms("RFC 7517 4.6 to 4.9", "x5t#S256", right=["dGh1bWI", 5]),
    *forms("RFC 7517 4", "iat", right=[NOW, "x", None]),
    *forms("RFC 7517 4", "unknown", right=[None, 1, [], {"d": 1}]),
    *(form for name in ("d", "p", "q", "dp", "dq", "qi", "oth", "k")
      for form in forms("RFC 7518 6.2.2, 6.3.2, 6.4", name, wrong=["AQAB", "", None, []])),
]  # fmt: skip
RSA_MEMBERS = [
    *forms("RFC 7517 4.4", "alg", right=["RS256", ABSENT], wrong=["rs256", "RS384", "PS256", "", *NOT_TEXT]),
    *forms(
        "RFC 7518 6.3.1.2",
        "e",
        right=["AQAB"],
        wrong=["AQAB=", "AQAB==", "AAEAAQ", "AQA", "AQA=", "AQAC", "A QAB", "AQAB\n", "", "65537", "AQ", "Aw",
               ABSENT, *NOT_TEXT, 65537],
    ),
    *forms("RFC 7518 6.3.1.1", "n", wrong=["", "AA", STANDARD_BASE64, ABSENT, *NOT_TEXT]),
    *forms("RFC 7518 6.3.1", "crv", right=["P-256", None, 1]),
]  # fmt: skip
EC_MEMBERS = [
    *forms("RFC 7517 4.4", "alg", right=["ES256", ABSENT], wrong=["es256", "ES384", "RS256", "ES256K"]),
    *forms("RFC 7518 6.2.1.1", "crv", wrong=["p-256", "P-384", "P-521", "secp256k1", "Ed25519", "", ABSENT]),
    *(form for name in ("x", "y") for form in forms(
        "RFC 7518 6.2.1.2, 6.2.1.3",
        name,
        wrong=["", P256[name][:-1], P256[name] + "A", P256[name] + "=", with_zero(P256[name]), "A" * 43,
               number(value(P256[name]) + 1), ABSENT, *NOT_TEXT],
    )),
]  # fmt: skip
OKP_MEMBERS = [
    *forms("RFC 7517 4.4", "alg", right=["EdDSA", ABSENT], wrong=["eddsa", "ES256", "X25519"]),
    *forms("RFC 8037 2", "crv", wrong=["ed25519", "Ed448", "X25519", "P-256", "", ABSENT, *NOT_TEXT]),
    *forms("RFC 8037 2", "x", wrong=["", ED25519["x"][:-2], ED25519["x"] + "AA", ED25519["x"] + "=", ABSENT,
                                     *NOT_TEXT]),
]  # fmt: skip


def key_rows() -> Iterator[Any]:
    for kind, table in (
        ("RSA", [*COMMON_MEMBERS, *RSA_MEMBERS]),
        ("EC", [*COMMON_MEMBERS, *EC_MEMBERS]),
        ("OKP", [*COMMON_MEMBERS, *OKP_MEMBERS]),
    ):
        for at, form in enumerate(table):
            yield pytest.param(kind, form, id=f"{kind} {at}: {form.name}")


ALGORITHMS = ["RS256", "ES256", "EdDSA"]


@pytest.mark.parametrize(("kind", "form"), list(key_rows()))
def test_a_member_of_a_key_is_read_as_its_standard_says(kind: str, form: Form, pairs: list[KeyPair]) -> None:
    base: Jwk = {"RSA": dict(pairs[0].jwk), "EC": P256, "OKP": ED25519}[kind]
    jwk = changed(base, form)
    if form.taken:
        assert import_key(jwk, ALGORITHMS).key
    else:
        with pytest.raises((ValueError, jwt.PyJWTError)):
            import_key(jwk, ALGORITHMS)


@pytest.mark.parametrize("member", ["n", "e"])
def test_a_modulus_must_be_minimal_base64url_without_padding(member: str, pairs: list[KeyPair]) -> None:
    jwk = dict(pairs[0].jwk)
    for text in (
        jwk[member] + "=" * (-len(jwk[member]) % 4 or 1),
        with_zero(jwk[member]),
        f" {jwk[member]}",
        jwk[member].replace("-", "+").replace("_", "/") + ("==" if member == "n" else "="),
    ):
        with pytest.raises(ValueError, match=r"base64url|octets"):
            import_key({**jwk, member: text}, ["RS256"])


def test_use_and_key_ops_must_agree(pairs: list[KeyPair]) -> None:
    jwk = {name: each for name, each in pairs[0].jwk.items() if name != "use"}
    assert import_key({**jwk, "key_ops": ["verify", "encrypt"]}, ["RS256"])  # odd, and no contradiction
    with pytest.raises(ValueError, match="another use"):
        import_key({**jwk, "use": "sig", "key_ops": ["verify", "encrypt"]}, ["RS256"])


# Key sets

Served = tuple[set[str], list[str]]


@pytest.fixture
def served(issuer: InProcessIssuer) -> Any:
    """Return the kids that are used from a key set, and the reports on the others."""

    def serve(members: list[Any]) -> Served:
        answer = httpx2.MockTransport(lambda _: httpx2.Response(200, json={"keys": members}))
        said: list[str] = []

        def listen(event: Event, detail: str) -> None:
            if event is Event.KEY_SKIPPED:
                said.append(detail)

        async def scenario() -> set[str]:
            cache = JwksCache(
                issuer.url,
                jwks_url=issuer.url + JWKS_PATH,
                algorithms=ALGORITHMS,
                transport=answer,
                on_event=listen,
            )
            async with cache:
                try:
                    return set((await cache.refetched()).by_kid)
                except KeysUnavailable:
                    return set()

        return asyncio.run(scenario()), said

    return serve


def test_a_key_listed_twice_is_used(served: Any, pairs: list[KeyPair]) -> None:
    jwk = pairs[0].jwk
    assert served([jwk, jwk]) == ({jwk["kid"]}, [])
    plain = {name: jwk[name] for name in ("kty", "n", "e", "kid")}
    assert served([jwk, plain, {**jwk, "x": 1}]) == ({jwk["kid"]}, [])


@pytest.mark.parametrize("configured", [("RS256", "PS256"), ("PS256", "RS256")])
def test_a_key_listed_for_several_algorithms_is_used_for_the_first_configured_one(
    issuer: InProcessIssuer, pairs: list[KeyPair], configured: tuple[str, ...]
) -> None:
    listed = [{**pairs[0].jwk, "alg": algorithm} for algorithm in ("RS256", "PS256")]

    async def bound_to(members: list[Any]) -> str:
        answer = httpx2.MockTransport(lambda _: httpx2.Response(200, json={"keys": members}))
        url = issuer.url + JWKS_PATH
        async with JwksCache(issuer.url, jwks_url=url, algorithms=configured, transport=answer) as cache:
            return (await cache.refetched()).by_kid[pairs[0].kid].algorithm_name

    for members in (listed, listed[::-1]):
        assert asyncio.run(bound_to(members)) == configured[0]


def test_different_keys_with_one_kid_are_dropped_in_any_order(served: Any, pairs: list[KeyPair]) -> None:
    one, other = pairs[0].jwk, {**pairs[1].jwk, "kid": pairs[0].kid}
    for members in ([one, other], [other, one], [one, other, one], [one, one, other], [one, another(one)]):
        used, said = served([*members, pairs[2].jwk])
        assert used == {pairs[2].kid}
        assert said == [f"{one['kid']}: different keys of this kid"]
    used, _ = served([{**one, "kid": "k"}, P256, pairs[2].jwk])  # of different kinds as well
    assert used == {pairs[2].kid}


def test_an_unusable_key_with_the_same_kid_does_not_affect_a_usable_one(
    served: Any, pairs: list[KeyPair]
) -> None:
    one = pairs[0].jwk
    for unusable in (
        {**pairs[1].jwk, "kid": one["kid"], "use": "enc"},
        {**P256, "kid": one["kid"], "crv": "P-384"},
        {**one, "e": "AQ"},
        {"kid": one["kid"]},
    ):
        assert served([one, unusable])[0] == {one["kid"]}
        assert served([unusable, one])[0] == {one["kid"]}


def test_a_key_whose_private_key_is_published_verifies_nothing(served: Any, pairs: list[KeyPair]) -> None:
    one = pairs[0].jwk
    for members in ([one, {**one, "d": "AQAB"}], [{**one, "d": "AQAB"}, one]):
        used, said = served([*members, pairs[2].jwk])
        assert used == {pairs[2].kid}
        assert f"{one['kid']}: its private key is published" in said


def test_members_beyond_the_limit_are_skipped_and_reported(served: Any, pairs: list[KeyPair]) -> None:
    junk = [0] * (MAX_KEYS - 1)
    used, said = served([*junk, pairs[0].jwk, pairs[1].jwk])
    assert used == {pairs[0].kid}
    assert said[-1] == f"all after the first {MAX_KEYS}"


def test_all_keys_of_a_set_of_a_hundred_are_used(served: Any, pairs: list[KeyPair]) -> None:
    members = [{**pairs[0].jwk, "kid": f"k{at}"} for at in range(100)]
    assert served(members) == ({f"k{at}" for at in range(100)}, [])
