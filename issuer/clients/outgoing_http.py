"""HTTP requests to servers of clients: to which URLs, through which proxy, and how long an exchange may take.

Requests are made by `document_fetch` and `tokens.backchannel_logout`; host names are looked up by `host_lookup`.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from issuer.clients.host_lookup import Lookups
from issuer.urls import BadURL, http_parts, is_loopback

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")

EXCHANGE_SECONDS = 3.0
"""In total: the lookup of the host, the connection and the whole response."""


class ExchangeFailed(Exception):
    """A request to the server of a client failed; the message says why."""


def is_reachable(url: str) -> bool:
    """Whether requests may be sent to `url`: by https, or by http to this machine; no fragment, no user name."""
    try:
        parts = http_parts(url)
    except BadURL:
        return False
    return not set("#@") & set(url) and (parts.scheme == "https" or is_loopback(url))


class OutgoingHttp:
    """Sends requests with the proxy and the authorities of the settings; those of the environment are for others.

    Redirects are not followed: their target may be any address.
    """

    def __init__(self, authorities: ssl.SSLContext | None = None, proxy: str | None = None) -> None:
        self._authorities = authorities
        self._proxy = proxy
        self._lookups = Lookups()

    def run(self, exchanges: Coroutine[Any, Any, T]) -> T:
        """Run what uses `open`, and return its result."""
        with asyncio.Runner(loop_factory=self._loop) as loop:
            return loop.run(exchanges)

    @asynccontextmanager
    async def open(self, url: str) -> AsyncIterator["httpx2.AsyncClient"]:
        """Yield an HTTP client for one exchange with the host of `url`; raise ExchangeFailed."""
        import httpx2  # noqa: PLC0415 - slow to import, and most issuers have no client with a server of its own

        http = httpx2.AsyncClient(
            trust_env=False,
            timeout=EXCHANGE_SECONDS,
            verify=self._trusted,
            proxy=None if is_loopback(url) else self._proxy,
        )
        try:
            # The timeout of httpx is for each read, and a byte a second never exceeds it.
            async with asyncio.timeout(EXCHANGE_SECONDS), http:
                yield http
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise ExchangeFailed(
                str(error) or type(error).__name__
            ) from error  # a reset connection has no text
        except TimeoutError as error:
            raise ExchangeFailed("it takes too long") from error

    @cached_property
    def _trusted(self) -> ssl.SSLContext:
        """The authorities; made once, as loading them takes longer than many exchanges."""
        import httpx2  # noqa: PLC0415 - as above

        return self._authorities or httpx2.create_ssl_context(trust_env=False)

    def _loop(self) -> asyncio.AbstractEventLoop:
        """Return an event loop that can abandon lookups of host names; that of the server may not."""
        loop = asyncio.SelectorEventLoop()
        loop.set_default_executor(self._lookups)
        return loop
