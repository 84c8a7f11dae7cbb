"""Owns what tokens are accepted and refused, why, and at the cost of how many fetches.

How keys come and go is in `test_verifier_keys`.
"""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from verifier_example.verifier import (
    MAX_TOKEN,
    AccessToken,
    Event,
    InvalidToken,
    JwksCache,
    Reason,
    TokenVerifier,
)

AUDIENCE = "https://api.test"
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
ONE_FETCH = 1

Make = Callable[[Any], str]
Row = tuple[str, Make]


def hs256(forge: Any, secret: bytes) -> str:
    signing_input = forge.unsigned(forge.header(alg="HS256"), forge.claims())
    return f"{signing_input}.{forge.segment(hmac.digest(secret, signing_input.encode(), hashlib.sha256))}"


def pem(forge: Any) -> bytes:
    public = forge.key.private.public_key()
    return bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def with_signature(token: str, change: Callable[[str], str]) -> str:
    head, _, signature = token.rpartition(".")
    return f"{head}.{change(signature)}"


def same_bits(segment: str) -> str:
    """Write the same bytes in another way: the last character's unused bits set."""
    last = ALPHABET[ALPHABET.index(segment[-1]) + 1]
    return segment[:-1] + last


ACCEPTED: list[Row] = [
    ("plain", lambda f: f.token()),
    ("aud a string", lambda f: f.token(aud=AUDIENCE)),
    ("aud one of many", lambda f: f.token(aud=["https://a.test", AUDIENCE])),
    ("a machine without username", lambda f: f.token(username=None)),
    ("scope empty", lambda f: f.token(scope="")),
    ("scope absent", lambda f: f.token(scope=None)),
    ("typ in capitals", lambda f: f.token({"typ": "AT+JWT"})),
    ("typ with application/", lambda f: f.token({"typ": "application/at+jwt"})),
    ("a harmless header member more", lambda f: f.token({"x5t": "abc"})),
    ("a claim more", lambda f: f.token(tenant={"id": [1, None]})),
    ("nbf past", lambda f: f.token(nbf=int(1.8e9) - 1)),
    ("username beyond ASCII", lambda f: f.token(username="Zoë 北")),
    ("JSON with spaces", lambda f: f.signed(json.dumps(f.header(), indent=2).encode(), f.claims())),
    ("issued within the leeway", lambda f: f.token(iat=int(1.8e9) + 9)),
    ("expired within the leeway", lambda f: f.token(exp=int(1.8e9) - 9)),
]

MALFORMED: list[Row] = [
    ("empty", lambda _: ""),
    ("one segment", lambda _: "abc"),
    ("two segments", lambda f: f.token().rpartition(".")[0]),
    ("no signature", lambda f: f.token().rpartition(".")[0] + "."),
    ("four segments", lambda f: f.token() + ".YQ"),
    ("JWE of five segments", lambda f: f.token() + ".YQ.YQ"),
    ("a space before", lambda f: " " + f.token()),
    ("a newline after", lambda f: f.token() + "\n"),
    ("padded signature", lambda f: f.token() + "=="),
    ("standard base64", lambda f: f.token().replace("-", "+").replace("_", "/") + "+"),
    ("letters beyond ASCII", lambda f: f.token() + "é"),
    ("a full-width digit", lambda f: f.token() + "\uff11"),
    ("NUL", lambda f: f.token() + "\0"),
    ("too long", lambda f: f.token(x="y" * MAX_TOKEN)),
    ("header too long", lambda f: f.token({"x": "y" * 1100})),
    ("junk of 200 KB", lambda _: "a" * 200_000),
    ("dots of 200 KB", lambda _: "." * 200_000),
    ("JSON serialization", lambda f: json.dumps({"payload": f.segment(f.claims()), "signature": "YQ"})),
    ("signature of impossible length", lambda f: with_signature(f.token(), lambda s: s[:-1])),
    ("signature written another way", lambda f: with_signature(f.token(), same_bits)),
    ("header not JSON", lambda f: f.signed(b"header", f.claims())),
    ("header an array", lambda f: f.signed(b"[]", f.claims())),
    ("header not UTF-8", lambda f: f.signed(b'{"alg":"\xff"}', f.claims())),
    ("header in UTF-16", lambda f: f.signed(json.dumps(f.header()).encode("utf-16"), f.claims())),
    (
        "header with a byte order mark",
        lambda f: f.signed(b"\xef\xbb\xbf" + json.dumps(f.header()).encode(), {}),
    ),
    ("header nested deep", lambda f: f.signed(b'{"a":' + b"[" * 900, f.claims())),
    ("header with alg twice", lambda f: f.signed(twice(f.header(), "alg", "none"), f.claims())),
    ("header with kid twice", lambda f: f.signed(twice(f.header(), "kid", "x"), f.claims())),
    ("header with data after it", lambda f: f.signed(json.dumps(f.header()).encode() + b"{}", f.claims())),
    ("payload not JSON", lambda f: f.signed(f.header(), b"payload")),
    ("payload an array", lambda f: f.signed(f.header(), [f.claims()])),
    ("payload null", lambda f: f.signed(f.header(), None)),
    ("payload in UTF-16", lambda f: f.signed(f.header(), json.dumps(f.claims()).encode("utf-16"))),
    ("payload nested deep", lambda f: f.signed(f.header(), b'{"a":' + b"[" * 4000)),
    ("payload with sub twice", lambda f: f.signed(f.header(), twice(f.claims(), "sub", "root"))),
    ("payload with a member twice deep inside", lambda f: f.signed(f.header(), b'{"a":{"b":1,"b":2}}')),
    ("payload with NaN", lambda f: f.signed(f.header(), json.dumps(f.claims(x=float("nan"))).encode())),
    ("payload with Infinity", lambda f: f.token(exp=float("inf"))),
    ("payload with a number of 5000 digits", lambda f: f.signed(f.header(), b'{"exp":' + b"9" * 5000 + b"}")),
]

BAD_HEADER: list[Row] = [
    ("alg none", lambda f: f.unsigned(f.header(alg="none"), f.claims()) + ".YQ"),
    ("alg none, signed", lambda f: f.token({"alg": "none"})),
    ("alg NONE", lambda f: f.token({"alg": "NONE"})),
    ("alg absent", lambda f: f.token({"alg": None})),
    ("alg a list", lambda f: f.token({"alg": ["RS256"]})),
    ("alg an object", lambda f: f.token({"alg": {}})),
    ("alg in small letters", lambda f: f.token({"alg": "rs256"})),
    ("alg RS512", lambda f: f.token({"alg": "RS512"})),
    ("alg PS256, which is not configured", lambda f: f.token({"alg": "PS256"})),
    ("HS256 with the public key as PEM", lambda f: hs256(f, pem(f))),
    ("HS256 with the public key as JWK", lambda f: hs256(f, json.dumps(f.key.jwk).encode())),
    ("HS256 with nothing", lambda f: hs256(f, b"")),
    ("typ absent", lambda f: f.token({"typ": None})),
    ("typ JWT, an ID token perhaps", lambda f: f.token({"typ": "JWT"})),
    ("typ a number", lambda f: f.token({"typ": 1})),
    ("typ logout+jwt", lambda f: f.token({"typ": "logout+jwt"})),
    ("kid absent", lambda f: f.token({"kid": None})),
    ("kid a number", lambda f: f.token({"kid": 1})),
    ("kid empty", lambda f: f.token({"kid": ""})),
    ("kid a path", lambda f: f.token({"kid": "../../dev/null\0"})),
    ("kid with SQL", lambda f: f.token({"kid": "x' UNION SELECT 'key"})),
    ("kid with a newline, to forge a log", lambda f: f.token({"kid": "x\nadmin logged in"})),
    *(
        (f"{member} in the header", lambda f, member=member: f.token({member: f.key.jwk}))
        for member in ("crit", "b64", "jwk", "jku", "x5u", "x5c", "zip", "enc", "cty")
    ),
]

BAD_SIGNATURE: list[Row] = [
    ("signed by a stranger", lambda f: f.signed(f.header(), f.claims(), f.stranger)),
    ("another payload", lambda f: swap(f.token(), f.token(sub="root"), 1)),
    ("another header", lambda f: swap(f.token(), f.token({"x": 1}), 0)),
    ("signature of zeros", lambda f: with_signature(f.token(), lambda s: "A" * len(s))),
    ("signature short by three bytes", lambda f: with_signature(f.token(), lambda s: s[:-4] + "AA")),
    ("signature longer", lambda f: with_signature(f.token(), lambda s: "AAAA" + s)),
    ("signature of one byte", lambda f: with_signature(f.token(), lambda _: "AA")),
]

BAD_CLAIMS: list[Row] = [
    *(
        (f"{name} absent", lambda f, name=name: f.token(**{name: None}))
        for name in ("iss", "sub", "aud", "client_id", "iat", "exp", "jti")
    ),
    *(
        (f"{name} {value!r}", lambda f, name=name, value=value: f.token(**{name: value}))
        for name in ("iat", "exp", "nbf")
        for value in ("1800000600", 1800000600.5, True, [1800000600], {}, -1, 10**18)
    ),
    *(
        (f"{name} {value!r}", lambda f, name=name, value=value: f.token(**{name: value}))
        for name in ("iss", "sub", "client_id", "jti", "username")
        for value in (1, "", ["u1"], "\ud800", "a\nb")
    ),
    ("aud a number", lambda f: f.token(aud=1)),
    ("aud empty", lambda f: f.token(aud="")),
    ("aud with a number in it", lambda f: f.token(aud=[AUDIENCE, 1])),
    ("aud nested", lambda f: f.token(aud=[[AUDIENCE]])),
    ("aud an object", lambda f: f.token(aud={AUDIENCE: 1})),
    ("scope a list", lambda f: f.token(scope=["items:read"])),
    ("scope with two spaces", lambda f: f.token(scope="a  b")),
    ("scope with a quote", lambda f: f.token(scope='a"b')),
]

WRONG: list[tuple[str, Make, Reason]] = [
    ("another issuer", lambda f: f.token(iss="https://evil.test"), Reason.ISSUER),
    ("the issuer with a slash", lambda f: f.token(iss="https://issuer.test/"), Reason.ISSUER),
    ("the issuer in capitals", lambda f: f.token(iss="https://ISSUER.test"), Reason.ISSUER),
    ("another audience", lambda f: f.token(aud="https://other.test"), Reason.AUDIENCE),
    ("no audience at all", lambda f: f.token(aud=[]), Reason.AUDIENCE),
    ("an audience that begins alike", lambda f: f.token(aud=AUDIENCE + ".evil.test"), Reason.AUDIENCE),
    ("a part of the audience", lambda f: f.token(aud="https://api"), Reason.AUDIENCE),
    ("expired", lambda f: f.token(exp=int(1.8e9) - 10), Reason.EXPIRED),
    ("expired long ago", lambda f: f.token(exp=0), Reason.EXPIRED),
    ("not yet valid", lambda f: f.token(nbf=int(1.8e9) + 11), Reason.NOT_YET_VALID),
    ("issued in the future", lambda f: f.token(iat=int(1.8e9) + 11), Reason.NOT_YET_VALID),
]

UNKNOWN_KEY: list[tuple[str, Make, Reason, int]] = [
    ("of a kid that nobody publishes", lambda f: f.token({"kid": "nobody"}), Reason.UNKNOWN_KEY, ONE_FETCH),
    ("of another issuer", lambda f: f.token({"kid": "nobody"}, iss="https://evil.test"), Reason.ISSUER, 0),
    ("for another audience", lambda f: f.token({"kid": "nobody"}, aud="https://x.test"), Reason.AUDIENCE, 0),
    ("expired", lambda f: f.token({"kid": "nobody"}, exp=1), Reason.EXPIRED, 0),
    ("with a payload of junk", lambda f: f.signed(f.header(kid="nobody"), b"junk"), Reason.MALFORMED, 0),
]


def twice(members: dict[str, Any], name: str, value: str) -> bytes:
    return (json.dumps(members)[:-1] + f', "{name}": "{value}"}}').encode()


def swap(token: str, other: str, position: int) -> str:
    segments = token.split(".")
    segments[position] = other.split(".")[position]
    return ".".join(segments)


REFUSED = [
    *((name, forged, Reason.MALFORMED) for name, forged in MALFORMED),
    *((name, forged, Reason.HEADER) for name, forged in BAD_HEADER),
    *((name, forged, Reason.SIGNATURE) for name, forged in BAD_SIGNATURE),
    *((name, forged, Reason.CLAIMS) for name, forged in BAD_CLAIMS),
    *WRONG,
]


def rows(table: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
    """Turn a table into the arguments of `parametrize`; its first column names the rows."""
    values = [row[1] if len(row) == 2 else row[1:] for row in table]
    return {"argvalues": values, "ids": [row[0] for row in table]}


class Judge:
    """A verifier that has its keys, and a loop to ask it on; each question comes after the cooldown."""

    def __init__(self, verifier: TokenVerifier, runner: asyncio.Runner, clock: Any, issuer: Any) -> None:
        self.verifier = verifier
        self.clock = clock
        self.issuer = issuer
        self._runner = runner

    def __call__(self, token: str) -> AccessToken:
        return self._runner.run(self.verifier.verify(token))

    def refuses(self, token: str) -> tuple[Reason, int]:
        before = len(self.issuer.requests)
        with pytest.raises(InvalidToken) as refusal:
            self(token)
        return refusal.value.reason, len(self.issuer.requests) - before


@pytest.fixture
def judge(verifier: TokenVerifier, clock: Any, issuer: Any) -> Iterator[Judge]:
    with asyncio.Runner() as runner:
        runner.run(verifier.cache.__aenter__())
        runner.run(verifier.cache.refetched())
        yield Judge(verifier, runner, clock, issuer)
        runner.run(verifier.cache.__aexit__())


@pytest.mark.parametrize("make", **rows(ACCEPTED))
def test_a_live_token_is_accepted(make: Make, judge: Judge, forge: Any) -> None:
    assert judge(make(forge)).subject == "u1"


@pytest.mark.parametrize(("make", "reason"), **rows(REFUSED))
def test_a_wrong_token_is_refused_without_a_fetch(
    make: Make, reason: Reason, judge: Judge, forge: Any, events: list[Any]
) -> None:
    judge(forge.token())
    judge.clock.rest(10)
    assert judge.refuses(make(forge)) == (reason, 0)
    assert events[-1] == (Event.REJECTED, reason)


@pytest.mark.parametrize(("make", "reason", "fetches"), **rows(UNKNOWN_KEY))
def test_a_token_of_an_unknown_key_costs_a_fetch_only_if_it_could_be_ours(
    make: Make, reason: Reason, fetches: int, judge: Judge, forge: Any
) -> None:
    judge.clock.rest(10)
    assert judge.refuses(make(forge)) == (reason, fetches)


def test_the_outcome_holds_the_claims_and_cannot_be_changed(judge: Judge, forge: Any) -> None:
    access = judge(forge.token(scope="items:read items:write"))
    assert access == AccessToken(
        subject="u1",
        client_id="first-party",
        username="alice",
        scopes=frozenset({"items:read", "items:write"}),
        issuer="https://issuer.test",
        audience=(AUDIENCE, "https://issuer.test"),
        issued_at=1_800_000_000,
        expires_at=1_800_000_600,
        jti="j1",
    )
    with pytest.raises(AttributeError):
        access.subject = "root"  # type: ignore[misc]


def test_a_token_dies_at_its_expiry_and_the_leeway(judge: Judge, forge: Any) -> None:
    token = forge.token()
    judge.clock.advance(609.9)
    judge(token)
    judge.clock.advance(0.1)
    assert judge.refuses(token)[0] is Reason.EXPIRED


def test_a_remembered_header_spares_no_signature(judge: Judge, forge: Any) -> None:
    judge(forge.token())
    judge(forge.token())
    assert judge.refuses(forge.signed(forge.header(), forge.claims(), forge.stranger))[0] is Reason.SIGNATURE


def test_a_surprise_of_a_library_is_a_counted_refusal(
    judge: Judge, forge: Any, events: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def surprise(*_: object) -> bool:
        raise AttributeError("surprise")

    monkeypatch.setattr("jwt.algorithms.RSAAlgorithm.verify", surprise)
    assert judge.refuses(forge.token())[0] is Reason.UNEXPECTED
    assert events[-1] == (Event.REJECTED, Reason.UNEXPECTED)


def test_a_broken_hook_refuses_nothing_and_is_logged(
    issuer: Any, forge: Any, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    async def story() -> AccessToken:
        async with JwksCache(issuer.url, transport=issuer.transport, on_event=broken) as cache:
            return await TokenVerifier(cache, AUDIENCE, wall=clock.wall).verify(forge.token())

    assert asyncio.run(story()).subject == "u1"
    assert "ZeroDivisionError" in caplog.text


def oracle(forge: Any, token: str) -> dict[str, Any]:
    """Ask PyJWT's own decoding; its clock cannot be moved, so the instants are judged by nobody here."""
    return jwt.decode(
        token,
        forge.key.private.public_key(),
        algorithms=["RS256"],
        audience=AUDIENCE,
        issuer=forge.issuer.url,
        options={"verify_exp": False, "verify_iat": False, "verify_nbf": False},
    )


def agree(access: AccessToken, claims: dict[str, Any]) -> bool:
    audience = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
    return (
        access.subject,
        access.client_id,
        access.username,
        access.scopes,
        access.issuer,
        access.audience,
        access.issued_at,
        access.expires_at,
        access.jti,
    ) == (
        claims["sub"],
        claims["client_id"],
        claims.get("username"),
        frozenset(claims.get("scope", "").split()),
        claims["iss"],
        tuple(audience),
        claims["iat"],
        claims["exp"],
        claims["jti"],
    )


MUTANTS = settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@MUTANTS
@given(data=st.data())
def test_no_mutant_of_a_token_is_accepted(data: st.DataObject, judge: Judge, forge: Any) -> None:
    token = forge.token()
    at = data.draw(st.integers(0, len(token)))
    cut = data.draw(st.integers(0, 3))
    inserted = data.draw(st.text(st.sampled_from(ALPHABET + ".=+/ \né\0"), max_size=3))
    mutant = token[:at] + inserted + token[at + cut :]
    if mutant == token:
        assert judge(mutant).subject == "u1"
    else:
        judge.refuses(mutant)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([AUDIENCE]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@MUTANTS
@given(data=st.data())
def test_whatever_is_accepted_pyjwt_accepts_too_with_equal_claims(
    data: st.DataObject, judge: Judge, forge: Any
) -> None:
    header, claims = forge.header(), forge.claims()
    changed = data.draw(st.sampled_from([header, claims, claims, claims]))
    name = data.draw(st.sampled_from([*changed, "nbf", "crit", "b64", "jwk", "x"]))
    changed[name] = data.draw(JSON_VALUES)
    payload = json.dumps(claims).encode()
    at = data.draw(st.integers(0, len(payload)))
    payload = (
        payload[:at] + data.draw(st.sampled_from([b"", b"", b"", b" ", b"\xff", b",", b"}"])) + payload[at:]
    )
    token = forge.signed(header, payload)
    try:
        access = judge(token)
    except InvalidToken as refusal:
        assert refusal.reason is not Reason.UNEXPECTED  # noqa: PT017 - either outcome is right
    else:
        assert agree(access, oracle(forge, token))


def test_padding_and_other_alphabets_never_reach_the_json_reader(judge: Judge, forge: Any) -> None:
    head, payload, signature = forge.token().split(".")
    padded = base64.urlsafe_b64encode(base64.urlsafe_b64decode(payload + "==")).decode() + "="
    assert judge.refuses(f"{head}.{padded}.{signature}") == (Reason.MALFORMED, 0)
