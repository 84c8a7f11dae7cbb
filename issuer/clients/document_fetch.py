"""Fetches small documents of clients, such as key sets: bounded in size and time, without redirects.

Connections are the work of `outgoing_http`. What is in the documents is read by `key_sets`.
"""

import ssl
from http import HTTPStatus

from issuer.clients.outgoing_http import ExchangeFailed, OutgoingHttp

DOCUMENT_MOST_BYTES = 64 * 1024


class DocumentFetcher:
    """Fetches with the proxy and the authorities of the settings."""

    def __init__(self, authorities: ssl.SSLContext | None = None, proxy: str | None = None) -> None:
        self._http = OutgoingHttp(authorities, proxy)

    def fetch(self, url: str) -> bytes:
        """Return a small document; raise ExchangeFailed."""
        return self._http.run(self._get(url))

    async def _get(self, url: str) -> bytes:
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        body = bytearray()
        async with self._http.open(url) as http, http.stream("GET", url, headers=headers) as answer:
            if answer.status_code != HTTPStatus.OK:
                raise ExchangeFailed(f"the answer is {answer.status_code}")
            async for chunk in answer.aiter_raw():
                body += chunk
                if len(body) > DOCUMENT_MOST_BYTES:
                    raise ExchangeFailed("the answer is too large")
        return bytes(body)
