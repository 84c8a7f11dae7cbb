"""Which URIs a client may register for sign-out: where users return to, and where logout tokens are sent.

They are compared with those of requests in `authorize.sign_out`.
"""

import re

from issuer.clients.outgoing_http import is_reachable
from issuer.oauth import InvalidRequest
from issuer.urls import DEFAULT_PORTS, BadURL, http_parts, is_loopback

URI_MOST_CHARACTERS = 2000
_URI = re.compile(r"[a-z][a-z0-9+.-]*:(?:[A-Za-z0-9._~:/?\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")
_SCRIPTED = frozenset(
    {"javascript", "data", "vbscript", "file", "blob", "about", "filesystem", "view-source"}
)
"""Schemes that browsers run or open themselves."""


def require_post_logout_redirect_uri(text: str) -> str:
    """Return a URI that users return to after sign-out, RP-Initiated Logout section 3.1; raise InvalidRequest.

    It is an https URL, an http URL of the user's own machine, or has a scheme of an application.
    """
    scheme = text.partition(":")[0]
    if not _URI.fullmatch(text) or len(text) > URI_MOST_CHARACTERS or scheme in _SCRIPTED:
        raise InvalidRequest(
            f"the post-logout redirect URI {text!r} must be an absolute URI without a fragment, of at most"
            f" {URI_MOST_CHARACTERS} characters, such as https://app.example/signed-out"
        )
    if scheme in DEFAULT_PORTS:
        _require_safe(text)
    return text


def _require_safe(url: str) -> None:
    try:
        parts = http_parts(url)
    except BadURL as error:
        raise InvalidRequest(f"the post-logout redirect URI {url!r} {error}") from None
    if "@" in parts.netloc:
        raise InvalidRequest(
            f"the post-logout redirect URI {url!r} must not contain a username or a password"
        )
    if parts.scheme == "http" and not is_loopback(url):
        raise InvalidRequest(f"the post-logout redirect URI {url!r} must begin with https://")


def require_backchannel_uri(text: str) -> str:
    """Return a URL that logout tokens are sent to, Back-Channel Logout section 2.2; raise InvalidRequest."""
    if len(text) > URI_MOST_CHARACTERS or not text.isascii() or not is_reachable(text):
        raise InvalidRequest(
            f"the back-channel logout URI {text!r} must be an https URL (http on loopback) without a fragment, of at"
            f" most {URI_MOST_CHARACTERS} characters"
        )
    return text
