"""Files that settings name: certificates of authorities, and the operator's logo.

The passphrase is read by `passphrase`; the logo is served by `web.pages.style`.
"""

import re
import ssl
import stat
from dataclasses import dataclass, field
from pathlib import Path

LOGO_MOST_BYTES = 256 * 1024

_MARKUP = rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*|<!--.*?-->\s*|<!DOCTYPE svg[^>]*>\s*)*<svg[\s>]"
_SIGNATURES = (
    ("image/png", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("image/jpeg", re.compile(rb"\xff\xd8\xff")),
    ("image/webp", re.compile(rb"RIFF.{4}WEBP", re.DOTALL)),
    ("image/svg+xml", re.compile(_MARKUP, re.DOTALL)),
)
"""How images begin, by media type."""


class BadFile(ValueError):
    """A file cannot be used; the message says why, without its name."""


@dataclass(frozen=True)
class LogoImage:
    """An image and its media type."""

    content: bytes = field(repr=False)
    media_type: str


def read_authorities(path: Path) -> ssl.SSLContext:
    """Return a context that trusts the certificates in a file; raise BadFile."""
    context = ssl.create_default_context()
    try:
        _require_regular(path)
        context.load_verify_locations(cafile=path)
    except OSError as error:  # an SSLError is one
        why = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise BadFile(why) from error
    return context


def read_logo(path: Path) -> LogoImage:
    """Return the image in a file; raise BadFile, also if it is of another kind or too large."""
    try:
        _require_regular(path)
        with path.open("rb") as file:
            content = file.read(LOGO_MOST_BYTES + 1)
    except OSError as error:
        raise BadFile(error.strerror) from error
    if len(content) > LOGO_MOST_BYTES:
        raise BadFile(f"it is larger than {LOGO_MOST_BYTES // 1024} KiB; use a smaller image")
    for media_type, beginning in _SIGNATURES:
        if beginning.match(content):
            return LogoImage(content, media_type)
    raise BadFile("it is not an SVG, PNG, JPEG or WebP image")


def _require_regular(path: Path) -> None:
    """Raise OSError or BadFile unless `path` is a regular file: a pipe may have no end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise BadFile("it is not a regular file")
