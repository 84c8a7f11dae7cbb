"""Owns that each registered header parameter, JWK member and claim is read as its standard defines it.

One row for each form of a value: right, wrong in type or form, or open to choice. RFC 7515 section 4.1 (header),
RFC 7517 section 4, RFC 7518 section 6 and RFC 8037 section 2 (keys), RFC 7519 section 4.1 and RFC 9068 section 2.2
(claims). Attacks are in the tables that `test_attacks` judges.
"""

import asyncio
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from forging import AUDIENCE, NOW
from jwt.algorithms import ECAlgorithm, OKPAlgorithm
from key_attacks import another, number, value

from verifier_example.testing import JWKS_PATH, InProcessIssuer, KeyPair
from verifier_example.verifier import (
    MAX_KEYS,
    Event,
    InvalidToken,
    JwksCache,
    KeysUnavailable,
    TokenVerifier,
    import_key,
)

Jwk = dict[str, Any]
ABSENT = object()


class Form(NamedTuple):
    """A value of a member, and whether a verifier takes what holds it."""

    member: str
    value: Any
    taken: bool
    section: str

    @property
    def name(self) -> str:
        shown = "absent" if self.value is ABSENT else f"{self.value!r:.40}"
        return f"{self.member} {shown} ({self.section})"


def forms(section: str, member: str, *, right: Any = (), wrong: Any = ()) -> Iterator[Form]:
    for each in right:
        yield Form(member, each, taken=True, section=section)
    for each in wrong:
        yield Form(member, each, taken=False, section=section)


def changed(members: Jwk, form: Form) -> Jwk:
    rest = {name: each for name, each in members.items() if name != form.member}
    return rest if form.value is ABSENT else {**rest, form.member: form.value}


class Raw:
    """A number as it is spelled in JSON, which Python would spell in another way."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def spelled(members: Jwk) -> bytes:
    """Write JSON in which each Raw stands as it was given."""
    marks = {f"raw-{at}": each.text for at, each in enumerate(members.values()) if isinstance(each, Raw)}
    named = iter(marks)
    text = json.dumps(
        {name: next(named) if isinstance(each, Raw) else each for name, each in members.items()}
    )
    for mark, raw in marks.items():
        text = text.replace(f'"{mark}"', raw)
    return text.encode()


NOT_TEXT: tuple[Any, ...] = (1, 1.5, True, None, [], ["x"], {})
NOT_NUMBERS: tuple[Any, ...] = ("1800000600", True, False, None, [], [NOW], {}, "", "now")

HEADER = [
    *forms("RFC 7515 4.1.1", "alg", right=["RS256"], wrong=["rs256", "Rs256", "none", "", ABSENT, *NOT_TEXT]),
    *forms("RFC 7515 4.1.2", "jku", wrong=["https://evil.test/jwks", 1, None]),
    *forms("RFC 7515 4.1.3", "jwk", wrong=[{}, {"kty": "RSA"}, "x", None]),
    *forms("RFC 7515 4.1.4", "kid", wrong=["", ABSENT, *NOT_TEXT]),
    *forms("RFC 7515 4.1.5", "x5u", wrong=["https://evil.test/x", None]),
    *forms("RFC 7515 4.1.6", "x5c", wrong=[["MIIB"], [], "MIIB", None]),
    # A thumbprint points nowhere and is not understood here: ignored, whatever it is.
    *forms("RFC 7515 4.1.7", "x5t", right=["dGh1bWI", "", 1, None, ABSENT]),
    *forms("RFC 7515 4.1.8", "x5t#S256", right=["dGh1bWI", 1, ABSENT]),
    *forms(
        "RFC 7515 4.1.9, RFC 9068 2.1",
        "typ",
        right=["at+jwt", "AT+JWT", "At+Jwt", "application/at+jwt", "Application/AT+JWT"],
        wrong=[
            "JWT",
            "jwt",
            "",
            " at+jwt",
            "at+jwt ",
            "at+jwt; x",
            "application/at+jwt; charset=utf-8",
            "application/application/at+jwt",
            "application/",
            "text/at+jwt",
            "at jwt",
            "at%2Bjwt",
            ["at+jwt"],
            ABSENT,
            *NOT_TEXT,
        ],
    ),
    *forms("RFC 7515 4.1.10", "cty", right=[ABSENT], wrong=["JWT", "json", None, 1]),
    *forms("RFC 7515 4.1.11", "crit", wrong=[["exp"], [], "exp", None, ["b64"], {}]),
    *forms("RFC 7797 3", "b64", wrong=[False, True, None, "x"]),
    *forms("RFC 7516 4.1.2, 4.1.3", "zip", wrong=["DEF", None]),
    *forms("RFC 7516 4.1.2, 4.1.3", "enc", wrong=["A128GCM", None]),
    *forms("RFC 7515 4.2, 4.3", "https://example.test/private", right=["x", 1, None, [], {"a": {"b": 1}}]),
    *forms("RFC 7519 5.3", "iss", right=["https://issuer.test", 1]),
]

TEXT_CLAIM: dict[str, Any] = {
    "right": ["x", "https://example.test/a#b", "urn:uuid:1", "Zo\u00eb \u5317", "a b", "x" * 500],
    "wrong": ["", "a\nb", "a\0b", "\ud800", ABSENT, *NOT_TEXT],
}
CLAIMS = [
    *forms(
        "RFC 7519 4.1.1",
        "iss",
        right=["https://issuer.test"],
        wrong=["https://ISSUER.test", "https://issuer.test/", "", ABSENT, *NOT_TEXT],
    ),
    *forms("RFC 7519 4.1.2", "sub", **TEXT_CLAIM),
    *forms(
        "RFC 7519 4.1.3",
        "aud",
        right=[AUDIENCE, [AUDIENCE], ["https://a.test", AUDIENCE], [AUDIENCE, AUDIENCE]],
        wrong=[
            "",
            [],
            [""],
            "https://a.test",
            AUDIENCE.upper(),
            AUDIENCE + "/",
            [AUDIENCE, 1],
            [AUDIENCE, None],
            [AUDIENCE, [AUDIENCE]],
            [AUDIENCE, True],
            {AUDIENCE: True},
            f"{AUDIENCE} https://a.test",
            f"{AUDIENCE},https://a.test",
            ABSENT,
            *NOT_TEXT,
        ],
    ),
    *forms(
        "RFC 7519 4.1.4, section 2 (NumericDate)",
        "exp",
        right=[
            NOW + 600,
            NOW + 600.0,
            NOW + 0.5,
            Raw("1.9e9"),
            Raw("19E+8"),
            Raw("1800000600." + "0" * 500 + "1"),
            NOW - 9,
            NOW - 9.5,
            253_402_300_799,
        ],
        wrong=[
            Raw("1e3"),
            Raw("1e999"),
            Raw("1e-999"),
            Raw("-1e999"),
            Raw("1" * 400),
            Raw("1" * 5000),
            Raw("NaN"),
            Raw("Infinity"),
            Raw("-0.0"),
            Raw("-0"),
            Raw("01900000000"),
            Raw("+1900000000"),
            Raw("1900000000."),
            Raw(".5"),
            Raw("0x7fffffff"),
            0,
            1.0,
            -1,
            NOW - 10,
            NOW - 10.5,
            253_402_300_800,
            1e18,
            ABSENT,
            *NOT_NUMBERS,
        ],
    ),
    *forms(
        "RFC 7519 4.1.5",
        "nbf",
        right=[ABSENT, NOW, NOW + 10, NOW + 9.5, NOW - 0.5, 0, Raw("-0.0"), Raw("1e3")],
        wrong=[NOW + 10.5, NOW + 11, Raw("1e999"), -1, 1e18, *NOT_NUMBERS],
    ),
    *forms(
        "RFC 7519 4.1.6",
        "iat",
        right=[NOW, NOW + 10, NOW + 9.5, NOW - 0.5, 0, 1.0, Raw("1e3"), Raw("1.8e9")],
        wrong=[NOW + 10.5, NOW + 11, Raw("1e999"), -1, ABSENT, *NOT_NUMBERS],
    ),
    *forms("RFC 7519 4.1.7", "jti", **TEXT_CLAIM),
    *forms("RFC 8693 4.3", "client_id", **TEXT_CLAIM),
    *forms(
        "RFC 8693 4.2, RFC 6749 3.3",
        "scope",
        right=[ABSENT, "", "a", "a b", "https://example.test/s a:b"],
        wrong=["a  b", " a", "a ", "a\tb", 'a"b', "a\\b", "\u00e9", *NOT_TEXT],
    ),
    *forms("RFC 7519 4.3", "username", right=[ABSENT, "Zo\u00eb"], wrong=["", *NOT_TEXT]),
    *forms("RFC 7519 4", "unknown", right=[None, 1e300, Raw("1e999"), [], {"a": [1.5, None]}, "\u2028"]),
    *forms("RFC 7519 4", "cnf", right=[{"jkt": "x"}]),
]


def members_of(form: Form, base: Jwk) -> bytes:
    return spelled(changed(base, form))


@pytest.mark.parametrize("form", HEADER, ids=[form.name for form in HEADER])
def test_a_header_parameter_is_read_by_its_standard(form: Form, judge: Any, forge: Any) -> None:
    token = forge.signed(members_of(form, forge.header()), forge.claims())
    judged(judge, token, form)


@pytest.mark.parametrize("form", CLAIMS, ids=[f"{at}: {form.name}" for at, form in enumerate(CLAIMS)])
def test_a_claim_is_read_by_its_standard(form: Form, judge: Any, forge: Any) -> None:
    payload = changed(forge.claims(), form)
    raw = spelled(payload) if form.value != "\ud800" else json.dumps(payload).encode()
    judged(judge, forge.signed(forge.header(), raw), form)


def judged(judge: Any, token: str, form: Form) -> None:
    if form.taken:
        judge(token)
    else:
        judge.reason(token)
    assert judge.fetches == 1


def test_fractions_are_kept_and_compared_exactly(judge: Any, forge: Any, clock: Any) -> None:
    token = forge.token(iat=NOW - 0.5, exp=NOW + 600.5)
    access = judge(token)
    assert (access.issued_at, access.expires_at) == (NOW - 0.5, NOW + 600.5)
    clock.advance(610.25)
    judge(token)
    clock.advance(0.25)
    judge.reason(token)


# Keys

_EC = ec.derive_private_key(7, ec.SECP256R1())
_ED = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
P256 = {**ECAlgorithm.to_jwk(_EC.public_key(), as_dict=True), "kid": "k"}
ED25519 = {**OKPAlgorithm.to_jwk(_ED.public_key(), as_dict=True), "kid": "k"}
STANDARD_BASE64 = "ab+/" * 86  # of 344 characters, as many as 2048 bits take with padding


def with_zero(text: str) -> str:
    """Write a number with an octet more than it needs."""
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
def test_a_member_of_a_key_is_read_by_its_standard(kind: str, form: Form, pairs: list[KeyPair]) -> None:
    base: Jwk = {"RSA": dict(pairs[0].jwk), "EC": P256, "OKP": ED25519}[kind]
    jwk = changed(base, form)
    if form.taken:
        assert import_key(jwk, ALGORITHMS).key
    else:
        with pytest.raises((ValueError, jwt.PyJWTError)):
            import_key(jwk, ALGORITHMS)


@pytest.mark.parametrize("member", ["n", "e"])
def test_a_modulus_is_written_without_padding_in_base64url_and_in_the_fewest_octets(
    member: str, pairs: list[KeyPair]
) -> None:
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
    """Return the kids that are used of a key set, and what was said of the others."""

    def serve(members: list[Any]) -> Served:
        answer = httpx2.MockTransport(lambda _: httpx2.Response(200, json={"keys": members}))
        said: list[str] = []

        def listen(event: Event, detail: str) -> None:
            if event is Event.KEY_SKIPPED:
                said.append(detail)

        async def story() -> set[str]:
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

        return asyncio.run(story()), said

    return serve


def test_one_key_listed_twice_under_its_kid_is_used(served: Any, pairs: list[KeyPair]) -> None:
    jwk = pairs[0].jwk
    assert served([jwk, jwk]) == ({jwk["kid"]}, [])
    plain = {name: jwk[name] for name in ("kty", "n", "e", "kid")}
    assert served([jwk, plain, {**jwk, "x": 1}]) == ({jwk["kid"]}, [])


def test_different_keys_under_one_kid_are_dropped_in_any_order(served: Any, pairs: list[KeyPair]) -> None:
    one, other = pairs[0].jwk, {**pairs[1].jwk, "kid": pairs[0].kid}
    for members in ([one, other], [other, one], [one, other, one], [one, one, other], [one, another(one)]):
        used, said = served([*members, pairs[2].jwk])
        assert used == {pairs[2].kid}
        assert said == [f"{one['kid']}: different keys of this kid"]
    used, _ = served([{**one, "kid": "k"}, P256, pairs[2].jwk])  # of different kinds as well
    assert used == {pairs[2].kid}


def test_a_key_is_used_beside_one_of_its_kid_that_no_verifier_may_use(
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


def test_a_key_whose_private_half_is_published_verifies_nothing(served: Any, pairs: list[KeyPair]) -> None:
    one = pairs[0].jwk
    for members in ([one, {**one, "d": "AQAB"}], [{**one, "d": "AQAB"}, one]):
        used, said = served([*members, pairs[2].jwk])
        assert used == {pairs[2].kid}
        assert f"{one['kid']}: its private key is published" in said


def test_of_a_very_long_set_the_first_members_are_used_and_the_rest_is_told(
    served: Any, pairs: list[KeyPair]
) -> None:
    junk = [0] * (MAX_KEYS - 1)
    used, said = served([*junk, pairs[0].jwk, pairs[1].jwk])
    assert used == {pairs[0].kid}
    assert said[-1] == f"all after the first {MAX_KEYS}"


def test_a_set_of_a_hundred_keys_is_used_as_a_whole(served: Any, pairs: list[KeyPair]) -> None:
    members = [{**pairs[0].jwk, "kid": f"k{at}"} for at in range(100)]
    assert served(members) == ({f"k{at}" for at in range(100)}, [])


# Kids that are addresses


@pytest.mark.parametrize(
    "kid",
    [
        "https://evil.test/jwks.json",
        "HTTP://evil.test",
        "//evil.test/x",
        "../../dev/null",
        "./keys/a.pem",
        "file:///etc/passwd",
        "data:application/json",
        "evil.test/keys",
    ],
)
def test_an_unknown_kid_that_is_an_address_costs_no_fetch_and_a_published_one_is_used(
    kid: str, judge: Any, forge: Any, clock: Any, issuer: InProcessIssuer, verifier: TokenVerifier
) -> None:
    token = forge.token({"kid": kid})
    clock.rest(60)
    judge.reason(token)
    assert judge.fetches == 1
    key = KeyPair(issuer.keys[0].private)
    key.jwk["kid"] = kid
    issuer.keys = [key]

    async def fetch() -> None:
        await verifier.cache.refresh()

    judge._run(fetch())
    judge(token)


@pytest.mark.parametrize(
    "kid", ["ab/cd+ef=", "/bc+", "did:web:issuer.test", "urn:ietf:params:oauth:x", "a.b"]
)
def test_an_unknown_kid_of_another_form_costs_one_fetch(kid: str, judge: Any, forge: Any, clock: Any) -> None:
    clock.rest(60)
    with pytest.raises(InvalidToken):
        judge(forge.token({"kid": kid}))
    assert judge.fetches == 2
