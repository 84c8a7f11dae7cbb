"""Whether third-party libraries and programs are installed; without them a test is skipped, or fails in CI.

Libraries are installed by `make interop`; nginx, Apache and promtool are system packages, installed by `.ci/run`.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NODE = shutil.which("node")
JAVA = shutil.which("java")
ENVOY = HERE / "envoy" / "fetched" / "envoy" / "_bin" / "envoy"
APACHE_MODULES = Path("/usr/lib/apache2/modules")

_JOSE, _OAUTH = HERE / "jose" / "node_modules", HERE / "oauth" / "node_modules"
_PATHS: Mapping[str, Path] = {
    "jose": _JOSE / "jose",
    "openid-client": _OAUTH / "openid-client",
    "oauth4webapi": _OAUTH / "oauth4webapi",
    "express-oauth2-jwt-bearer": _OAUTH / "express-oauth2-jwt-bearer",
    "go-oidc": HERE / "go" / "verify",
    "Spring Security": HERE / "spring" / "target" / "jars",
    "Envoy": ENVOY,
    "mod_oauth2": APACHE_MODULES / "mod_oauth2.so",
    "mod_auth_openidc": APACHE_MODULES / "mod_auth_openidc.so",
}
_PROGRAMS: Mapping[str, str] = {
    **dict.fromkeys(("jose", "openid-client", "oauth4webapi", "express-oauth2-jwt-bearer"), "node"),
    "Spring Security": "java",
    "nginx": "nginx",
    "promtool": "promtool",
    "mod_oauth2": "apache2",
    "mod_auth_openidc": "apache2",
}


def missing_for(stack: str) -> str | None:
    """Return what is missing for a stack, or None if it can run."""
    program = _PROGRAMS.get(stack)
    if program and shutil.which(program) is None:
        return program
    path = _PATHS.get(stack)
    return (
        str(path.relative_to(HERE) if path.is_relative_to(HERE) else path)
        if path and not path.exists()
        else None
    )


def require(stack: str) -> None:
    """Skip the test unless the stack is installed; in CI, fail it."""
    if (lacking := missing_for(stack)) is None:
        return
    missing = f"{lacking} is missing, so {stack} was not tested: run `make interop`, and see `.ci/run`"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)
