"""Redirect URIs of clients: which may be registered, and whether one of a request is registered.

Where browsers are sent, and with what, is decided in `authorize`.
"""

import re
from collections.abc import Iterable
from urllib.parse import SplitResult, parse_qsl, urlsplit

from issuer.urls import DEFAULT_PORTS, BadURL, http_parts, origin_of

REDIRECT_URI_MOST_CHARACTERS = 2048
REDIRECT_URIS_MOST = 20
LOOPBACK_HOSTS = ("127.0.0.1", "[::1]", "localhost")
"""Where native applications listen, RFC 8252 section 7.3; not one of them stands for another."""
UNSAFE_SCHEMES = frozenset(
    {
        "about",
        "blob",
        "chrome",
        "cid",
        "content",
        "data",
        "feed",
        "file",
        "filesystem",
        "ftp",
        "ftps",
        "intent",
    }
    | {"jar", "javascript", "mailto", "resource", "sms", "tel", "urn", "vbscript", "view-source", "ws", "wss"}
)
"""Schemes that browsers handle themselves, as a script, document or connection, and such as lead nowhere."""
RESPONSE_PARAMETERS = frozenset(
    {"code", "error", "error_description", "error_uri", "iss", "response", "state"}
)
"""What the authorization response adds to the query: a client could read the registered value in its place."""
_DOT_SEGMENT = re.compile(r"/(?:\.|%2e){1,2}(?=/|$)", re.IGNORECASE)
"""Browsers remove these from a path, also when they are escaped, and would go elsewhere than it seems."""
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?:[A-Za-z0-9._~:/?\[\]@!$&'()+,;=-]|%[0-9A-Fa-f]{2})+")
"""RFC 3986, without a fragment and without `*`."""
_LOOPBACK = re.compile(r"http://(127\.0\.0\.1|\[::1\]|localhost)(?::(?P<port>[0-9]{1,5}))?(?=[/?]|$)")
_PORT_MOST = 65535


def require_redirect_uri(text: str) -> str:
    """Return `text` if it may be registered: OAuth 2.1 section 2.3.1, RFC 8252 section 7; raise BadURL.

    An https URL, an http URL of this machine's loopback interface, or a URI of a private-use scheme.
    """
    if len(text) > REDIRECT_URI_MOST_CHARACTERS:
        raise BadURL(f"has more than {REDIRECT_URI_MOST_CHARACTERS} characters")
    if "#" in text:
        raise BadURL("must not have a fragment (RFC 6749 section 3.1.2)")
    if "*" in text:
        raise BadURL(
            "must not contain `*`: it is compared character by character, and there are no wildcards"
        )
    if not _URI.fullmatch(text):
        raise BadURL("must be an absolute URI in ASCII, such as https://app.example/callback")
    parts = _parts(text)
    if "@" in parts.netloc:
        raise BadURL("must not contain a username or a password")
    if parts.scheme in DEFAULT_PORTS:
        _require_http(text)
    elif parts.scheme in UNSAFE_SCHEMES or parts.scheme.startswith("http"):
        raise BadURL(f"must not have the scheme {parts.scheme}: https, or a scheme of the application's own")
    elif _is_host_and_port(parts):
        raise BadURL("must begin with https://, or for a program on the user's machine http://127.0.0.1")
    _require_unambiguous(parts)
    return text


def require_redirect_uris(texts: Iterable[str]) -> tuple[str, ...]:
    """Return redirect URIs that may be registered, without duplicates; raise BadURL, which names the one."""
    uris = tuple(dict.fromkeys(texts))
    if len(uris) > REDIRECT_URIS_MOST:
        raise BadURL(f"there are {len(uris)} of them, and a client has at most {REDIRECT_URIS_MOST}")
    for uri in uris:
        try:
            require_redirect_uri(uri)
        except BadURL as error:
            raise BadURL(f"{uri!r} {error}") from None
    return uris


def closest(uri: str, registered: Iterable[str]) -> str | None:
    """Return the registered URI that has the longest beginning in common with `uri`; None if there is none."""
    return max(registered, key=lambda each: _common_length(each, uri), default=None)


def difference(uri: str, registered: str) -> str:
    """Return where a URI of a request differs from a registered one, for the developer of the client."""
    at = _common_length(uri, registered)
    if at == len(uri):
        return f"it ends where the registered one continues with {registered[at:]!r}"
    if at == len(registered):
        return f"the registered one ends before {uri[at:]!r}"
    return f"character {at + 1} is {uri[at]!r}, and {registered[at]!r} in the registered one"


def _common_length(one: str, other: str) -> int:
    pairs = zip(one, other, strict=False)
    return next((at for at, (left, right) in enumerate(pairs) if left != right), min(len(one), len(other)))


def is_registered(uri: str, registered: Iterable[str]) -> bool:
    """Whether `uri` is one of those `registered`, character by character, RFC 9700 section 4.1.3.

    Only the port of an http URL of a loopback host may differ: native applications get one from the operating
    system, RFC 8252 section 7.3. The host must be the same of `LOOPBACK_HOSTS`.
    """
    without_port = _without_port(uri)
    return any(
        uri == each or (without_port is not None and without_port == _without_port(each))
        for each in registered
    )


def _parts(uri: str) -> SplitResult:
    try:
        return urlsplit(uri)
    except ValueError:
        raise BadURL("has a malformed host") from None


def _require_unambiguous(parts: SplitResult) -> None:
    """Raise BadURL for a path that browsers change, and for a query with parameters of the response."""
    if _DOT_SEGMENT.search(parts.path):
        raise BadURL("must not have a path with `.` or `..`, which browsers remove")
    taken = RESPONSE_PARAMETERS.intersection(
        name for name, _ in parse_qsl(parts.query, keep_blank_values=True)
    )
    if taken:
        raise BadURL(f"must not have the query parameter {min(taken)}, which the response sets")


def _require_http(uri: str) -> None:
    """Raise BadURL for an http(s) URL that could be read by others on its way, or that names no host."""
    origin_of(uri)
    if http_parts(uri).scheme == "http" and _without_port(uri) is None:
        raise BadURL(f"must begin with https://; http only for {', '.join(LOOPBACK_HOSTS)}")


def _is_host_and_port(parts: SplitResult) -> bool:
    """Whether it is something like `localhost:8000/callback`, whose host was read as a scheme."""
    return not parts.netloc and re.match(r"[0-9]+(/|$)", parts.path) is not None


def _without_port(uri: str) -> str | None:
    """Return an http URL of a loopback host without its port; None for all other URIs."""
    match = _LOOPBACK.match(uri)
    if not match or int(match["port"] or 1) not in range(1, _PORT_MOST + 1):
        return None
    return f"http://{match[1]}{uri[match.end() :]}"
