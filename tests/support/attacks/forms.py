"""Malformed tokens: truncated, padded, encrypted, too long, without JSON, or with ambiguous JSON."""

import json
import zlib

from jwks_verifier import Reason
from jwks_verifier.verifier import MAX_TOKEN
from support.attacks.forging import Make, Row, jwe, padded, same_bits, serialized, swap, twice, with_signature

_ROWS: list[tuple[str, str, Make]] = [
    ("empty", "CVE-2019-17195 (Nimbus)", lambda _: ""),
    ("one segment", "CVE-2019-17195 (Nimbus)", lambda _: "abc"),
    ("two segments", "CVE-2019-17195 (Nimbus)", lambda f: f.token().rpartition(".")[0]),
    ("no signature", "CVE-2026-28802 (Authlib)", lambda f: f.token().rpartition(".")[0] + "."),
    ("no header", "CVE-2019-17195 (Nimbus)", lambda f: "." + f.token().partition(".")[2]),
    ("no payload, as if detached", "CVE-2026-48525 (PyJWT)", lambda f: swap(f.token(), "..", 1)),
    ("four segments", "RFC 7515 section 7.1", lambda f: f.token() + ".YQ"),
    ("a token and a dot", "RFC 7515 section 7.1", lambda f: f.token() + "."),
    ("JWE", "RFC 8725 section 3.3", lambda _: jwe(alg="RSA-OAEP", enc="A128GCM", typ="at+jwt")),
    (
        "JWE in CBC, for a padding oracle",
        "CVE-2021-29443 (jose), CVE-2016-9123 (go-jose)",
        lambda _: jwe(alg="dir", enc="A128CBC-HS256"),
    ),
    (
        "JWE that decompresses to gigabytes",
        "CVE-2024-28176 (jose), CVE-2024-28180 (go-jose), CVE-2024-33664 (python-jose)",
        lambda _: jwe(alg="dir", enc="A128GCM", zip="DEF"),
    ),
    (
        "JWE with a billion rounds of PBES2",
        "CVE-2022-36083 (jose), CVE-2023-52428 (Nimbus)",
        lambda _: jwe(alg="PBES2-HS256+A128KW", enc="A128GCM", p2c=10**9, p2s="YQ"),
    ),
    (
        "JWE by a point off the curve",
        "CVE-2016-9121 (go-jose)",
        lambda _: jwe(alg="ECDH-ES", enc="A128GCM", epk={"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ"}),
    ),
    ("JWE with an empty key", "CVE-2026-34986 (go-jose)", lambda _: "e30..YWJj.YWJj.YWJj"),
    ("a space before", "RFC 7515 section 2", lambda f: " " + f.token()),
    ("a newline after", "RFC 7515 section 2", lambda f: f.token() + "\n"),
    ("a newline inside", "RFC 7515 section 2", lambda f: f.token().replace(".", ".\n", 1)),
    ("padded header", "CVE-2026-62995 (joserfc)", lambda f: padded(f.token({"x": ""}), 0)),
    ("padded payload", "CVE-2026-62995 (joserfc)", lambda f: padded(f.token(jti="12345"), 1)),
    ("padded signature", "CVE-2026-62995 (joserfc)", lambda f: padded(f.token(), 2)),
    ("!!!! after the signature", "CVE-2026-102269 (PyJWT)", lambda f: f.token() + "!!!!"),
    (
        "standard base64",
        "RFC 7515 section 2",
        lambda f: f.token().replace("-", "+").replace("_", "/") + "+",
    ),
    ("letters beyond ASCII", "CVE-2019-17195 (Nimbus)", lambda f: f.token() + "é"),
    ("a full-width digit", "CVE-2019-17195 (Nimbus)", lambda f: f.token() + "\uff11"),
    ("a lone surrogate", "CVE-2019-17195 (Nimbus)", lambda f: f.token() + "\udc80"),
    ("NUL", "CVE-2019-17195 (Nimbus)", lambda f: f.token() + "\0"),
    ("too long", "CVE-2025-61920 (Authlib)", lambda f: f.token(x="y" * MAX_TOKEN)),
    ("header too long", "CVE-2025-61920 (Authlib)", lambda f: f.token({"x": "y" * 1100})),
    ("signature too long", "CVE-2025-61920 (Authlib)", lambda f: f.token() + "A" * MAX_TOKEN),
    ("junk of 200 KB", "CVE-2025-61920 (Authlib)", lambda _: "a" * 200_000),
    ("dots of 200 KB", "CVE-2025-27144 (go-jose), CVE-2025-30204 (golang-jwt)", lambda _: "." * 200_000),
    ("JSON serialization", "RFC 7515 section 7.2", lambda f: serialized(f, signature="YQ")),
    (
        "JSON serialization of no signatures",
        "CVE-2026-102946 (joserfc), CVE-2026-96760 (Authlib)",
        lambda f: serialized(f, signatures=[]),
    ),
    (
        "JSON serialization of one good signature among others",
        "CVE-2016-9122 (go-jose)",
        lambda f: serialized(f, signatures=[{"signature": "YQ"}, {"signature": f.token().rsplit(".")[2]}]),
    ),
    (
        "signature of impossible length",
        "RFC 4648 section 3.5",
        lambda f: with_signature(f.token(), lambda s: s[:-1]),
    ),
    (
        "signature written another way",
        "CVE-2026-102269 (PyJWT)",
        lambda f: with_signature(f.token(), same_bits),
    ),
    ("header not JSON", "CVE-2019-17195 (Nimbus)", lambda f: f.signed(b"header", f.claims())),
    ("header an array", "CVE-2019-17195 (Nimbus)", lambda f: f.signed(b"[]", f.claims())),
    ("header null", "CVE-2019-17195 (Nimbus)", lambda f: f.signed(b"null", f.claims())),
    ("header not UTF-8", "RFC 8725 section 3.7", lambda f: f.signed(b'{"alg":"\xff"}', f.claims())),
    (
        "header in UTF-16",
        "RFC 8725 section 3.7",
        lambda f: f.signed(json.dumps(f.header()).encode("utf-16"), f.claims()),
    ),
    (
        "header with a byte order mark",
        "RFC 8259 section 8.1",
        lambda f: f.signed(b"\xef\xbb\xbf" + json.dumps(f.header()).encode(), {}),
    ),
    (
        "header with an overlong form of UTF-8",
        "RFC 3629 section 10",
        lambda f: f.signed(json.dumps(f.header(x="*")).encode().replace(b"*", b"\xc0\xae"), f.claims()),
    ),
    (
        "header nested deep",
        "CVE-2025-53864 (Nimbus), CVE-2026-116586 (go-jose)",
        lambda f: f.signed(b'{"a":' + b"[" * 900, f.claims()),
    ),
    (
        "header with alg twice",
        "RFC 7515 section 4",
        lambda f: f.signed(twice(f.header(), "alg", "none"), f.claims()),
    ),
    (
        "header with kid twice",
        "RFC 7515 section 4",
        lambda f: f.signed(twice(f.header(), "kid", "x"), f.claims()),
    ),
    (
        "header with typ twice",
        "RFC 7515 section 4",
        lambda f: f.signed(twice(f.header(typ="JWT"), "typ", "at+jwt"), f.claims()),
    ),
    (
        "header with data after it",
        "RFC 8259 section 2",
        lambda f: f.signed(json.dumps(f.header()).encode() + b"{}", f.claims()),
    ),
    ("payload not JSON", "CVE-2019-17195 (Nimbus)", lambda f: f.signed(f.header(), b"payload")),
    ("payload an array", "RFC 7519 section 7.2", lambda f: f.signed(f.header(), [f.claims()])),
    ("payload null", "RFC 7519 section 7.2", lambda f: f.signed(f.header(), None)),
    (
        "payload a token again",
        "RFC 8725 section 3.3, CVE-2026-29000 (pac4j)",
        lambda f: f.signed(f.header(), f.token().encode()),
    ),
    (
        "payload deflated",
        "RFC 8725 section 3.6",
        lambda f: f.signed(f.header(), zlib.compress(json.dumps(f.claims()).encode())),
    ),
    (
        "payload in UTF-16",
        "RFC 8725 section 3.7",
        lambda f: f.signed(f.header(), json.dumps(f.claims()).encode("utf-16")),
    ),
    (
        "payload in Latin-1",
        "RFC 8725 section 3.7",
        lambda f: f.signed(
            f.header(), json.dumps(f.claims(username="Zoë"), ensure_ascii=False).encode("latin-1")
        ),
    ),
    (
        "payload nested deep",
        "CVE-2025-53864 (Nimbus), CVE-2026-116586 (go-jose)",
        lambda f: f.signed(f.header(), b'{"a":' + b"[" * 4000),
    ),
    (
        "payload nested deep and closed",
        "CVE-2025-53864 (Nimbus), CVE-2026-116586 (go-jose)",
        lambda f: f.signed(f.header(), b'{"a":' + b"[" * 2500 + b"]" * 2500 + b"}"),
    ),
    (
        "payload with sub twice",
        "RFC 7519 section 4",
        lambda f: f.signed(f.header(), twice(f.claims(), "sub", "root")),
    ),
    (
        "payload with sub twice, once escaped",
        "RFC 7519 section 4",
        lambda f: f.signed(f.header(), twice(f.claims(), "s\\u0075b", "root")),
    ),
    (
        "payload with a member twice deep inside",
        "RFC 8259 section 4",
        lambda f: f.signed(f.header(), b'{"a":{"b":1,"b":2}}'),
    ),
    (
        "payload with NaN",
        "RFC 8259 section 6",
        lambda f: f.signed(f.header(), json.dumps(f.claims(x=float("nan"))).encode()),
    ),
    ("payload with Infinity", "RFC 8259 section 6", lambda f: f.token(exp=float("inf"))),
    (
        "payload with a number of 5000 digits",
        "CVE-2019-17195 (Nimbus)",
        lambda f: f.signed(f.header(), b'{"exp":' + b"9" * 5000 + b"}"),
    ),
]

FORM = [Row(name, source, make, Reason.MALFORMED) for name, source, make in _ROWS]
