"""Loads the certificates of authorities that are trusted in addition to the system's."""

import ssl
import stat
from pathlib import Path


def load_authorities(path: Path) -> ssl.SSLContext:
    """Return the system's authorities and those in a PEM file; raise ValueError, which says what is wrong with it."""
    context = ssl.create_default_context()
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe may have no end
            raise ValueError("it is not a regular file")
        context.load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        raise ValueError("it holds no certificate") from error
    except OSError as error:
        raise ValueError(error.strerror) from error
    return context
