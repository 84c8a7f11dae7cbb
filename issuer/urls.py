"""Canonical forms of URLs: of the issuer, of origins of browser applications, and of resources.

Verifiers compare issuers and resources character by character, and browsers send origins in one form only. Which
resources a client may request is decided in `clients`.
"""

import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import SplitResult, quote, unquote_to_bytes, urlencode, urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}
HOST_MOST_CHARACTERS = 253
RESOURCE_MOST_CHARACTERS = 2048
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_PATH = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?:[A-Za-z0-9._~:/?\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")
_HOST_AND_PORT = re.compile(r"[^:/]*:[0-9]+(/|$)")
"""Such as `localhost:8001`, where the host would be parsed as the scheme."""
_ESCAPED = re.compile(r"(?:%[0-9a-f]{2})+", re.IGNORECASE)
_UNRESERVED = "-._~"  # besides letters and digits, RFC 3986 section 2.3


class BadURL(ValueError):
    """A URL is not of the required form; the message says what is wrong with it."""


def issuer_url(text: str) -> str:
    """Return `text` if it is the canonical URL of an issuer (RFC 8414 section 2); raise BadURL."""
    parts = http_parts(text)
    if "?" in text or "#" in text or "@" in parts.netloc:
        raise BadURL("must be http(s)://HOST[:PORT][/PATH], without query or fragment (RFC 8414 section 2)")
    if text.endswith("/"):
        raise BadURL("must not end with a slash: verifiers compare it character by character")
    _require_plain_path(parts.path)
    return _require_canonical(text, f"{_origin(parts)}{parts.path}")


def suggest_issuer_url(text: str) -> str | None:
    """Return the issuer URL that `text` probably means, or None."""
    try:
        parts = http_parts(text.strip())
        url = f"{_origin(parts)}{re.sub('/+', '/', parts.path).rstrip('/')}"
        return issuer_url(url)
    except ValueError:
        return None


def origin(text: str) -> str:
    """Return `text` as the origin that browsers send (RFC 6454 section 6.2); raise BadURL."""
    parts = http_parts(text)
    if parts.path or "?" in text or "#" in text or "@" in parts.netloc:
        raise BadURL("each must be http(s)://HOST[:PORT], without a path or a slash at the end")
    return _origin(parts)


def origin_of(url: str) -> str:
    """Return the origin of an http(s) URL, as browsers send it; raise BadURL."""
    return _origin(http_parts(url))


def with_query(uri: str, parameters: Mapping[str, str]) -> str:
    """Return `uri` with parameters added to its query, which is kept, RFC 6749 section 3.1.2."""
    separator = "" if uri.endswith(("?", "&")) else "&" if "?" in uri else "?"
    return f"{uri}{separator}{urlencode(parameters)}"


def suggest_origin(text: str) -> str | None:
    """Return the origin that `text` probably means, or None."""
    try:
        parts = urlsplit(text.strip())
        return origin(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}")
    except ValueError:
        return None


def resource(text: str) -> str:
    """Return `text` if it is an absolute URI without a fragment (RFC 8707 section 2); raise BadURL."""
    if len(text) > RESOURCE_MOST_CHARACTERS:
        raise BadURL(f"has more than {RESOURCE_MOST_CHARACTERS} characters")
    if not _URI.fullmatch(text) or _HOST_AND_PORT.match(text):
        raise BadURL(
            "must be an absolute URI without a fragment, such as https://api.example (RFC 8707 section 2)"
        )
    if _is_http(text) and "@" in http_parts(text).netloc:
        raise BadURL("must not contain a username or a password")
    return text


def default_resource(text: str) -> str:
    """Return `text` if it is a resource and, as an http(s) URL, canonical and without a query; raise BadURL."""
    if not _is_http(resource(text)):
        return text
    if "?" in text:
        raise BadURL("must be http(s)://HOST[:PORT][/PATH], without a query")
    parts = http_parts(text)
    _require_plain_path(parts.path)
    return _require_canonical(text, f"{_origin(parts)}{parts.path}")


def comparable(uri: str) -> str:
    """Return the normal form of a URI, in which equivalent URIs are equal: RFC 3986 sections 6.2.2 and 6.2.3.

    Scheme and host are in lower case, there is no default port, an empty path is `/`, and unreserved characters are
    not escaped. A trailing slash of a path is significant. Anything but an http(s) URL is returned unchanged.
    """
    try:
        parts = http_parts(uri)
        origin_of_uri = _origin(parts)
    except BadURL:
        return uri
    if "#" in uri or "@" in parts.netloc:
        return uri
    query = f"?{_unescaped(parts.query)}" if "?" in uri else ""
    return f"{origin_of_uri}{_unescaped(parts.path) or '/'}{query}"


def _unescaped(text: str) -> str:
    """Return `text` with percent-encoding only where it is needed, in upper case."""
    return _ESCAPED.sub(lambda match: quote(unquote_to_bytes(match[0]), safe=_UNRESERVED), text)


def _is_http(uri: str) -> bool:
    return uri.partition(":")[0].lower() in DEFAULT_PORTS


def http_parts(text: str) -> SplitResult:
    """Return the parts of an http(s) URL that names a host; raise BadURL."""
    try:
        if not text.isprintable() or any(
            character.isspace() or character in '\\"<>^`{|}' for character in text
        ):
            raise ValueError  # noqa: TRY301 - as urlsplit does for others
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise BadURL(
            "is not a URL: it contains a blank or another invalid character, or a malformed host or port"
        ) from None
    if (
        parts.scheme not in DEFAULT_PORTS
        or not text[len(parts.scheme) :].startswith("://")
        or not parts.hostname
    ):
        raise BadURL("must begin with https:// (or http://) and a host")
    if port == 0 or parts.netloc.endswith(":"):
        raise BadURL("has an empty port, or port 0")
    return parts


def _origin(parts: SplitResult) -> str:
    host = _host(parts.hostname or "")
    port = f":{parts.port}" if parts.port and parts.port != DEFAULT_PORTS[parts.scheme] else ""
    return f"{parts.scheme}://{host}{port}"


def _host(name: str) -> str:
    """Return a host in lower case, an internationalized name in ASCII, an address in its shortest form."""
    try:
        if ":" in name:
            address = IPv6Address(name)
            if address.scope_id is None:
                return f"[{address}]"
        else:
            ascii_name = (name if name.isascii() else name.encode("idna").decode()).lower()
            labels = ascii_name.split(".")
            if labels[-1].isdigit():
                return str(IPv4Address(ascii_name))
            if len(ascii_name) <= HOST_MOST_CHARACTERS and all(map(_LABEL.fullmatch, labels)):
                return ascii_name
    except ValueError:  # includes UnicodeError
        pass
    raise BadURL("has a host that is neither a domain name nor an IP address")


def _require_plain_path(path: str) -> None:
    if not _PATH.fullmatch(path):
        raise BadURL("has a path with characters that must be percent-encoded")
    if "//" in path or {".", ".."} & set(path.split("/")):
        raise BadURL("has a path with an empty segment, `.` or `..`")


def _require_canonical(text: str, form: str) -> str:
    if text != form:
        raise BadURL(f"must be written as {form}: it is compared character by character")
    return text


def is_loopback(url: str) -> bool:
    """Whether the host of `url` is this machine's loopback interface."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
