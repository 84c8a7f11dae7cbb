"""URLs in their one form: the issuer's own, origins of browser apps, and resources that tokens are for.

Verifiers compare the first and the last character by character, and browsers write an origin in one way only.
"""

import re
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import SplitResult, urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}
HOST_MOST_CHARACTERS = 253
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_PATH = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?:[A-Za-z0-9._~:/?\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")


class BadURL(ValueError):
    """The text is no URL of the kind that is needed; says what is wrong with it."""


def issuer_url(text: str) -> str:
    """Return `text`, an issuer's URL in its one form (RFC 8414 section 2); raise BadURL."""
    parts = _split(text)
    if "?" in text or "#" in text or "@" in parts.netloc:
        raise BadURL("must be http(s)://HOST[:PORT][/PATH] and nothing more (RFC 8414 section 2)")
    if text.endswith("/"):
        raise BadURL("must not end with a slash: verifiers compare it to the letter")
    _require_plain_path(parts.path)
    return _required(text, f"{_origin(parts)}{parts.path}")


def meant_as_issuer_url(text: str) -> str | None:
    """Return the issuer's URL that is probably meant by `text`, or None."""
    try:
        parts = _split(text.strip())
        url = f"{_origin(parts)}{re.sub('/+', '/', parts.path).rstrip('/')}"
        return issuer_url(url)
    except ValueError:
        return None


def origin(text: str) -> str:
    """Return the origin that browsers send (RFC 6454 section 6.2) for `text`; raise BadURL."""
    parts = _split(text)
    if parts.path or "?" in text or "#" in text or "@" in parts.netloc:
        raise BadURL("each must be http(s)://HOST[:PORT], without a path or a slash at the end")
    return _origin(parts)


def resource(text: str) -> str:
    """Return `text`, an absolute URI without a fragment (RFC 8707 section 2); raise BadURL.

    An http(s) URL must be in its one form, without a user or a query.
    """
    if not _URI.fullmatch(text):
        raise BadURL(
            "must be an absolute URI without a fragment, such as https://api.example (RFC 8707 section 2)"
        )
    if not text.lower().startswith(("http:", "https:")):
        return text
    parts = _split(text)
    if "?" in text or "@" in parts.netloc:
        raise BadURL("must be http(s)://HOST[:PORT][/PATH], without a user or a query")
    _require_plain_path(parts.path)
    return _required(text, f"{_origin(parts)}{parts.path}")


def _split(text: str) -> SplitResult:
    try:
        if not text.isprintable() or any(
            character.isspace() or character in '\\"<>^`{|}' for character in text
        ):
            raise ValueError  # noqa: TRY301 - as urlsplit does for others
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise BadURL("is not a URL: it holds a blank or another character that no URL has") from None
    if (
        parts.scheme not in DEFAULT_PORTS
        or not text[len(parts.scheme) :].startswith("://")
        or not parts.hostname
    ):
        raise BadURL("must begin with https:// (or http://) and a host")
    if port == 0 or parts.netloc.endswith(":"):
        raise BadURL("has a port that is none")
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
