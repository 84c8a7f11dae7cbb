"""Tokens with a wrong header or signature, and tokens of unknown keys."""

import json
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from jwks_verifier import Reason
from support.attacks.forging import Make, Row, hs256, own_key, public, signed_as, swap, with_signature

_HEADER: list[tuple[str, str, Make]] = [
    (
        "alg none",
        "RFC 8725 section 3.2, CVE-2025-61152 (python-jose)",
        lambda f: f.unsigned(f.header(alg="none"), f.claims()) + ".YQ",
    ),
    ("alg none, signed", "RFC 9068 section 4", lambda f: f.token({"alg": "none"})),
    ("alg NONE", "RFC 8725 section 3.2", lambda f: f.token({"alg": "NONE"})),
    ("alg nOnE with a space", "RFC 8725 section 3.2", lambda f: f.token({"alg": "nOnE "})),
    ("alg empty", "RFC 8725 section 3.1", lambda f: f.token({"alg": ""})),
    ("alg absent", "RFC 7515 section 4.1.1", lambda f: f.token({"alg": None})),
    ("alg a list", "RFC 8725 section 3.1", lambda f: f.token({"alg": ["RS256"]})),
    ("alg an object", "RFC 8725 section 3.1", lambda f: f.token({"alg": {}})),
    ("alg a number", "RFC 8725 section 3.1", lambda f: f.token({"alg": 256})),
    ("alg in small letters", "RFC 7515 section 4.1.1", lambda f: f.token({"alg": "rs256"})),
    ("alg with a NUL", "RFC 7515 section 4.1.1", lambda f: f.token({"alg": "RS256\0"})),
    ("alg RS512", "RFC 8725 section 3.1", lambda f: f.token({"alg": "RS512"})),
    ("alg RS1", "RFC 8725 section 3.2", lambda f: f.token({"alg": "RS1"})),
    (
        "alg PS256, which is not configured",
        "CVE-2026-48523 (PyJWT)",
        lambda f: f.token({"alg": "PS256"}),
    ),
    (
        "HS256 with the public key as PEM",
        "CVE-2015-9235 (jsonwebtoken), CVE-2024-37568 (Authlib)",
        lambda f: hs256(f, public(f)),
    ),
    (
        "HS256 with the public key as PEM of PKCS #1",
        "CVE-2017-11424 (PyJWT)",
        lambda f: hs256(f, public(f, form=PublicFormat.PKCS1)),
    ),
    (
        "HS256 with the public key as PEM and spaces",
        "CVE-2026-102268 (PyJWT), CVE-2026-114615 (Authlib), CVE-2023-48223 (fast-jwt)",
        lambda f: hs256(f, b" \r\n" + public(f).replace(b"\n", b"\r\n")),
    ),
    (
        "HS256 with the public key as OpenSSH has it",
        "CVE-2022-29217 (PyJWT), CVE-2024-33663 (python-jose)",
        lambda f: hs256(f, public(f, Encoding.OpenSSH, PublicFormat.OpenSSH)),
    ),
    (
        "HS256 with the public key as DER",
        "CVE-2026-85394 (python-jose)",
        lambda f: hs256(f, public(f, Encoding.DER)),
    ),
    (
        "HS256 with the public key as JWK",
        "CVE-2026-48526 (PyJWT)",
        lambda f: hs256(f, json.dumps(f.key.jwk).encode()),
    ),
    (
        "HS256 with the whole key set",
        "CVE-2026-102273 (PyJWT)",
        lambda f: hs256(f, json.dumps({"keys": [f.key.jwk]}).encode()),
    ),
    (
        "HS256 with nothing",
        "CVE-2026-102266 (PyJWT), CVE-2026-49852 (joserfc), CVE-2026-114616 (Authlib)",
        lambda f: hs256(f, b""),
    ),
    ("HS256 with a weak secret", "RFC 8725 section 3.5", lambda f: hs256(f, b"secret")),
    ("typ absent", "RFC 9068 section 4", lambda f: f.token({"typ": None})),
    ("typ JWT, an ID token perhaps", "RFC 8725 section 3.11", lambda f: f.token({"typ": "JWT"})),
    ("typ a number", "RFC 9068 section 4", lambda f: f.token({"typ": 1})),
    ("typ a list", "RFC 9068 section 4", lambda f: f.token({"typ": ["at+jwt"]})),
    ("typ logout+jwt", "RFC 8725 section 3.12", lambda f: f.token({"typ": "logout+jwt"})),
    (
        "typ token-introspection+jwt",
        "RFC 9701 section 8",
        lambda f: f.token({"typ": "token-introspection+jwt"}),
    ),
    ("typ dpop+jwt", "RFC 8725 section 3.12", lambda f: f.token({"typ": "dpop+jwt"})),
    ("typ with a parameter", "RFC 9068 section 4", lambda f: f.token({"typ": "at+jwt; charset=x"})),
    ("typ of another tree", "RFC 9068 section 4", lambda f: f.token({"typ": "text/at+jwt"})),
    ("kid absent", "RFC 7515 section 4.1.4", lambda f: f.token({"kid": None})),
    ("kid a number", "RFC 7515 section 4.1.4", lambda f: f.token({"kid": 1})),
    ("kid a list", "RFC 7515 section 4.1.4", lambda f: f.token({"kid": [f.key.kid]})),
    ("kid an object", "RFC 7515 section 4.1.4", lambda f: f.token({"kid": {}})),
    ("kid empty", "RFC 8725 section 3.10", lambda f: f.token({"kid": ""})),
    ("kid long", "RFC 8725 section 3.10", lambda f: f.token({"kid": "k" * 600})),
    ("kid a path", "RFC 8725 section 3.10", lambda f: f.token({"kid": "../../dev/null\0"})),
    ("kid with SQL", "RFC 8725 section 3.10", lambda f: f.token({"kid": "x' UNION SELECT 'key"})),
    ("kid a command", "RFC 8725 section 3.10", lambda f: f.token({"kid": "k|/usr/bin/id"})),
    ("kid with a newline, to forge a log", "RFC 8725 section 3.10", lambda f: f.token({"kid": "x\nadmin"})),
    (
        "its own key in jwk",
        "CVE-2018-0114 (node-jose), CVE-2026-27962 (Authlib)",
        lambda f: own_key(f, jwk=f.stranger.jwk),
    ),
    (
        "its own key in jwk, and no kid",
        "CVE-2026-27962 (Authlib)",
        lambda f: own_key(f, jwk=f.stranger.jwk, kid=None),
    ),
    (
        "its own key at jku",
        "RFC 8725 section 3.10",
        lambda f: own_key(f, jku="https://evil.test/jwks.json"),
    ),
    ("its own key in a file", "CVE-2026-48522 (PyJWT)", lambda f: own_key(f, jku="file:///tmp/jwks.json")),
    (
        "its own certificate at x5u",
        "RFC 8725 section 3.10",
        lambda f: own_key(f, x5u="https://169.254.169.254/latest"),
    ),
    ("its own certificate in x5c", "RFC 7515 section 4.1.6", lambda f: own_key(f, x5c=["MIIB"])),
    (
        "crit that nobody understands",
        "CVE-2026-32597 (PyJWT), CVE-2025-59420 (Authlib)",
        lambda f: f.token({"crit": ["x-mfa"], "x-mfa": "required"}),
    ),
    ("crit that is empty", "RFC 7515 section 4.1.11", lambda f: f.token({"crit": []})),
    ("crit of a known name", "RFC 7515 section 4.1.11", lambda f: f.token({"crit": ["alg"]})),
    ("crit not a list", "CVE-2026-32597 (PyJWT)", lambda f: f.token({"crit": "exp"})),
    ("b64 false, declared", "RFC 7797 section 6", lambda f: f.token({"b64": False, "crit": ["b64"]})),
    ("b64 false, not declared", "CVE-2026-48525 (PyJWT)", lambda f: f.token({"b64": False})),
    *(
        (f"{member} in the header", "RFC 7515 section 4.1", lambda f, m=member: f.token({m: f.key.jwk}))
        for member in ("crit", "b64", "jwk", "jku", "x5u", "x5c")
    ),
    ("zip in the header", "RFC 8725 section 3.6", lambda f: f.token({"zip": "DEF"})),
    ("enc in the header", "RFC 8725 section 3.3", lambda f: f.token({"enc": "A128GCM"})),
    ("cty JWT, nested", "RFC 8725 section 3.3", lambda f: f.token({"cty": "JWT"})),
]

_SIGNATURE: list[tuple[str, str, Make]] = [
    (
        "signed by a stranger",
        "RFC 7515 section 5.2",
        lambda f: f.signed(f.header(), f.claims(), f.stranger),
    ),
    ("another payload", "RFC 7515 section 5.2", lambda f: swap(f.token(), f.token(sub="root"), 1)),
    ("another header", "RFC 7515 section 5.2", lambda f: swap(f.token(), f.token({"x": 1}), 0)),
    (
        "signature of zeros",
        "RFC 8017 section 8.2.2",
        lambda f: with_signature(f.token(), lambda s: "A" * len(s)),
    ),
    (
        "signature of the modulus itself",
        "RFC 8017 section 5.2.2",
        lambda f: with_signature(f.token(), lambda _: f.key.jwk["n"]),
    ),
    (
        "signature short by three bytes",
        "RFC 8017 section 8.2.2",
        lambda f: with_signature(f.token(), lambda s: s[:-4] + "AA"),
    ),
    ("signature longer", "RFC 8017 section 8.2.2", lambda f: with_signature(f.token(), lambda s: "AAAA" + s)),
    (
        "signature of one byte",
        "CVE-2016-7036 (python-jose)",
        lambda f: with_signature(f.token(), lambda _: "AA"),
    ),
    (
        "signature of the JWK's own text",
        "CVE-2026-44699 (LibJWT)",
        lambda f: with_signature(f.token(), lambda _: f.segment(f.key.jwk)),
    ),
    ("signature padded in PSS", "RFC 8725 section 3.1", lambda f: signed_as(f, "PS256")),
    ("signature over SHA-512", "RFC 8725 section 3.1", lambda f: signed_as(f, "RS512")),
]

HEADER = [Row(name, source, make, Reason.HEADER) for name, source, make in _HEADER]
SIGNATURE = [Row(name, source, make, Reason.SIGNATURE) for name, source, make in _SIGNATURE]


def of_nobody(f: Any, **claims: Any) -> str:
    return str(f.token({"kid": "nobody"}, **claims))


UNKNOWN_KID = [
    Row(
        "of a kid that nobody publishes",
        "GHSA-fhv5-28vv-h8m8 (PyJWT)",
        of_nobody,
        Reason.UNKNOWN_KEY,
        may_fetch=True,
    ),
    Row(
        "of a stranger's key",
        "RFC 8725 section 3.8",
        lambda f: f.signed(f.header(kid=f.stranger.kid), f.claims(), f.stranger),
        Reason.UNKNOWN_KEY,
        may_fetch=True,
    ),
    Row(
        "of a kid in other letters",
        "RFC 7515 section 4.1.4",
        lambda f: f.token({"kid": f.key.kid.swapcase()}),
        Reason.UNKNOWN_KEY,
        may_fetch=True,
    ),
    Row(
        "of a kid that is a URL",
        "RFC 8725 section 3.10",
        lambda f: f.token({"kid": "https://evil.test/jwks.json"}),
        Reason.UNKNOWN_KEY,
    ),
    Row(
        "of another issuer",
        "GHSA-fhv5-28vv-h8m8 (PyJWT)",
        lambda f: of_nobody(f, iss="https://evil.test"),
        Reason.ISSUER,
    ),
    Row(
        "for another audience",
        "GHSA-fhv5-28vv-h8m8 (PyJWT)",
        lambda f: of_nobody(f, aud="https://x.test"),
        Reason.AUDIENCE,
    ),
    Row("expired", "GHSA-fhv5-28vv-h8m8 (PyJWT)", lambda f: of_nobody(f, exp=1), Reason.EXPIRED),
    Row(
        "with a payload of junk",
        "GHSA-fhv5-28vv-h8m8 (PyJWT)",
        lambda f: f.signed(f.header(kid="nobody"), b"junk"),
        Reason.MALFORMED,
    ),
]
