"""Identifiers of resources, RFC 8707 section 2: what may be one, and which spellings name the same one.

Which resources a client may ask tokens for is decided in `clients`.
"""

import re
from urllib.parse import quote, unquote_to_bytes, urlsplit

MOST_CHARACTERS = 2048
_DEFAULT_PORTS = {"http": 80, "https": 443}
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*", re.IGNORECASE)
_CHARACTERS = re.compile(r"[!#-;=?-\[\]_a-z~@%]+", re.IGNORECASE)
_BAD_ESCAPE = re.compile(r"%(?![0-9a-f]{2})", re.IGNORECASE)
_ESCAPED = re.compile(r"(?:%[0-9a-f]{2})+", re.IGNORECASE)
_PORT = re.compile(r"[0-9]+(/|$)")
"""What follows the first colon of a host and port without a scheme, which reads as one: `localhost:8001`."""
_NOT_ABSOLUTE = "it must be an absolute URI, such as https://api.example"
_UNRESERVED = "-._~"  # besides letters and digits, RFC 3986 section 2.3


def require_resource(uri: str) -> str:
    """Return `uri`, if it is an absolute one without a fragment; raise ValueError.

    One with a blank at an end is refused: it is a mistake of quoting or pasting, which would be made elsewhere, too.
    """
    if not uri.strip():
        raise ValueError("it is empty")
    if len(uri) > MOST_CHARACTERS:
        raise ValueError(f"it has more than {MOST_CHARACTERS} characters")
    if "#" in uri:
        raise ValueError("it must not have a fragment (#)")
    if not _CHARACTERS.fullmatch(uri) or _BAD_ESCAPE.search(uri):
        raise ValueError("it holds blanks or characters that a URI must percent-encode")
    scheme, colon, rest = uri.partition(":")
    if not colon or not _SCHEME.fullmatch(scheme) or not rest or _PORT.match(rest):
        raise ValueError(_NOT_ABSOLUTE)
    if scheme.lower() in _DEFAULT_PORTS:
        _require_host(uri)
    return uri


def _require_host(uri: str) -> None:
    """Raise ValueError unless `uri`, of http or https, names a host and nobody's password."""
    try:
        parts = urlsplit(uri)
        usable = parts.hostname and parts.port != 0  # asking for the port checks it, too
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(_NOT_ABSOLUTE)
    if "@" in parts.netloc:
        raise ValueError("it must not hold a username or a password")


def comparable(uri: str) -> str:
    """Return the normal form in which equivalent spellings of a URI are equal, RFC 3986 section 6.2.2 and 6.2.3.

    Scheme and host in lower case, no default port, `/` for an empty path, unreserved characters not escaped. A slash
    at the end of a path that is not empty makes another resource.
    """
    try:
        parts = urlsplit(uri)
        port, hostname = parts.port, parts.hostname
    except ValueError:
        return uri
    scheme = parts.scheme.lower()
    if scheme not in _DEFAULT_PORTS or not hostname or "@" in parts.netloc or parts.fragment:
        return uri
    host = f"[{hostname}]" if ":" in hostname else hostname
    shown_port = "" if port in {None, _DEFAULT_PORTS[scheme]} else f":{port}"
    query = f"?{_unescaped(parts.query)}" if parts.query or uri.endswith("?") else ""
    return f"{scheme}://{host}{shown_port}{_unescaped(parts.path) or '/'}{query}"


def _unescaped(text: str) -> str:
    """Return `text` with only those characters escaped that must be, in capitals."""
    return _ESCAPED.sub(_reescaped, text)


def _reescaped(match: re.Match[str]) -> str:
    return quote(unquote_to_bytes(match[0]), safe=_UNRESERVED)
