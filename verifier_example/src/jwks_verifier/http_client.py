"""Fetches one document over HTTP, within limits of size and time: which URLs, authorities and proxies it may use.

What the document means is left to `discovery` and `fetching`.
"""

import asyncio
import re
import ssl
from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack
from typing import Any

import httpx2

from .timings import Timings

MAX_BODY = 64 * 1024  # bytes of a fetched document
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_OWN_HEADERS = frozenset(  # of the client, which depends on them
    {
        "accept-encoding",
        "connection",
        "content-length",
        "host",
        "if-none-match",
        "prefer",
        "te",
        "transfer-encoding",
        "upgrade",
    }
)
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110 section 5.6.2
_HEADER_VALUE = re.compile(r"[!-~](?:[ \t!-~]*[!-~])?")


def check_url(text: object, *, allow_http: bool) -> httpx2.URL:
    """Parse a URL that may be fetched: https, or http if allowed or on loopback; raise ValueError for any other."""
    try:
        url = httpx2.URL(text)  # type: ignore[arg-type]  # a discovered one may be anything
    except (httpx2.InvalidURL, TypeError) as error:
        raise ValueError(f"not a URL: {text!a:.200}") from error
    allowed = url.scheme == "https" or (url.scheme == "http" and (allow_http or url.host in _LOOPBACK))
    if not allowed or not url.host or url.userinfo or url.fragment:
        raise ValueError(f"neither an https URL nor http on this machine: {text!a:.200}")
    return url


class HttpClient:
    """An HTTP client for documents of the issuer; raises ValueError for an unusable file, proxy or header.

    It follows no redirects and reads no netrc, and proxies of the environment only with `trust_env`: requests go
    only where the configuration says. `headers` are sent to the hosts of `origins` only, as metadata may name a key
    set elsewhere. No connection is kept alive: fetches are minutes apart, and a broken connection would fail a fetch.
    So there is nothing to close.
    """

    def __init__(
        self,
        timings: Timings,
        *,
        ca_file: str | None = None,
        proxy: str | None = None,
        trust_env: bool = False,
        headers: Mapping[str, str] | None = None,
        origins: Collection[str] = (),
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._timings = timings
        trusted = _trusted_authorities(ca_file)
        self._headers = _read_headers(headers or {})
        self._origins = {_origin(httpx2.URL(url)) for url in origins}
        explicit = _read_proxy(proxy, trusted)
        try:
            self._client = httpx2.AsyncClient(
                transport=transport,
                verify=trusted,
                proxy=explicit,
                # The proxy's loopback is another machine, and plain http is allowed on the own loopback only.
                mounts={f"all://[{host}]" if ":" in host else f"all://{host}": None for host in _LOOPBACK},
                trust_env=trust_env,
                follow_redirects=False,
                # One that listens, and one for all other fetches.
                limits=httpx2.Limits(max_connections=2, max_keepalive_connections=0),
            )
        except (ValueError, ImportError, httpx2.InvalidURL):  # an exception could show a password
            text = "a proxy of the environment (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY) is not given as http://host:port"
            raise ValueError(text) from None

    async def get(
        self, url: str, etag: str | None = None, *, wait: int = 0
    ) -> tuple[bytearray | None, httpx2.Headers]:
        """Return the body, or None if it still matches `etag`; its size is checked while it arrives.

        The server may `wait` so many seconds for another body than that with the `etag` (RFC 7240 section 4.3).
        Raises httpx2.HTTPError, or ValueError for an unusable response.
        """
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        headers |= self._headers if _origin(httpx2.URL(url)) in self._origins else {}
        headers |= {"if-none-match": etag} if etag else {}
        headers |= {"prefer": f"wait={wait}"} if wait else {}
        limits = self._timings
        timeout = httpx2.Timeout(limits.fetch_deadline + wait, connect=limits.connect_timeout)
        self._client.cookies.clear()  # no state from earlier responses
        async with AsyncExitStack() as stack:

            async def close_at_exit(event: str, info: Mapping[str, Any]) -> None:
                # A TLS handshake that is cancelled would leave the connection open.
                if event == "connection.connect_tcp.complete":
                    stack.push_async_callback(info["return_value"].aclose)

            trace = {"trace": close_at_exit}
            request = self._client.stream("GET", url, headers=headers, extensions=trace, timeout=timeout)
            response = await stack.enter_async_context(request)
            if response.status_code == httpx2.codes.NOT_MODIFIED and etag:
                return None, response.headers
            if response.status_code != httpx2.codes.OK:
                raise ValueError(f"status {response.status_code}")
            if response.headers.get("content-encoding", "identity") != "identity":
                # It could be a compression bomb.
                raise ValueError("compressed, despite Accept-Encoding: identity")
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_BODY:
                    raise ValueError(f"more than {MAX_BODY} bytes")
                await asyncio.sleep(0)  # many small chunks at once would block the event loop
            return body, response.headers


def _trusted_authorities(ca_file: str | None) -> ssl.SSLContext:
    """Trust only the authorities in `ca_file`; without it those of SSL_CERT_FILE, SSL_CERT_DIR or the system."""
    shown = f"the CA file {ca_file!a:.200}" if ca_file else "the file in SSL_CERT_FILE"
    try:
        if ca_file:
            return ssl.create_default_context(cafile=ca_file)
        return httpx2.create_ssl_context()
    except (OSError, ValueError) as error:
        reason = "holds no certificate in PEM" if isinstance(error, ssl.SSLError) else f"{error}"
        raise ValueError(f"{shown} cannot be used: {reason}") from error


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _read_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers by their names in lower case; a ValueError shows no value, as it may be a secret."""
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or name.lower() in _OWN_HEADERS:
            raise ValueError(f"the header {name!a:.200} cannot be set for fetches")
        if not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"the value of the header {name} is not one line of ASCII")
    return {name.lower(): value for name, value in headers.items()}


def _read_proxy(text: str | None, trusted: ssl.SSLContext) -> httpx2.Proxy | None:
    """Parse the URL of a proxy, http or https; a ValueError shows no part of it, as it may contain a password."""
    if not text:
        return None
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL:
        url = httpx2.URL("")
    valid = url.scheme in {"http", "https"} and url.host and (url.port or 80) in range(1, 65536)
    if not valid or url.path != "/" or url.query or url.fragment:
        raise ValueError("the proxy is not given as http://host:port or https://host:port")
    return httpx2.Proxy(url, ssl_context=trusted if url.scheme == "https" else None)
