"""URLs and their canonical form: the issuer's own, origins of browser apps, and resources that tokens are for.

Verifiers compare the first and the last character by character, and browsers write an origin in one way only. Which
resources a client may ask tokens for is decided in `clients`.
"""

import re
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import SplitResult, quote, unquote_to_bytes, urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}
HOST_MOST_CHARACTERS = 253
RESOURCE_MOST_CHARACTERS = 2048
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_PATH = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?:[A-Za-z0-9._~:/?\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")
_HOST_AND_PORT = re.compile(r"[^:/]*:[0-9]+(/|$)")
"""Without a scheme, it reads as a URI with the host for a scheme: `localhost:8001`."""
_ESCAPED = re.compile(r"(?:%[0-9a-f]{2})+", re.IGNORECASE)
_UNRESERVED = "-._~"  # besides letters and digits, RFC 3986 section 2.3


class BadURL(ValueError):
    """The text is no URL of the kind that is needed; says what is wrong with it."""


def issuer_url(text: str) -> str:
    """Return `text`, an issuer's URL in its one form (RFC 8414 section 2); raise BadURL."""
    parts = http_parts(text)
    if "?" in text or "#" in text or "@" in parts.netloc:
        raise BadURL("must be http(s)://HOST[:PORT][/PATH] and nothing more (RFC 8414 section 2)")
    if text.endswith("/"):
        raise BadURL("must not end with a slash: verifiers compare it character by character")
    _require_plain_path(parts.path)
    return _required(text, f"{_origin(parts)}{parts.path}")


def meant_as_issuer_url(text: str) -> str | None:
    """Return the issuer's URL that is probably meant by `text`, or None."""
    try:
        parts = http_parts(text.strip())
        url = f"{_origin(parts)}{re.sub('/+', '/', parts.path).rstrip('/')}"
        return issuer_url(url)
    except ValueError:
        return None


def origin(text: str) -> str:
    """Return the origin that browsers send (RFC 6454 section 6.2) for `text`; raise BadURL."""
    parts = http_parts(text)
    if parts.path or "?" in text or "#" in text or "@" in parts.netloc:
        raise BadURL("each must be http(s)://HOST[:PORT], without a path or a slash at the end")
    return _origin(parts)


def meant_as_origin(text: str) -> str | None:
    """Return the origin that is probably meant by `text`, or None."""
    try:
        parts = urlsplit(text.strip())
        return origin(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}")
    except ValueError:
        return None


def resource(text: str) -> str:
    """Return `text`, an absolute URI without a fragment (RFC 8707 section 2); raise BadURL."""
    if len(text) > RESOURCE_MOST_CHARACTERS:
        raise BadURL(f"has more than {RESOURCE_MOST_CHARACTERS} characters")
    if not _URI.fullmatch(text) or _HOST_AND_PORT.match(text):
        raise BadURL(
            "must be an absolute URI without a fragment, such as https://api.example (RFC 8707 section 2)"
        )
    if _is_http(text) and "@" in http_parts(text).netloc:
        raise BadURL("must not hold a username or a password")
    return text


def default_resource(text: str) -> str:
    """Return `text`, a resource that, if it is an http(s) URL, is canonical and has no query; raise BadURL."""
    if not _is_http(resource(text)):
        return text
    if "?" in text:
        raise BadURL("must be http(s)://HOST[:PORT][/PATH], without a query")
    parts = http_parts(text)
    _require_plain_path(parts.path)
    return _required(text, f"{_origin(parts)}{parts.path}")


def comparable(uri: str) -> str:
    """Return the normal form in which equivalent spellings of a URI are equal, RFC 3986 section 6.2.2 and 6.2.3.

    Scheme and host in lower case, no default port, `/` for an empty path, unreserved characters not escaped. A slash
    at the end of a path that is not empty makes another resource. Anything but an http(s) URL is returned as it is.
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
    """Return `text` with only those characters percent-encoded that must be, in capitals."""
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
            "is not a URL: it holds a blank or another character that no URL has, or a malformed host or port"
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
    """Return a host in lower case, an international name in ASCII, an address in its shortest form."""
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
    except ValueError:  # a UnicodeError is one
        pass
    raise BadURL("has a host that is neither a name nor an address")


def _require_plain_path(path: str) -> None:
    if not _PATH.fullmatch(path):
        raise BadURL("has a path with characters that must be percent-encoded")
    if "//" in path or {".", ".."} & set(path.split("/")):
        raise BadURL("has a path with an empty segment, `.` or `..`")


def _required(text: str, form: str) -> str:
    if text != form:
        raise BadURL(f"must be written as {form}: it is compared character by character")
    return text
