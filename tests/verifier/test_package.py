"""The library as others get it: installed into an environment of its own, from a folder or a repository, or copied.

What it does is tested in the other files of this folder, with the editable installation.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from support.components import not_tested, require

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "verifier_example"
PACKAGES_MOST = 15
SECONDS = 300
pytestmark = pytest.mark.processes
PIP = (sys.executable, "-I", "-m", "pip", "--disable-pip-version-check")

VERIFY = """
import asyncio
from {name} import InvalidToken, JwksCache, TokenVerifier
from {name}.testing import InProcessIssuer

async def main():
    issuer = InProcessIssuer()
    verifier = TokenVerifier(JwksCache(issuer.url, transport=issuer.transport), "https://api.test")
    async with verifier:
        token = await verifier.verify(issuer.make_token(aud="https://api.test", scope="items:read"))
        assert token.scopes == {{"items:read"}}
        try:
            await verifier.verify(issuer.make_token(aud="https://other.test"))
        except InvalidToken:
            print("verified")

asyncio.run(main())
"""
PROTECT = """
import asyncio, httpx2
from contextlib import asynccontextmanager
from typing import Annotated
from fastapi import FastAPI, Security
from {name} import AccessToken, JwksCache, TokenVerifier
from {name}.fastapi import CurrentUser
from {name}.testing import InProcessIssuer

issuer = InProcessIssuer()
verifier = TokenVerifier(JwksCache(issuer.url, transport=issuer.transport), "https://api.test")
current_user = CurrentUser(verifier, token_url=issuer.url + "/login")
app = FastAPI()

@app.get("/me")
async def me(user: Annotated[AccessToken, Security(current_user)]) -> str:
    return user.subject

async def main():
    headers = {{"Authorization": "Bearer " + issuer.make_token(aud="https://api.test")}}
    async with verifier, httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://x") as client:
        print((await client.get("/me", headers=headers)).text, (await client.get("/me")).status_code)

asyncio.run(main())
"""


def run(*command: str | Path, folder: Path, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


class Environment:
    """A new virtual environment without packages."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._python = folder / "environment" / "bin" / "python"
        run(sys.executable, "-m", "venv", "--without-pip", "environment", folder=folder)

    def install(self, requirement: str) -> None:
        """Install it with the versions of the lock; without a package index skip the test, in CI fail it."""
        lock = (ROOT / "requirements.lock").read_text("utf-8")
        pins = self._folder / "pins.txt"
        pins.write_text("\n".join(re.findall(r"^(\S+==.*?) *\\$", lock, re.MULTILINE)))
        done = self._pip("install", "--constraint", str(pins), requirement)
        if done.returncode and "No matching distribution" in done.stderr:
            not_tested(f"{requirement} was NOT tested: no package index can be reached")
        assert done.returncode == 0, done.stderr

    def packages(self) -> set[str]:
        return {each.partition("==")[0] for each in self._pip("list", "--format=freeze").stdout.split()}

    def run(self, lines: str) -> str:
        return run(self._python, "-I", "-c", lines.format(name="jwks_verifier"), folder=self._folder)

    def _pip(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*PIP, "--python", str(self._python), *arguments]
        return subprocess.run(
            command, cwd=self._folder, capture_output=True, text=True, timeout=SECONDS, check=False
        )


def test_the_folder_installs_alone_with_few_packages_and_verifies_a_token(tmp_path: Path) -> None:
    environment = Environment(tmp_path)
    environment.install(str(LIBRARY))
    packages = environment.packages()
    assert "jwks-verifier" in packages
    assert not packages & {"jwks-issuer", "fastapi"}
    assert len(packages) < PACKAGES_MOST, packages
    assert environment.run(VERIFY) == "verified"


def test_it_installs_from_a_repository_with_the_extra_and_protects_a_route(tmp_path: Path) -> None:
    require("git")
    repository = tmp_path / "repository"
    shutil.copytree(LIBRARY, repository / "verifier_example", symlinks=True)
    author = {f"GIT_{role}_{what}": "a" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    run("git", "init", "--quiet", folder=repository)
    run("git", "add", ".", folder=repository)
    run("git", "commit", "--quiet", "--message=all", folder=repository, environment=author)
    # With a host, which pip demands in a URL after a name.
    url = f"git+file://localhost{repository}#subdirectory=verifier_example"
    environment = Environment(tmp_path)
    environment.install(f"jwks-verifier[fastapi] @ {url}")
    assert environment.run(PROTECT) == '"u1" 401'


def test_a_copy_of_the_folder_under_another_name_works_beside_a_script(tmp_path: Path) -> None:
    shutil.copytree(LIBRARY / "src" / "jwks_verifier", tmp_path / "tokens")
    alone = "import sys; assert not {'jwks_verifier', 'verifier_example', 'issuer'} & sys.modules.keys()\n"
    for lines, printed in ((VERIFY, "verified"), (PROTECT, '"u1" 401')):
        (tmp_path / "script.py").write_text(lines.format(name="tokens") + alone)
        assert run(sys.executable, "script.py", folder=tmp_path) == printed


def test_the_issuers_distribution_has_the_example_and_no_copy_of_the_library(tmp_path: Path) -> None:
    run(
        *PIP,
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        tmp_path,
        str(ROOT),
        folder=tmp_path,
    )
    (wheel,) = tmp_path.glob("jwks_issuer-*.whl")
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert {name.partition("/")[0] for name in names} == {"issuer", "verifier_example"}
    example = {path.name for path in LIBRARY.glob("*.py")} | {"py.typed", "connections"}
    assert {name.split("/")[1] for name in names if name.startswith("verifier_example/")} == example


def test_issuer_and_library_have_the_same_license_and_the_same_oldest_versions() -> None:
    def project(folder: Path) -> dict[str, Any]:
        found: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
        return found

    issuer, library = project(ROOT), project(LIBRARY)
    needed = {*library["dependencies"], *library["optional-dependencies"]["fastapi"]}
    assert needed <= set(issuer["dependencies"])
    assert library["requires-python"] == issuer["requires-python"]
    assert (LIBRARY / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
