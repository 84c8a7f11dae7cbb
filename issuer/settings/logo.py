"""Loads the operator's logo: an image of a known kind and a bounded size. It is served by `web.pages.style`."""

import re
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


@dataclass(frozen=True)
class Logo:
    """An image and its media type."""

    content: bytes = field(repr=False)
    media_type: str


def load_logo(path: Path) -> Logo:
    """Return the image in a file; raise ValueError, which says what is wrong with it."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe may have no end
            raise ValueError("it is not a regular file")
        with path.open("rb") as file:
            content = file.read(LOGO_MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(error.strerror) from error
    if len(content) > LOGO_MOST_BYTES:
        raise ValueError(f"it is larger than {LOGO_MOST_BYTES // 1024} KiB; use a smaller image")
    for media_type, beginning in _SIGNATURES:
        if beginning.match(content):
            return Logo(content, media_type)
    raise ValueError("it is not an SVG, PNG, JPEG or WebP image")
