"""The SMTP server of the installation, as one URL names it.

Sending is the work of `smtp`.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import parse_qsl, unquote, urlsplit

from issuer.urls import is_loopback

FORM = "smtp[s]://[USER:PASSWORD@]HOST[:PORT][?starttls=off]"


class Security(StrEnum):
    """How a connection is protected."""

    TLS = "tls"
    """From its first byte, RFC 8314 section 3.3."""
    STARTTLS = "starttls"
    """By STARTTLS, RFC 3207; a server without it is refused."""
    NONE = "none"


PORTS = {Security.TLS: 465, Security.STARTTLS: 587, Security.NONE: 25}


@dataclass(frozen=True)
class MailServer:
    """Where mails are handed over, and by whom they are sent."""

    host: str
    port: int
    security: Security
    username: str | None = None
    password: str | None = field(default=None, repr=False)


def parse_smtp_url(text: str) -> MailServer:
    """Return the server that a URL names; raise ValueError, whose message has no part of it.

    STARTTLS is demanded, except of a server on this machine; `?starttls=on` or `off` says otherwise.
    """
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise ValueError(f"is not a URL of the form {FORM}") from None
    has_more = parts.path not in {"", "/"} or parts.fragment or options.keys() - {"starttls"}
    if parts.scheme not in {"smtp", "smtps"} or not host or port == 0 or has_more or not text.isprintable():
        raise ValueError(f"is not a URL of the form {FORM}")
    security = _security(parts.scheme, host, options.get("starttls"))
    username, password = (unquote(each) if each else None for each in (parts.username, parts.password))
    if (username is None) != (password is None):
        raise ValueError("has a user or a password, but not both")
    if not f"{username}{password}".isascii():
        raise ValueError("has a user or a password with other than ASCII characters, which SMTP cannot send")
    if password and security is Security.NONE and not _is_local(host):
        raise ValueError("would send the password in plain text: remove starttls=off, or write smtps://")
    return MailServer(host, port or PORTS[security], security, username, password)


def _security(scheme: str, host: str, starttls: str | None) -> Security:
    if starttls not in {None, "on", "off"} or (scheme == "smtps" and starttls is not None):
        raise ValueError("has starttls=on or starttls=off with smtp:// only, and no other value of it")
    if scheme == "smtps":
        return Security.TLS
    is_on = starttls == "on" or (starttls is None and not _is_local(host))
    return Security.STARTTLS if is_on else Security.NONE


def _is_local(host: str) -> bool:
    return is_loopback(f"http://[{host}]" if ":" in host else f"http://{host}")
