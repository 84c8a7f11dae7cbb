"""Fetches small documents of other servers, such as key sets: bounded in size and time, without redirects.

What is in them is read by `key_sets` and `tokens.published_keys`.
"""

import asyncio
import ssl
from http import HTTPStatus
from typing import TYPE_CHECKING

from issuer.clients.host_lookup import Lookups
from issuer.urls import BadURL, http_parts, is_loopback

if TYPE_CHECKING:
    import httpx2

DOCUMENT_MOST_BYTES = 64 * 1024
FETCH_SECONDS = 3.0
"""In total: the lookup of the host, the connection and the whole response."""


class FetchError(Exception):
    """A document could not be fetched; the message says why."""


def is_fetchable(url: str) -> bool:
    """Whether documents may be fetched from `url`: by https, or by http from this machine."""
    try:
        parts = http_parts(url)
    except BadURL:
        return False
    return not set("#@") & set(url) and (parts.scheme == "https" or is_loopback(url))


class DocumentFetcher:
    """Fetches with the proxy and the authorities of the settings; those of the environment are for other programs."""

    def __init__(self, authorities: ssl.SSLContext | None = None, proxy: str | None = None) -> None:
        self._authorities = authorities
        self._proxy = proxy
        self._lookups = Lookups()

    def fetch(self, url: str) -> bytes:
        """Return a small document; raise FetchError."""
        import httpx2  # noqa: PLC0415 - slow to import, and most issuers have no client with a jwks_uri

        http = httpx2.AsyncClient(
            trust_env=False,
            timeout=FETCH_SECONDS,
            verify=self._authorities or True,
            proxy=None if is_loopback(url) else self._proxy,
        )
        try:
            with asyncio.Runner(loop_factory=self._loop) as loop:
                return loop.run(_get_in_time(http, url))
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise FetchError(str(error) or type(error).__name__) from error  # a reset connection has no text
        except TimeoutError as error:
            raise FetchError("it takes too long") from error

    def _loop(self) -> asyncio.AbstractEventLoop:
        """Return an event loop that can abandon lookups of host names; that of the server may not."""
        loop = asyncio.SelectorEventLoop()
        loop.set_default_executor(self._lookups)
        return loop


async def _get_in_time(http: "httpx2.AsyncClient", url: str) -> bytes:
    # Asynchronous for the deadline: the timeout of httpx is for each read, and a byte a second never exceeds it.
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    body = bytearray()
    async with asyncio.timeout(FETCH_SECONDS), http, http.stream("GET", url, headers=headers) as answer:
        if answer.status_code != HTTPStatus.OK:
            raise FetchError(f"the answer is {answer.status_code}")
        async for chunk in answer.aiter_raw():
            body += chunk
            if len(body) > DOCUMENT_MOST_BYTES:
                raise FetchError("the answer is too large")
    return bytes(body)
