"""Redirect URIs: which may be registered, and which registered one a request names. They are compared exactly.

The one exception is the port of a loopback URI, RFC 8252 section 7.3. Operators register them by `administration`.
"""

import re
from collections.abc import Iterable
from urllib.parse import parse_qsl

from issuer.oauth import InvalidRequest
from issuer.urls import BadURL, origin_of

REDIRECT_URI_MOST_CHARACTERS = 2048
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?:[A-Za-z0-9._~:/?\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_LOOPBACK = re.compile(
    r"http://(?P<host>127\.0\.0\.1|\[::1\]|localhost)(?::(?P<port>[1-9][0-9]{0,4}))?(?P<rest>(?:[/?].*)?)"
)
"""The spellings of loopback that leave the port free. Others, such as 127.1, are names that a browser translates."""
_PORT_MOST = 65535
_WEB = ("http", "https")
_FORBIDDEN_SCHEMES = frozenset(
    "about blob cid chrome content data feed file filesystem ftp gopher intent jar javascript livescript mailto mocha"
    " moz-extension ms-its news resource sms smsto tel urn vbscript view-source wyciwyg ws wss".split()
)
"""Schemes that run code, read local data or address no application. Schemes that begin like http are refused, too."""
_RESPONSE_PARAMETERS = frozenset(
    {"code", "error", "error_description", "error_uri", "iss", "response", "state"}
)
_DOT_SEGMENT = re.compile(r"(?:^|/)(?:\.|%2e){1,2}(?=/|$)", re.IGNORECASE)
"""A browser removes these from a path, also when they are escaped: it would go elsewhere than it seems."""


def require_redirect_uri(text: str) -> str:
    """Return `text` if an operator may register it as a redirect URI, RFC 9700 section 4.1; raise InvalidRequest.

    It is an https URL, an http URL of this computer (127.0.0.1, [::1] or localhost), or a URI whose scheme belongs to
    an application (RFC 8252 section 7.1).
    """
    problem = _problem(text)
    if problem:
        raise InvalidRequest(f"the redirect URI {text[:REDIRECT_URI_MOST_CHARACTERS]!r} {problem}")
    return text


def registered_uri(sent: str, registered: Iterable[str]) -> str | None:
    """Return the registered URI that `sent` is equal to, but for the port of a loopback URI; None if there is none.

    The response goes to `sent`: the port is that of the application which waits for it.
    """
    return next((each for each in registered if each == sent or _differs_in_port(each, sent)), None)


def is_loopback_uri(uri: str) -> bool:
    """Return whether any program on the user's computer could receive what is sent to this URI."""
    return _LOOPBACK.fullmatch(uri) is not None


def difference(sent: str, registered: str) -> str:
    """Return where `sent` differs from a registered URI, for the developer of a client."""
    same = next(
        (at for at, (one, other) in enumerate(zip(sent, registered, strict=False)) if one != other),
        min(len(sent), len(registered)),
    )
    if same == len(sent):
        return f"it ends where the registered one goes on with {registered[same:]!r}"
    if same == len(registered):
        return f"the registered one ends before {sent[same:]!r}"
    return f"character {same + 1} is {sent[same]!r}, and {registered[same]!r} in the registered one"


def closest(sent: str, registered: Iterable[str]) -> str | None:
    """Return the registered URI that begins most like `sent`; None if none is registered."""
    return max(registered, key=lambda each: _common_length(each, sent), default=None)


def _common_length(one: str, other: str) -> int:
    length = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        length += 1
    return length


def _differs_in_port(registered: str, sent: str) -> bool:
    one, other = _LOOPBACK.fullmatch(registered), _LOOPBACK.fullmatch(sent)
    if one is None or other is None or int(other["port"] or 0) > _PORT_MOST:
        return False
    return (one["host"], one["rest"]) == (other["host"], other["rest"])


def _problem(text: str) -> str | None:
    """Return what is wrong with a redirect URI, or None."""
    if len(text) > REDIRECT_URI_MOST_CHARACTERS:
        return f"has more than {REDIRECT_URI_MOST_CHARACTERS} characters"
    if "#" in text:
        return "has a fragment, which RFC 6749 section 3.1.2 forbids"
    if "*" in text:
        return "has a wildcard; register each URI: they are compared character by character"
    if not _URI.fullmatch(text):
        return (
            "is not an absolute URI in ASCII, such as https://app.example/callback; escape other characters"
        )
    names = {name for name, _ in parse_qsl(text.partition("?")[2], keep_blank_values=True)}
    if names & _RESPONSE_PARAMETERS:
        return f"has the query parameter {min(names & _RESPONSE_PARAMETERS)}, which the response sets"
    scheme, _, rest = text.partition(":")
    if not _SCHEME.fullmatch(scheme):
        return f"has a scheme in upper case; write it as {scheme.lower()}:{rest}"
    return _problem_of_url(text) if scheme in _WEB else _problem_of_scheme(scheme, rest)


def _problem_of_url(text: str) -> str | None:
    try:
        origin = origin_of(text)
    except BadURL as error:
        return str(error)
    authority, _, _ = re.sub("^https?://", "", text).partition("/")
    if "@" in authority:
        return "has a username before the host"
    if not re.fullmatch(re.escape(origin) + r"(?:[/?].*)?", text):
        return f"must begin with {origin}, as browsers write it"
    if text.startswith("http:") and not is_loopback_uri(text):
        return "uses http, which is allowed for 127.0.0.1, [::1] and localhost only; use https"
    if _DOT_SEGMENT.search(text[len(origin) :].partition("?")[0]):
        return "has a path with `.` or `..`, which browsers remove"
    return None


def _problem_of_scheme(scheme: str, rest: str) -> str | None:
    if scheme in _FORBIDDEN_SCHEMES or scheme.startswith("http"):
        return f"has the scheme {scheme}, which is no scheme of an application"
    if "@" in rest.partition("?")[0]:
        return "has a username before the host"
    if not rest.strip("/"):
        return "has only a scheme; add a path, such as /callback"
    return None
