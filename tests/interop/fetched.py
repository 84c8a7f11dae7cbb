"""Owns which libraries `make interop` must have fetched, and what a test does without them: skip, or fail in CI."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NODE = shutil.which("node")

_JOSE, _OAUTH = HERE / "jose" / "node_modules", HERE / "oauth" / "node_modules"
_ON_NODE: Mapping[str, Path] = {
    "jose": _JOSE / "jose",
    "openid-client": _OAUTH / "openid-client",
    "oauth4webapi": _OAUTH / "oauth4webapi",
    "express-oauth2-jwt-bearer": _OAUTH / "express-oauth2-jwt-bearer",
}
FETCHED: Mapping[str, Path] = {**_ON_NODE, "go-oidc": HERE / "go" / "verify"}


def lack(library: str) -> str | None:
    """Return what a library lacks to run, or None: `make interop` has been run, or need not be."""
    if library in _ON_NODE and NODE is None:
        return "Node.js"
    path = FETCHED.get(library)
    return str(path.relative_to(HERE)) if path and not path.exists() else None


def require(library: str) -> None:
    """Skip the test unless the library is here; in CI, fail it."""
    if (lacking := lack(library)) is None:
        return
    missing = f"{lacking} is missing, so {library} was not asked: run `make interop`"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)
