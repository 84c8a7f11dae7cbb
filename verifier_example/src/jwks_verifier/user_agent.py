"""The `User-Agent` of fetches: program, version, the name of the service, and an id of this process."""

import os
import re
import secrets
from functools import cache
from importlib import metadata

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


def user_agent(name: str | None) -> str:
    """Return `jwks-verifier/VERSION (NAME; INSTANCE)`; raise ValueError for a name that cannot be sent.

    The instance is random for each process, and tells the issuer how many there are at least.
    """
    if name is not None and not _NAME.fullmatch(name):
        raise ValueError(
            f"a name is 1 to 64 letters, digits, dots, dashes and underscores, not {name!a:.200}"
        )
    instance = _instance(os.getpid())
    return f"jwks-verifier/{_version()} ({f'{name}; ' if name else ''}{instance})"


@cache
def _instance(_pid: int) -> str:
    """Return the id of the process; one that was forked gets its own."""
    return secrets.token_hex(4)


@cache
def _version() -> str:
    try:
        return metadata.version("jwks-verifier")
    except metadata.PackageNotFoundError:  # copied into another program
        return "0"
