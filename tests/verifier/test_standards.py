"""Each registered header parameter and claim is read as its standard defines it.

One row for each form of a value: right, wrong in type or form, or open to choice. RFC 7515 section 4.1 (header),
RFC 7519 section 4.1 and RFC 9068 section 2.2 (claims). Keys are in `test_key_standards`, attacks in the tables that
`test_attacks` judges.
"""

import json
from typing import Any

import pytest
from support.attacks.forging import AUDIENCE, NOW
from support.attacks.value_forms import ABSENT, NOT_TEXT, Form, Jwk, Raw, changed, forms, spelled
from support.verifier import Clock, Forge, Judge

from jwks_verifier import InvalidToken, TokenVerifier
from jwks_verifier.testing import InProcessIssuer, KeyPair

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
def test_a_header_parameter_is_read_as_its_standard_says(form: Form, judge: Judge, forge: Forge) -> None:
    token = forge.signed(members_of(form, forge.header()), forge.claims())
    judged(judge, token, form)


@pytest.mark.parametrize("form", CLAIMS, ids=[f"{at}: {form.name}" for at, form in enumerate(CLAIMS)])
def test_a_claim_is_read_as_its_standard_says(form: Form, judge: Judge, forge: Forge) -> None:
    payload = changed(forge.claims(), form)
    raw = spelled(payload) if form.value != "\ud800" else json.dumps(payload).encode()
    judged(judge, forge.signed(forge.header(), raw), form)


def judged(judge: Judge, token: str, form: Form) -> None:
    if form.taken:
        judge(token)
    else:
        judge.reason(token)
    assert judge.fetches == 1


def test_fractions_are_kept_and_compared_exactly(judge: Judge, forge: Forge, clock: Clock) -> None:
    token = forge.token(iat=NOW - 0.5, exp=NOW + 600.5)
    access = judge(token)
    assert (access.issued_at, access.expires_at) == (NOW - 0.5, NOW + 600.5)
    clock.advance(610.25)
    judge(token)
    clock.advance(0.25)
    judge.reason(token)


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
def test_an_unknown_kid_that_is_a_url_causes_no_fetch_and_a_published_one_is_used(
    kid: str, judge: Judge, forge: Forge, clock: Clock, issuer: InProcessIssuer, verifier: TokenVerifier
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
def test_any_other_unknown_kid_causes_one_fetch(kid: str, judge: Judge, forge: Forge, clock: Clock) -> None:
    clock.rest(60)
    with pytest.raises(InvalidToken):
        judge(forge.token({"kid": kid}))
    assert judge.fetches == 2
