"""Parsers of external input return a value or raise their own error, for any input."""

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from fastapi import Request
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt import PyJWTError

from issuer.accounts.confusables import require_plain
from issuer.accounts.user import canonical_username, hashable
from issuer.clients.assertion import Assertion
from issuer.clients.authentication import _basic
from issuer.clients.key_sets import BadKeySet, read_key_set
from issuer.clients.outgoing_http import is_reachable
from issuer.database.url import BadURL, parse
from issuer.oauth import InvalidClient, InvalidRequest, InvalidScope, format_scope, parse_scope
from issuer.settings.values import parse_duration
from issuer.throttling.limits import subnet
from issuer.urls import is_loopback
from issuer.web.http.etags import etag_of, is_known
from issuer.web.http.forms import FORM, VERBATIM, read_form
from issuer.web.http.path_redaction import PathRedaction
from jwks_verifier.encoding import read_base64url, read_object
from jwks_verifier.http_client import check_url
from jwks_verifier.jwk import import_key
from verifier_example.settings import _seconds

ANYTHING = st.text(max_size=80)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANYTHING,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANYTHING, inner, max_size=4),
    max_leaves=12,
)
MEMBERS = st.sampled_from(["kty", "n", "e", "kid", "alg", "use", "crv", "x", "y", "d", "key_ops"])
VALUES = JSON | st.sampled_from(["RSA", "EC", "OKP", "RS256", "AQAB", "P-256", "Ed25519", "sig"])
JWK = st.dictionaries(MEMBERS, VALUES)
EXAMPLES = settings(max_examples=150, deadline=None)


def only(errors: type[Exception] | tuple[type[Exception], ...], read: Callable[[], Any]) -> Any:
    """Return what is read, or None for one of the errors that it may raise."""
    try:
        return read()
    except errors:
        return None


@EXAMPLES
@given(st.binary(max_size=200) | ANYTHING.map(str.encode), ANYTHING | st.just(FORM))
def test_a_form_is_read_or_refused(body: bytes, content_type: str) -> None:
    read = only(InvalidRequest, lambda: read_form(content_type, body))
    if read is not None:
        parameters, resources = read
        assert all(parameters.values())
        assert all(resources)


@EXAMPLES
@given(st.dictionaries(ANYTHING.filter(bool), ANYTHING.filter(bool), max_size=8))
def test_encoded_values_are_read_back_except_for_blanks_around_them(fields: dict[str, str]) -> None:
    sent = {name: value for name, value in fields.items() if name != "resource"}
    parameters, _ = read_form(FORM, httpx2.QueryParams(sent).__str__().encode())
    stripped = {name: value if name in VERBATIM else value.strip(" \t\r\n") for name, value in sent.items()}
    assert parameters == {name: value for name, value in stripped.items() if value}


@EXAMPLES
@given(ANYTHING)
def test_a_scope_is_read_or_refused_and_reads_the_same_again(text: str) -> None:
    scope = only(InvalidScope, lambda: parse_scope(text))
    if scope is not None:
        assert parse_scope(format_scope(scope)) == scope


@EXAMPLES
@given(ANYTHING | st.binary(max_size=60).map(lambda raw: "Basic " + base64.b64encode(raw).decode()))
def test_an_authorization_header_is_read_or_refused(header: str) -> None:
    only(InvalidClient, lambda: _basic(header))


@EXAMPLES
@given(
    ANYTHING | st.from_regex(r"[A-Za-z0-9_-]{0,30}\.[A-Za-z0-9_-]{0,30}\.[A-Za-z0-9_-]{0,30}", fullmatch=True)
)
def test_an_assertion_is_read_or_refused(text: str) -> None:
    only(InvalidClient, lambda: Assertion.read(text))


@EXAMPLES
@given(JSON, JSON)
def test_an_assertion_of_any_json_is_read_or_refused(header: Any, claims: Any) -> None:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    only(InvalidClient, lambda: Assertion.read((b".".join([*parts, b"c2ln"])).decode()))


@EXAMPLES
@given(JSON | st.fixed_dictionaries({"keys": st.lists(JWK | JSON, max_size=4)}))
def test_a_key_set_of_a_client_is_read_or_refused(document: Any) -> None:
    only(BadKeySet, lambda: read_key_set(document))


@EXAMPLES
@given(JWK | JSON)
def test_a_key_is_imported_by_the_verifier_or_raises(jwk: Any) -> None:
    only(
        (ValueError, TypeError, LookupError, ArithmeticError, PyJWTError, AttributeError),
        lambda: import_key(jwk, ["RS256"]),
    )


@EXAMPLES
@given(
    ANYTHING
    | ANYTHING.map(lambda text: f"postgresql://{text}")
    | ANYTHING.map(lambda text: f"sqlite:///{text}")
)
def test_a_database_url_is_read_or_refused(url: str) -> None:
    only(BadURL, lambda: parse(url))


@EXAMPLES
@given(ANYTHING | st.from_regex(r"[0-9]{1,25}[smhd]?", fullmatch=True))
def test_a_duration_is_read_or_refused_by_issuer_and_example(text: str) -> None:
    read = only(ValueError, lambda: parse_duration(text))
    assert read is None or read >= timedelta(0)
    assert isinstance(_seconds(text), str | float)


@EXAMPLES
@given(ANYTHING | ANYTHING.map(lambda text: f"https://{text}"))
def test_a_url_is_judged(url: str) -> None:
    only(ValueError, lambda: check_url(url, allow_http=False))
    assert is_reachable(url) in {True, False}
    assert only(ValueError, lambda: is_loopback(url)) in {True, False, None}


@EXAMPLES
@given(ANYTHING)
def test_a_name_is_judged(name: str) -> None:
    only(InvalidRequest, lambda: require_plain(name))
    if hashable(name):
        assert canonical_username(canonical_username(name)) == canonical_username(name)


@EXAMPLES
@given(ANYTHING, ANYTHING)
def test_any_header_and_path_is_read_without_an_error(text: str, path: str) -> None:
    headers = [(b"if-none-match", text.encode())]
    assert not is_known(Request({"type": "http", "headers": headers}), etag_of(b"key set")) or "*" in text
    assert subnet(text) is not None
    shown = PathRedaction(["/users/me", "/users/me/sessions/{id}"]).redacted(path)
    assert set(shown) <= set("/*usersmeion")


@EXAMPLES
@given(st.binary(max_size=120), ANYTHING.filter(bool))
def test_json_and_base64url_are_read_strictly_or_raise(raw: bytes, segment: str) -> None:
    only((ValueError, RecursionError), lambda: read_object(raw))
    read = only(ValueError, lambda: read_base64url(segment))
    if read is not None and segment.isascii() and segment.replace("-", "").replace("_", "").isalnum():
        assert base64.urlsafe_b64encode(read).rstrip(b"=").decode() == segment


@pytest.mark.parametrize("depth", [10, 100_000])
def test_nesting_ends_in_an_error_and_never_in_a_crash(depth: int) -> None:
    only((ValueError, RecursionError), lambda: read_object(b"[" * depth))
    only((ValueError, RecursionError), lambda: read_object(b'{"a":' * depth))
