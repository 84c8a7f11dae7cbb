"""The keys that an issuer publishes, found as any service finds them: by discovery, then in its JWKS.

Fetching is left to the caller, reading a JWKS to `clients.key_sets`.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from issuer.clients.key_sets import BadKeySet, ClientKey, read_key_set
from issuer.clients.outgoing_http import ExchangeFailed, is_reachable
from issuer.strict_json import read_document

OAUTH, OPENID = "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"


class KeysNotFound(Exception):
    """The published keys of an issuer could not be read; the message says why."""


def find_published_keys(issuer: str, fetch: Callable[[str], bytes]) -> list[ClientKey]:
    """Return the usable keys of the issuer at that URL; raise KeysNotFound."""
    url = _find_key_set(issuer, fetch)
    try:
        return read_key_set(_read(url, fetch))
    except BadKeySet as error:
        raise KeysNotFound(f"the key set at {url} cannot be used: {error}") from error


def _find_key_set(issuer: str, fetch: Callable[[str], bytes]) -> str:
    """Return the jwks_uri found by RFC 8414 section 3, else by OpenID Connect Discovery section 4."""
    path = urlsplit(issuer).path
    failures = []
    for location in (f"{issuer.removesuffix(path)}{OAUTH}{path}", f"{issuer}{OPENID}"):
        try:
            return _read_metadata(issuer, location, fetch)
        except KeysNotFound as error:
            failures.append(str(error))
    raise KeysNotFound("; ".join(failures))


def _read_metadata(issuer: str, location: str, fetch: Callable[[str], bytes]) -> str:
    document = _read(location, fetch)
    named = document.get("issuer") if isinstance(document, dict) else None
    if named != issuer:  # RFC 8414 section 3.3
        raise KeysNotFound(f"{location} is the document of the issuer {named!r}, not of {issuer}")
    url = document.get("jwks_uri")
    if not isinstance(url, str):
        raise KeysNotFound(f"{location} has no jwks_uri")
    if issuer.startswith("https:") and not url.startswith("https:"):  # not even http on this machine
        raise KeysNotFound(f"{location} names a jwks_uri without TLS, {url}")
    return url


def _read(url: str, fetch: Callable[[str], bytes]) -> Any:
    if not is_reachable(url):
        raise KeysNotFound(f"{url} is neither https nor http on this machine")
    try:
        return read_document(fetch(url))
    except ExchangeFailed as error:
        raise KeysNotFound(f"cannot fetch {url}: {error}") from error
    except ValueError as error:
        raise KeysNotFound(f"{url} is not JSON: {error}") from error
