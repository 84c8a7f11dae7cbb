"""Finds an issuer's metadata (RFC 8414, OpenID Connect Discovery), and in it the URL of its key set.

Fetching the key set is left to `fetching`.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import httpx2

from .encoding import MALFORMED, read_object
from .http_client import HttpClient, check_url

T = TypeVar("T")

_OAUTH, _OPENID = "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"


async def discover(client: HttpClient, issuer: str, *, allow_http: bool) -> str:
    """Return the `jwks_uri` of an issuer."""

    def jwks_uri(metadata: Mapping[str, Any], location: httpx2.URL) -> str:
        url = check_url(metadata.get("jwks_uri"), allow_http=allow_http)
        if location.scheme == "https" != url.scheme:
            raise ValueError("https metadata with an http jwks_uri")
        return str(url)

    return await find_metadata(client, issuer, jwks_uri)


async def find_metadata(
    client: HttpClient, issuer: str, read: Callable[[Mapping[str, Any], httpx2.URL], T]
) -> T:
    """Return what `read` finds in the metadata by RFC 8414 section 3, else by OpenID Connect Discovery section 4.

    It gets the metadata and their location, and raises ValueError for metadata that are unusable.
    """
    base = httpx2.URL(issuer)
    path = base.path.rstrip("/")
    failures = []
    for place in (_OAUTH + path, path + _OPENID):
        location = base.copy_with(path=place)
        try:
            return read(await _read_metadata(client, issuer, location), location)
        except (httpx2.HTTPError, *MALFORMED) as error:
            failures.append(f"{place}: {str(error) or type(error).__name__}")  # timeouts have no text
    raise ValueError("; ".join(failures))


async def _read_metadata(client: HttpClient, issuer: str, location: httpx2.URL) -> Mapping[str, Any]:
    body, _ = await client.get(str(location))
    document: Mapping[str, Any] = read_object(body or b"")
    if document.get("issuer") != issuer:  # RFC 8414 section 3.3
        raise ValueError(f"the metadata of another issuer, {document.get('issuer')!a:.100}")
    return document
