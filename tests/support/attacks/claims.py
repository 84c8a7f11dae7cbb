"""Valid tokens of every form, and tokens with claims of another issuer, audience, time or type."""

import json
from typing import Any

from jwks_verifier import Reason
from support.attacks.forging import AUDIENCE, NOW, Make, Row

INSTANTS: tuple[Any, ...] = ("1800000600", True, [1800000600], {}, -1, -0.5, 10**18, 10**400, 1e18)
TEXTS: tuple[Any, ...] = (1, "", ["u1"], "\ud800", "a\nb", "a\0b", True, {})

ACCEPTED = [
    Row("a plain token", "RFC 9068 section 2", lambda f: f.token()),
    Row("aud a string", "RFC 7519 section 4.1.3", lambda f: f.token(aud=AUDIENCE)),
    Row("aud one of many", "RFC 7519 section 4.1.3", lambda f: f.token(aud=["https://a.test", AUDIENCE])),
    Row("a machine without username", "RFC 9068 section 2.2", lambda f: f.token(username=None)),
    Row("scope empty", "RFC 9068 section 2.2.3", lambda f: f.token(scope="")),
    Row("scope absent", "RFC 9068 section 2.2.3", lambda f: f.token(scope=None)),
    Row("typ in capitals", "RFC 2045 section 5.1", lambda f: f.token({"typ": "AT+JWT"})),
    Row("typ with application/", "RFC 9068 section 4", lambda f: f.token({"typ": "application/at+jwt"})),
    Row("a harmless header member more", "RFC 7515 section 4", lambda f: f.token({"x5t": "abc"})),
    Row("a claim more", "RFC 7519 section 4", lambda f: f.token(tenant={"id": [1, None]})),
    Row("roles and groups", "RFC 9068 section 2.2.3.1", lambda f: f.token(roles=["a"], groups=["b"])),
    Row("acr and auth_time", "RFC 9068 section 2.2.1", lambda f: f.token(acr="1", auth_time=NOW)),
    Row("nbf past", "RFC 7519 section 4.1.5", lambda f: f.token(nbf=NOW - 1)),
    Row("username beyond ASCII", "RFC 8725 section 3.7", lambda f: f.token(username="Zoë 北")),
    Row(
        "JSON with spaces",
        "RFC 8259 section 2",
        lambda f: f.signed(json.dumps(f.header(), indent=2).encode(), f.claims()),
    ),
    Row(
        "JSON with escapes",
        "RFC 8259 section 7",
        lambda f: f.signed(b'{"\\u0061lg":' + json.dumps(f.header())[7:].encode(), f.claims()),
    ),
    Row("issued within the leeway", "RFC 7519 section 4.1.6", lambda f: f.token(iat=NOW + 9)),
    Row(
        "instants with fractions",
        "RFC 7519 section 2 (NumericDate)",
        lambda f: f.token(iat=NOW - 0.25, nbf=NOW - 0.5, exp=NOW + 600.75),
    ),
    Row(
        "instants with an exponent",
        "RFC 7519 section 2 (NumericDate)",
        lambda f: f.token(iat=float(NOW), exp=1.9e9),
    ),
    Row("expired within the leeway", "RFC 7519 section 4.1.4", lambda f: f.token(exp=NOW - 9)),
]

_CLAIMS: list[tuple[str, str, Make]] = [
    *(
        (f"{name} absent", "RFC 9068 section 2.2", lambda f, n=name: f.token(**{n: None}))
        for name in ("iss", "sub", "aud", "client_id", "iat", "exp", "jti")
    ),
    *(
        (
            f"{name} null",
            "RFC 9068 section 2.2",
            lambda f, n=name: f.signed(f.header(), f.claims() | {n: None}),
        )
        for name in ("iss", "sub", "aud", "client_id", "iat", "exp", "nbf", "jti", "username", "scope")
    ),
    *(
        (
            f"{name} {value!r}",
            "RFC 7519 section 2 (NumericDate)",
            lambda f, n=name, v=value: f.token(**{n: v}),
        )
        for name in ("iat", "exp", "nbf")
        for value in INSTANTS
    ),
    *(
        (
            f"{name} {value!r}",
            "RFC 7519 section 2 (StringOrURI)",
            lambda f, n=name, v=value: f.token(**{n: v}),
        )
        for name in ("iss", "sub", "client_id", "jti", "username")
        for value in TEXTS
    ),
    (
        "iss a list that holds the issuer",
        "CVE-2026-75509 (joserfc), CVE-2025-30144 (fast-jwt)",
        lambda f: f.token(iss=[f.issuer.url]),
    ),
    (
        "iss two issuers",
        "CVE-2025-30144 (fast-jwt)",
        lambda f: f.token(iss=["https://evil.test", f.issuer.url]),
    ),
    ("aud a number", "RFC 8725 section 3.9", lambda f: f.token(aud=1)),
    ("aud empty", "RFC 8725 section 3.9", lambda f: f.token(aud="")),
    ("aud with a number in it", "RFC 8725 section 3.9", lambda f: f.token(aud=[AUDIENCE, 1])),
    ("aud nested", "CVE-2020-26160 (jwt-go)", lambda f: f.token(aud=[[AUDIENCE]])),
    ("aud an object", "RFC 8725 section 3.9", lambda f: f.token(aud={AUDIENCE: 1})),
    ("scope a list", "RFC 9068 section 2.2.3", lambda f: f.token(scope=["items:read"])),
    ("scope with two spaces", "RFC 6749 section 3.3", lambda f: f.token(scope="a  b")),
    ("scope with a quote", "RFC 6749 section 3.3", lambda f: f.token(scope='a"b')),
    ("scope with a newline", "RFC 6749 section 3.3", lambda f: f.token(scope="a\nb")),
]

_WRONG: list[tuple[str, str, Reason, Make]] = [
    ("another issuer", "CVE-2018-15801 (Spring)", Reason.ISSUER, lambda f: f.token(iss="https://evil.test")),
    (
        "the issuer with a slash",
        "RFC 9068 section 4",
        Reason.ISSUER,
        lambda f: f.token(iss="https://issuer.test/"),
    ),
    (
        "the issuer in capitals",
        "RFC 8725 section 3.8",
        Reason.ISSUER,
        lambda f: f.token(iss="https://ISSUER.test"),
    ),
    (
        "a part of the issuer",
        "CVE-2024-53861 (PyJWT)",
        Reason.ISSUER,
        lambda f: f.token(iss="https://issuer"),
    ),
    (
        "the issuer and more",
        "CVE-2024-53861 (PyJWT)",
        Reason.ISSUER,
        lambda f: f.token(iss=f.issuer.url + ".evil.test"),
    ),
    (
        "another audience",
        "RFC 8725 section 3.9",
        Reason.AUDIENCE,
        lambda f: f.token(aud="https://other.test"),
    ),
    ("no audience at all", "CVE-2020-26160 (jwt-go)", Reason.AUDIENCE, lambda f: f.token(aud=[])),
    (
        "an audience that begins alike",
        "RFC 8725 section 3.9",
        Reason.AUDIENCE,
        lambda f: f.token(aud=AUDIENCE + ".evil.test"),
    ),
    (
        "a part of the audience",
        "RFC 8725 section 3.9",
        Reason.AUDIENCE,
        lambda f: f.token(aud="https://api"),
    ),
    (
        "the audience in capitals",
        "RFC 8725 section 3.9",
        Reason.AUDIENCE,
        lambda f: f.token(aud=AUDIENCE.upper()),
    ),
    (
        "the client as audience, an ID token",
        "RFC 8725 section 3.12",
        Reason.AUDIENCE,
        lambda f: f.token(aud="first-party"),
    ),
    ("expired", "RFC 9068 section 4", Reason.EXPIRED, lambda f: f.token(exp=NOW - 10)),
    ("expired long ago", "RFC 9068 section 4", Reason.EXPIRED, lambda f: f.token(exp=0)),
    ("not yet valid", "RFC 7519 section 4.1.5", Reason.NOT_YET_VALID, lambda f: f.token(nbf=NOW + 11)),
    ("issued in the future", "RFC 7519 section 4.1.6", Reason.NOT_YET_VALID, lambda f: f.token(iat=NOW + 11)),
]

CLAIMS = [
    *(Row(name, source, make, Reason.CLAIMS) for name, source, make in _CLAIMS),
    *(Row(name, source, make, reason) for name, source, reason, make in _WRONG),
]
