"""Which redirect URIs may be registered, and which of a request count as registered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from issuer.clients.redirect_uris import (
    REDIRECT_URIS_MOST,
    is_registered,
    require_redirect_uri,
    require_redirect_uris,
)
from issuer.urls import BadURL

ACCEPTED = [
    "https://app.example/callback",
    "https://app.example",
    "https://app.example:8443/callback?dummy1=lorem&dummy2=ipsum",
    "https://[2001:db8::1]/callback",
    "http://127.0.0.1/callback",
    "http://127.0.0.1:8001/callback",
    "http://[::1]:8001/callback",
    "http://localhost:8001/callback",
    "com.example.app:/callback",
    "com.example.app://callback/path",
    "cursor://anysphere.cursor-mcp/oauth/callback",
]
REFUSED = [
    "",
    "/callback",
    "//app.example/callback",
    "https:",
    "https://",
    "https:/app.example/callback",
    "https://app.example/#fragment",
    "https://app.example/#",
    "https://*.example/callback",
    "https://app.example/*",
    "https://user@app.example/callback",
    "https://user:password@app.example/callback",
    "https://app.example\\@evil.example/callback",
    "https://app.example/call back",
    "https://app.example/\n",
    "https://app.example/\x00",
    "https://app.example/é",
    "https://é.example/",
    "https://app.example/%zz",
    "https://app.example:0/",
    "https://app.example:/",
    "https://app.example:99999/",
    "https://[::1/callback",
    "https://300.1.1.1/callback",
    "http://app.example/callback",
    "http://10.0.0.1/callback",
    "http://0.0.0.0/callback",
    "http://localhost.evil.example/callback",
    "http://127.0.0.1.evil.example/callback",
    "http://127.0.0.1@evil.example/callback",
    "http://[::ffff:127.0.0.1]/callback",
    "http://127.1/callback",
    "http://127.0.0.1:0/callback",
    "http://127.0.0.1:65536/callback",
    "localhost:8001/callback",
    "app.example:443",
    "javascript:alert(1)",
    "JavaScript:alert(1)",
    "javascript://app.example/%0aalert(1)",
    "data:text/html,x",
    "file:///etc/passwd",
    "vbscript:x",
    "blob:https://app.example/x",
    "about:blank",
    "view-source:https://app.example",
    "ws://app.example/",
    "urn:ietf:wg:oauth:2.0:oob",
    "httpx://app.example/",
    "myapp://user@host/",
    "https://app.example/" + "x" * 2048,
]


@pytest.mark.parametrize("uri", ACCEPTED)
def test_an_accepted_uri_is_registered_as_it_is(uri: str) -> None:
    assert require_redirect_uri(uri) == uri
    assert is_registered(uri, [uri])


@pytest.mark.parametrize("uri", REFUSED)
def test_an_unsafe_or_ambiguous_uri_is_refused(uri: str) -> None:
    with pytest.raises(BadURL):
        require_redirect_uri(uri)


@given(st.text() | st.from_regex(r"[a-zA-Z]+:(//)?[!-~]*", fullmatch=True))
def test_whatever_is_accepted_is_plain_ascii_and_no_script(text: str) -> None:
    try:
        accepted = require_redirect_uri(text)
    except BadURL:
        return
    assert accepted.isascii()
    assert accepted.isprintable()
    assert not {"#", "*", " ", "\\"} & set(accepted)
    assert not accepted.lower().startswith(("javascript:", "data:", "vbscript:", "file:"))


def test_duplicates_count_once_and_the_refused_one_is_named() -> None:
    assert require_redirect_uris(["https://a.example/", "https://a.example/"]) == ("https://a.example/",)
    with pytest.raises(BadURL, match=r"http://b\.example/"):
        require_redirect_uris(["https://a.example/", "http://b.example/"])


def test_a_client_has_a_limited_number_of_uris() -> None:
    uris = [f"https://app.example/{number}" for number in range(REDIRECT_URIS_MOST + 1)]
    assert require_redirect_uris(uris[:-1]) == tuple(uris[:-1])
    with pytest.raises(BadURL, match="at most 20"):
        require_redirect_uris(uris)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
def test_the_port_of_a_loopback_host_may_differ(host: str) -> None:
    for registered in (f"http://{host}/callback?a=b", f"http://{host}:3000/callback?a=b"):
        assert is_registered(f"http://{host}:51004/callback?a=b", [registered])
        assert is_registered(f"http://{host}/callback?a=b", [registered])


@pytest.mark.parametrize(
    ("requested", "registered"),
    [
        ("http://localhost:1/cb", "http://127.0.0.1:1/cb"),
        ("http://[::1]:1/cb", "http://localhost:1/cb"),
        ("http://127.0.0.1:1/cb/", "http://127.0.0.1/cb"),
        ("http://127.0.0.1:1/cb?x=1", "http://127.0.0.1/cb"),
        ("http://127.0.0.1:1", "http://127.0.0.1/"),
        ("http://127.0.0.1:0/cb", "http://127.0.0.1/cb"),
        ("http://127.0.0.1:/cb", "http://127.0.0.1/cb"),
        ("http://127.0.0.1:99999/cb", "http://127.0.0.1/cb"),
        ("http://127.0.0.1:1@evil.example/cb", "http://127.0.0.1/cb"),
        ("http://127.0.0.1.evil.example/cb", "http://127.0.0.1/cb"),
        ("HTTP://127.0.0.1/cb", "http://127.0.0.1/cb"),
        ("https://127.0.0.1:1/cb", "https://127.0.0.1/cb"),
        ("https://app.example:444/cb", "https://app.example/cb"),
        ("https://app.example:443/cb", "https://app.example/cb"),
        ("https://APP.example/cb", "https://app.example/cb"),
        ("https://app.example/cb/", "https://app.example/cb"),
        ("https://app.example/a/../cb", "https://app.example/cb"),
        ("https://app.example/%63b", "https://app.example/cb"),
        ("https://app.example/cb#x", "https://app.example/cb"),
        ("", "https://app.example/cb"),
    ],
)
def test_everything_else_is_compared_character_by_character(requested: str, registered: str) -> None:
    assert not is_registered(requested, [registered])
