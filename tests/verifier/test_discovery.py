"""Discovery of the key set: by metadata of the right issuer, and only at acceptable URLs."""

from typing import Any

import httpx2
import pytest

from jwks_verifier import Event, JwksCache, State
from jwks_verifier.testing import KeyPair

pytestmark = pytest.mark.anyio
Events = list[tuple[Event, str]]


def metadata(documents: dict[str, Any]) -> tuple[httpx2.MockTransport, list[str]]:
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(str(request.url))
        document = documents.get(str(request.url))
        return httpx2.Response(404) if document is None else httpx2.Response(200, json=document)

    return httpx2.MockTransport(answer), asked


OAUTH = "https://i.test/.well-known/oauth-authorization-server"
OPENID = "https://i.test/.well-known/openid-configuration"
GOOD = {"issuer": "https://i.test", "jwks_uri": "https://keys.test/jwks"}


@pytest.mark.parametrize(
    ("issuer_url", "documents"),
    [
        ("https://i.test", {OAUTH: GOOD}),
        ("https://i.test", {OPENID: GOOD}),
        ("https://i.test", {OAUTH: {**GOOD, "issuer": "https://evil.test"}, OPENID: GOOD}),
        ("https://i.test/a", {OAUTH + "/a": {**GOOD, "issuer": "https://i.test/a"}}),
        (
            "https://i.test/a",
            {"https://i.test/a/.well-known/openid-configuration": {**GOOD, "issuer": "https://i.test/a"}},
        ),
    ],
)
async def test_the_keys_are_found_by_discovery(
    issuer_url: str, documents: dict[str, Any], pairs: list[KeyPair]
) -> None:
    transport, _ = metadata({**documents, GOOD["jwks_uri"]: {"keys": [pairs[0].jwk]}})
    async with JwksCache(issuer_url, transport=transport) as cache:
        assert set((await cache.refetched()).by_kid) == {pairs[0].kid}


@pytest.mark.parametrize(
    "document",
    [
        {**GOOD, "issuer": "https://i.test/"},
        {**GOOD, "issuer": "https://evil.test"},
        {"jwks_uri": GOOD["jwks_uri"]},
        {"issuer": GOOD["issuer"]},
        {**GOOD, "jwks_uri": 5},
        {**GOOD, "jwks_uri": "http://keys.test/jwks"},
        {**GOOD, "jwks_uri": "http://127.0.0.1/jwks"},
        {**GOOD, "jwks_uri": "file:///etc/passwd"},
        {**GOOD, "jwks_uri": "https://user:password@keys.test/jwks"},
        {**GOOD, "jwks_uri": "https://"},
        {**GOOD, "jwks_uri": "https://[::"},
        {**GOOD, "jwks_uri": "/jwks"},
        [GOOD],
    ],
)
async def test_an_invalid_discovery_document_is_not_followed(document: Any, events: Events) -> None:
    transport, asked = metadata({OAUTH: document})
    listen = lambda event, detail: events.append((event, detail))  # noqa: E731 - two lines of it
    async with JwksCache("https://i.test", transport=transport, on_event=listen) as cache:
        await cache.refresh()
        assert cache.state is State.EMPTY
    assert asked == [OAUTH, OPENID]
    assert events[0][0] is Event.FETCH_FAILED


@pytest.mark.parametrize(
    "url", ["http://issuer.test", "http://10.0.0.1", "ftp://i.test", "issuer", "", "https://u@i"]
)
async def test_an_unacceptable_url_is_rejected_by_the_constructor(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        JwksCache(url)
    with pytest.raises(ValueError, match="URL"):
        JwksCache("https://issuer.test", jwks_url=url)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000", "http://localhost", "http://[::1]:1", "https://issuer.test"]
)
async def test_plain_http_is_allowed_for_loopback_or_by_an_explicit_option(url: str) -> None:
    JwksCache(url)
    JwksCache("http://issuer.test", allow_http=True)
