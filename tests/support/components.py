"""Programs and libraries that tests need besides the Python packages, and how to install each.

A test without its component is skipped on a developer's machine, and fails where CI=true.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

APACHE_MODULES = Path("/usr/lib/apache2/modules")
INTEROP = Path(__file__).parents[1] / "interop"
FETCH = "make interop"


@dataclass(frozen=True)
class Component:
    """Something that may be missing: all its programs and files have to be there."""

    packages: str
    """Debian packages, or empty for what only `make interop` fetches."""
    programs: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    """Paths or patterns, relative ones below tests/interop: those are fetched by `make interop`."""

    def missing(self) -> list[str]:
        """Return the programs and files that are not there."""
        programs = [name for name in self.programs if program(name) is None]
        return [*programs, *(file for file in self.files if not _exists(file))]

    @property
    def install(self) -> str:
        """The command that installs it."""
        packages = f"apt-get install {self.packages}" if self.packages else ""
        fetched = FETCH if any(not Path(file).is_absolute() for file in self.files) else ""
        return " && ".join(filter(None, (packages, fetched)))


def program(name: str) -> str | None:
    """Return the path of a program, if there is one: Debian keeps some out of the PATH of users."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _exists(file: str) -> bool:
    path = INTEROP / file  # an absolute path stays as it is
    return any(Path(path.anchor).glob(str(path.relative_to(path.anchor))))


def _node(package: str, folder: str) -> Component:
    return Component("nodejs npm", ("node",), (f"{folder}/node_modules/{package}",))


COMPONENTS: Mapping[str, Component] = {
    "PostgreSQL": Component("postgresql", files=("/usr/lib/postgresql/*/bin/initdb",)),
    "psql": Component("postgresql", ("psql",)),
    "PgBouncer": Component("pgbouncer", ("pgbouncer",)),
    "SoftHSM": Component("softhsm2", ("softhsm2-util",), ("/usr/lib/softhsm/libsofthsm2.so",)),
    "Chromium": Component("chromium", ("chromium",)),
    "curl": Component("curl", ("curl",)),
    "OpenSSL": Component("openssl", ("openssl",)),
    "prlimit": Component("util-linux", ("prlimit",)),
    "git": Component("git", ("git",)),
    "patch": Component("patch", ("patch",)),
    "systemd": Component("systemd", ("systemd-analyze",)),
    "systemd-nspawn": Component("systemd-container", ("systemd-nspawn", "nsenter", "unshare")),
    "nginx": Component("nginx", ("nginx",)),
    "promtool": Component("prometheus", ("promtool",)),
    "mod_oauth2": Component(
        "apache2-bin libapache2-mod-oauth2", ("apache2",), (f"{APACHE_MODULES}/mod_oauth2.so",)
    ),
    "mod_auth_openidc": Component(
        "apache2-bin libapache2-mod-auth-openidc", ("apache2",), (f"{APACHE_MODULES}/mod_auth_openidc.so",)
    ),
    "jose": _node("jose", "jose"),
    "openid-client": _node("openid-client", "oauth"),
    "oauth4webapi": _node("oauth4webapi", "oauth"),
    "oidc-client-ts": _node("oidc-client-ts", "oauth"),
    "express-oauth2-jwt-bearer": _node("express-oauth2-jwt-bearer", "oauth"),
    "axe-core": Component("npm", files=("pages/node_modules/axe-core/axe.min.js",)),
    "Java": Component("default-jdk-headless", ("java", "javac")),
    "go-oidc": Component("golang-go", files=("go/verify", "go/sign_in")),
    "Spring Security": Component("default-jdk-headless maven", ("java",), ("spring/target/jars",)),
    "Spring Boot": Component("default-jdk-headless maven", ("java",), ("spring_boot/target/jars",)),
    "idpyoidc": Component("", files=("idpyoidc/fetched/idpyoidc",)),
    "oauth2-proxy": Component("golang-go", files=("oauth2_proxy/oauth2-proxy",)),
    "Envoy": Component("", files=("envoy/fetched/envoy/_bin/envoy",)),
}
"""By name; Python packages that tests need are installed with them, and are not listed."""


def missing_for(name: str) -> str | None:
    """Return what is missing for a component and how to install it, or None if nothing is."""
    component = COMPONENTS.get(name)
    lacking = component.missing() if component else []
    return f"{', '.join(lacking)} missing ({component.install})" if component and lacking else None


def require(name: str) -> None:
    """Skip the test unless the component is installed; fail it in CI."""
    if missing := missing_for(name):
        not_tested(f"{name} was NOT tested: {missing}")


def require_root() -> None:
    """Skip the test for another user than root; fail it in CI."""
    if os.geteuid() != 0:
        not_tested("NOT tested: only root can do that")


def not_tested(why: str) -> NoReturn:
    """Skip the test for something that an installation or another user would provide; fail it in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


def not_possible(why: str) -> NoReturn:
    """Skip the test for something that this machine forbids, whatever is installed: in CI, too."""
    pytest.skip(f"NOT tested: {why}")
