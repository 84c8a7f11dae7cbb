"""Nothing is imported from the folder in which the issuer runs, because the service may write there.

An attacker could leave a module there, which the next start would run. Commands in documents are tested in
`test_documents`.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.servers import Installation, Server, eventually, is_running

ISSUER = str(Path(sys.executable).with_name("issuer"))
NAMES = (
    *(
        "json",
        "signal",
        "socket",
        "selectors",
        "threading",
        "tempfile",
        "pickle",
        "random",
        "logging",
        "typing",
    ),
    *(
        "sitecustomize",
        "usercustomize",
        "encodings",
        "multiprocessing",
        "asyncio",
        "sqlite3",
        "_strptime",
        "ssl",
    ),
    *(
        "uvicorn",
        "uvloop",
        "httptools",
        "structlog",
        "sqlalchemy",
        "fastapi",
        "alembic",
        "dotenv",
        "jwt",
        "httpx2",
    ),
    *(
        "issuer",
        "jwks_verifier",
        "verifier_example",
        "prometheus_client",
        "opentelemetry",
        "click",
        "typer",
        "rich",
        "pkcs11",
    ),
)


@pytest.fixture
def planted(initialized: Installation) -> Installation:
    """An installation whose folder holds modules that leave a mark when they are imported."""
    assert initialized.machine  # made before: `python -m` looks into the folder by itself
    mark = initialized.folder / "imported"
    for name in NAMES:
        code = (
            f"open({str(mark)!r}, 'a').write({name + chr(10)!r})\nraise SystemExit('{name} was imported')\n"
        )
        (initialized.folder / f"{name}.py").write_text(code)
        package = initialized.folder / name
        package.mkdir()
        (package / "__init__.py").write_text(code)
        (package / "__main__.py").write_text(code)
    (initialized.folder / "alembic.ini").write_text("[alembic]\nprepend_sys_path = .\n")
    return initialized


def require_nothing_imported(installation: Installation) -> None:
    mark = installation.folder / "imported"
    assert not mark.exists(), f"imported from the working folder: {set(mark.read_text().split())}"


def serve(installation: Installation, workers: int) -> Server:
    """Start it as the unit does: by the command that is installed, without settings of Python's."""
    installation.settings.pop("PYTHONSAFEPATH", None)
    return installation._start(
        [ISSUER, "serve", "--port", str(installation.port), "--workers", str(workers)],
        installation.port,
        workers,
    )


@pytest.mark.parametrize("place", ["usual", "deep"])
def test_workers_and_the_fork_server_import_nothing_from_the_working_folder(
    planted: Installation, place: str
) -> None:
    if place == "deep":  # where workers are started from nothing
        deep = planted.temporary / ("deep" * 20)
        deep.mkdir()
        planted.settings["TMPDIR"] = str(deep)
    server = serve(planted, 2).until_ready()
    require_nothing_imported(planted)
    assert planted.token()
    before = set(server.worker_pids)
    os.kill(min(before), signal.SIGKILL)
    eventually(lambda: len(server.worker_pids) == 3, "it is replaced")
    server.process.send_signal(signal.SIGHUP)
    eventually(lambda: not any(map(is_running, before)), "all are replaced")
    server.until_ready().stop()
    require_nothing_imported(planted)


@pytest.mark.parametrize(
    "arguments", [["check"], ["keys", "list"], ["keys", "rotate", "--dry-run"], ["users", "list", "--json"]]
)
def test_commands_import_nothing_from_the_working_folder(planted: Installation, arguments: list[str]) -> None:
    done = subprocess.run(
        [ISSUER, *arguments],
        cwd=planted.folder,
        env=planted._environment({}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    require_nothing_imported(planted)
