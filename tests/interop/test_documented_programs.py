"""The programs of docs/clients.md get tokens from a real issuer, and use them at the example service."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from support.components import INTEROP, require
from support.documents import programs
from support.servers import PATIENCE_SECONDS, Installation

PROGRAMS = programs("clients.md")
ITEMS = "a first item"
PRINTED = {
    "machine.py": [ITEMS, ITEMS],
    "machine_authlib.py": [ITEMS],
    "machine.mjs": [ITEMS],
    "session.py": ["items:read"],
    "session.mjs": ["items:read"],
}
"""What is in each line that a program prints."""
BOB = ("bob", "quiet herons paint bridges")


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with Installation(tmp_path_factory.mktemp("programs")) as issuer:
        issuer.serve().until_ready()
        machine = issuer.command("clients", "add", "billing run", "--scope", "items:read", "--json")
        added = issuer.command(
            "users", "add", BOB[0], "--scope", "items:read", "--password-stdin", stdin=BOB[1]
        )
        assert (machine.code, added.code) == (0, 0)
        (issuer.folder / "machine.json").write_text(machine.out)
        (issuer.folder / "node_modules").symlink_to(INTEROP / "oauth" / "node_modules")
        for name, program in PROGRAMS.items():
            local = program.replace("http://127.0.0.1:8000", issuer.url)
            local = local.replace("http://127.0.0.1:8001", issuer.service_url)
            (issuer.folder / name).write_text(local)
        issuer.serve_service().until_ready()
        yield issuer


def test_every_program_of_the_page_is_run() -> None:
    assert set(PROGRAMS) == set(PRINTED)


@pytest.mark.parametrize("name", PRINTED)
def test_a_program_gets_a_token_and_uses_it(name: str, issuer: Installation) -> None:
    if name.endswith(".mjs"):
        require("openid-client")
    command = ["node", name] if name.endswith(".mjs") else [sys.executable, "-P", name]
    done = subprocess.run(
        command,
        cwd=issuer.folder,
        env={**os.environ, "no_proxy": "127.0.0.1"},  # requests would ask a proxy for loopback
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for line, expected in zip(done.stdout.splitlines(), PRINTED[name], strict=True):
        assert expected in line


@pytest.mark.parametrize(("lifetime", "tokens"), [(600, 1), (20, 2)])
def test_the_machine_gets_a_token_only_when_the_last_one_is_about_to_expire(
    lifetime: int, tokens: int, issuer: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        requests.append(request.headers.get("authorization", "no token"))
        made = f"t{requests.count('no token')}"
        return httpx2.Response(200, json={"access_token": made, "expires_in": lifetime})

    transport, client = httpx2.MockTransport(answer), httpx2.Client
    monkeypatch.setattr(httpx2, "Client", lambda **options: client(transport=transport, **options))
    monkeypatch.chdir(issuer.folder)
    names: dict[str, Any] = {"__name__": "machine"}
    exec(Path("machine.py").read_text(), names)  # noqa: S102
    assert requests.count("no token") == tokens
    assert [each for each in requests if each != "no token"] == ["Bearer t1", f"Bearer t{tokens}"]
