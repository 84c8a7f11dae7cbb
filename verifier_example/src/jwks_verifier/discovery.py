"""Finds the URL of an issuer's key set in its metadata (RFC 8414, OpenID Connect Discovery).

Fetching the key set is left to `fetching`.
"""

import httpx2

from .encoding import MALFORMED, read_object
from .http_client import HttpClient, check_url

_OAUTH, _OPENID = "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"


async def discover(client: HttpClient, issuer: str, *, allow_http: bool) -> str:
    """Return the `jwks_uri` found by RFC 8414 section 3, else by OpenID Connect Discovery section 4."""
    base = httpx2.URL(issuer)
    path = base.path.rstrip("/")
    failures = []
    for place in (_OAUTH + path, path + _OPENID):
        try:
            return await _read_metadata(client, issuer, base.copy_with(path=place), allow_http=allow_http)
        except (httpx2.HTTPError, *MALFORMED) as error:
            failures.append(f"{place}: {str(error) or type(error).__name__}")  # timeouts have no text
    raise ValueError("; ".join(failures))


async def _read_metadata(client: HttpClient, issuer: str, location: httpx2.URL, *, allow_http: bool) -> str:
    body, _ = await client.get(str(location))
    document = read_object(body or b"")
    if document.get("issuer") != issuer:  # RFC 8414 section 3.3
        raise ValueError(f"the metadata of another issuer, {document.get('issuer')!a:.100}")
    url = check_url(document.get("jwks_uri"), allow_http=allow_http)
    if location.scheme == "https" != url.scheme:
        raise ValueError("https metadata with an http jwks_uri")
    return str(url)
