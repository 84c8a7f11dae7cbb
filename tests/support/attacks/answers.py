"""Responses that must not replace a valid key set, and metadata that must not be followed.

Each row names its section or advisory; `test_attacks` runs them. Responses that need a real socket are in
`hostile_server`, single keys in `keys`.
"""

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import httpx2

from jwks_verifier.http_client import MAX_BODY
from support.attacks.keys import Jwk, another


class AnswerRow(NamedTuple):
    """A response in place of the key set."""

    name: str
    source: str
    answer: Callable[[Jwk], httpx2.Response]


def document(text: str | bytes) -> httpx2.Response:
    return httpx2.Response(200, content=text)


def answer(status: int, jwk: Jwk) -> httpx2.Response:
    """Return a valid key set with an error status."""
    return httpx2.Response(status, headers={"Location": "https://evil.test/jwks.json"}, json={"keys": [jwk]})


def members(*keys: Any) -> httpx2.Response:
    return document(json.dumps({"keys": keys}))


OLD_SET_KEPT = [
    AnswerRow("only private keys", "RFC 7517 section 9.2", lambda k: members({**k, "d": "AQAB"})),
    AnswerRow("two keys of one kid", "RFC 7517 section 4.5", lambda k: members(k, another(k))),
    AnswerRow("no key", "RFC 7517 section 5", lambda _: members()),
    AnswerRow(
        "no key that can be used", "RFC 7517 section 5", lambda _: members(None, 1, {}, {"kty": "RSA"})
    ),
    AnswerRow(
        "more keys than the largest document holds",
        "RFC 8725 section 3.10",
        lambda k: members(*({**k, "kid": f"k{number}"} for number in range(200))),
    ),
    AnswerRow("keys a mapping", "RFC 7517 section 5", lambda k: document(json.dumps({"keys": {"kid": k}}))),
    AnswerRow("keys absent", "RFC 7517 section 5", lambda _: document("{}")),
    AnswerRow(
        "keys twice", "RFC 7517 section 4", lambda k: document(b'{"keys": [], ' + members(k).content[1:])
    ),
    AnswerRow(
        "a list of key sets", "RFC 7517 section 5", lambda k: document(b"[" + members(k).content + b"]")
    ),
    AnswerRow("nothing", "RFC 8259 section 2", lambda _: document(b"")),
    AnswerRow(
        "UTF-16", "RFC 8259 section 8.1", lambda k: document(members(k).content.decode().encode("utf-16"))
    ),
    AnswerRow(
        "larger than allowed",
        "RFC 8725 section 3.10",
        lambda k: document(members(k).content + b" " * MAX_BODY),
    ),
    AnswerRow(
        "a page to log in to the network", "RFC 8259 section 2", lambda _: document("<html>Log in</html>")
    ),
    AnswerRow("the key itself, bare", "RFC 7517 section 5", lambda k: document(json.dumps(k))),
    AnswerRow("keys null", "RFC 7517 section 5", lambda _: document('{"keys": null}')),
    AnswerRow("NaN for keys", "RFC 8259 section 6", lambda _: document('{"keys": NaN}')),
    AnswerRow(
        "a byte order mark", "RFC 8259 section 8.1", lambda k: document(b"\xef\xbb\xbf" + members(k).content)
    ),
    AnswerRow("two documents", "RFC 8259 section 2", lambda k: document(members(k).content * 2)),
    AnswerRow("cut short", "CVE-2026-48524 (PyJWT)", lambda k: document(members(k).content[:-3])),
    AnswerRow("a JWT", "RFC 8725 section 3.12", lambda _: document("e30.e30.e30")),
    AnswerRow("an error in JSON", "CVE-2026-48524 (PyJWT)", lambda _: document('{"error": "server_error"}')),
    *(
        AnswerRow(f"status {status}", "CVE-2026-48524 (PyJWT)", partial(answer, status))
        for status in (201, 203, 204, 206, 226, 304, 400, 401, 403, 404, 410, 429, 500, 502, 503, 504)
    ),
    *(
        AnswerRow(f"a redirect, {status}", "CVE-2026-102267 (PyJWT)", partial(answer, status))
        for status in (301, 302, 303, 307, 308)
    ),
    AnswerRow(
        "a nested list of 30 KB", "CVE-2025-53864 (Nimbus)", lambda _: document(b'{"keys": ' + b"[" * 30_000)
    ),
]


class MetadataRow(NamedTuple):
    """Metadata whose `jwks_uri` must not be fetched."""

    name: str
    source: str
    metadata: Mapping[str, Any]


METADATA = [
    MetadataRow("the metadata of another issuer", "RFC 8414 section 3.3", {"issuer": "https://evil.test"}),
    MetadataRow("the metadata of no issuer", "RFC 8414 section 3.3", {"issuer": None}),
    MetadataRow("the issuer with a slash", "RFC 8414 section 3.3", {"issuer": "https://issuer.test/"}),
    MetadataRow("a file", "CVE-2026-48522 (PyJWT)", {"jwks_uri": "file:///tmp/jwks.json"}),
    MetadataRow("a data URL", "CVE-2026-48522 (PyJWT)", {"jwks_uri": 'data:application/json,{"keys":[]}'}),
    MetadataRow("FTP", "CVE-2026-48522 (PyJWT)", {"jwks_uri": "ftp://issuer.test/jwks.json"}),
    MetadataRow("plain http", "RFC 8414 section 2", {"jwks_uri": "http://issuer.test/.well-known/jwks.json"}),
    MetadataRow("this machine", "RFC 8725 section 3.10", {"jwks_uri": "http://127.0.0.1:1/jwks.json"}),
    MetadataRow(
        "a URL with a password", "RFC 3986 section 3.2.1", {"jwks_uri": "https://a:b@issuer.test/jwks.json"}
    ),
    MetadataRow(
        "a list of URLs", "RFC 8414 section 2", {"jwks_uri": ["https://issuer.test/.well-known/jwks.json"]}
    ),
]
