"""The service under systemd by docs/deploy.md: its lines run unchanged in a booted machine.

Only `git clone …` is replaced, by a copy of this checkout, and pip's index by a folder of the same pinned wheels.
The other files are checked, without running them, in `test_deploy`.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from support.components import not_tested
from support.documents import sections
from support.servers import PATIENCE_SECONDS, eventually
from support.systemd_machine import GIVEN, Machine

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "deploy.md").read_text("utf-8")
INSTALL, OPERATE = re.split(
    r"(?=^cd /var/lib)", sections("deploy.md")["One node under systemd"], flags=re.MULTILINE
)
ENCRYPT, OPERATE_ENCRYPTED = re.split(
    r"(?=^passphrase=)", sections("deploy.md")["Encrypted passphrase"], flags=re.MULTILINE
)
INSTALL_EXPORTER = sections("deploy.md")["Traces"].partition("export ")[0]
SERVE_TLS = sections("deploy.md")["TLS"].strip()
EXPORTER = "fastapi[opentelemetry]"
FETCHING = 4
NO_INDEX = f"export PIP_NO_INDEX=1 PIP_FIND_LINKS={GIVEN}/wheels PIP_DISABLE_PIP_VERSION_CHECK=1\n"
CHECKOUT = (
    "issuer",
    "verifier_example",
    "docs",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "requirements.lock",
)
PASSWORD = "violet otters juggle pancakes"
URL = "http://127.0.0.1:8000"
UNIT = "/etc/systemd/system/issuer.service"
PYTHON = "/opt/issuer/.venv/bin/python"
KILLS = 7
"""By itself systemd starts a service five times in ten seconds, and then no more."""

SLOW = re.compile("key ring needs attention|service unavailable")
"""What a service logs as an error while the machine is so busy that a refresh takes seconds."""

LOAD = """
import http.client, json, sys, threading
stop, answered, failed = threading.Event(), [], []
def ask(method, path, body=None):
    while not stop.is_set():
        try:
            connection = http.client.HTTPConnection("127.0.0.1", 8000, timeout=120)
            connection.request(method, path, body, {"Content-Type": "application/x-www-form-urlencoded"})
            answer = connection.getresponse()
            answer.read()
            (answered if answer.status == 200 else failed).append(answer.status)
            connection.close()
        except Exception as error:
            failed.append(repr(error))
asked = [("GET", "/.well-known/jwks.json"), ("GET", "/readyz"), ("POST", "/login", sys.argv[1])]
threads = [threading.Thread(target=ask, args=each) for each in asked]
[thread.start() for thread in threads]
sys.stdin.read()
stop.set()
[thread.join() for thread in threads]
print(json.dumps({"answered": len(answered), "failed": failed}))
"""
"""Asks over and over, each time on a new connection, until its input ends."""


def wheels(python: str) -> Path:
    """Return a folder of what the lock names, and of an exporter of traces, for another Python of this system.

    It is fetched once for each content of the lock, and kept with the environment of the tests.
    """
    lock = ROOT / "requirements.lock"
    content = f"{python} {EXPORTER} {lock.read_text('utf-8')}"
    kept = Path(sys.prefix) / f"wheels-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    if not kept.is_dir():
        for old in Path(sys.prefix).glob("wheels-*"):
            shutil.rmtree(old, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=sys.prefix) as made:
            fetch_wheels(lock, Path(made), python)
            with suppress(OSError):  # another process was faster
                (Path(made) / "wheels").rename(kept)
    return kept


def fetch_wheels(lock: Path, folder: Path, python: str) -> None:
    """Download into the folder `wheels` there, by several processes, each of which waits for the index."""
    blocks = re.findall(r"^\S+==(?:.*\\\n)*.*\n", lock.read_text("utf-8"), re.MULTILINE)
    (folder / "pinned.txt").write_text("\n".join(block.split()[0] for block in blocks))
    wanted = [[f"--constraint={folder}/pinned.txt", EXPORTER]]
    for number in range(FETCHING):
        part = folder / f"{number}.txt"
        part.write_text("".join(blocks[number::FETCHING]))
        wanted.append(["--no-deps", "--require-hashes", f"--requirement={part}"])
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--only-binary", ":all:", "--python-version", python, "--dest", f"{folder}/wheels"]
    with ThreadPoolExecutor(len(wanted)) as at_once:
        fetched = list(
            at_once.map(
                lambda what: subprocess.run([*command, *what], capture_output=True, text=True, check=False),
                wanted,
            )
        )
    failed = [done.stderr for done in fetched if done.returncode]
    if failed:
        not_tested(f"the packages of requirements.lock could not be fetched: {failed}")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine in which the page's lines were run, and a user was added."""
    given = tmp_path_factory.mktemp("given")
    for name in CHECKOUT:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (given / "checkout").mkdir(exist_ok=True)
        copy(ROOT / name, given / "checkout" / name)
    with Machine(tmp_path_factory.mktemp("machine"), given) as machine:
        version = machine.run("python3 -c 'import sys; print(*sys.version_info[:2], sep=str(chr(46)))'")
        shutil.copytree(wheels(version.strip()), given / "wheels")
        assert "git clone …" in INSTALL
        machine.run(NO_INDEX + INSTALL.replace("git clone …", f"cp -r {GIVEN}/checkout"))
        until_ready(machine)
        adding = OPERATE.replace("keys list", "users add alice --password-stdin")
        machine.run(adding, stdin=PASSWORD)
        yield machine


@pytest.fixture
def service(machine: Machine) -> Machine:
    """The machine, with its service running and ready."""
    machine.run("systemctl start issuer")
    until_ready(machine)
    return machine


def until_ready(machine: Machine) -> None:
    """Wait until the service says that it is ready, with all of its workers."""
    asked = f"curl -s -o /dev/null -w '%{{http_code}}' {URL}/readyz"
    eventually(
        lambda: machine.run(asked, check=False) == "200" and len(workers(machine)) == 2,
        "the service is ready",
    )


def log(machine: Machine) -> str:
    return machine.run("journalctl --unit issuer --lines 20 --output cat")


def workers(machine: Machine) -> set[str]:
    """Return the processes that serve: those that were forked by the one which forks, and run its command."""
    lines = machine.run("ps -eo pid=,ppid=,args= | grep '[m]ultiprocessing.forkserver' || true").splitlines()
    parents = {pid: parent for pid, parent, _ in (line.split(maxsplit=2) for line in lines)}
    return {pid for pid, parent in parents.items() if parent in parents}


def logged_in(machine: Machine) -> dict[str, Any]:
    data = f"-d username=alice --data-urlencode 'password={PASSWORD}'"
    answer: dict[str, Any] = json.loads(machine.run(f"curl -sS {data} {URL}/login"))
    return answer


@contextmanager
def load(machine: Machine) -> Iterator[None]:
    """Ask without a pause in this block; fail unless all was answered."""
    form = f"username=alice&password={PASSWORD.replace(' ', '+')}"
    asking = machine.start(PYTHON, "-c", LOAD, form)
    try:
        yield
    finally:
        out, err = asking.communicate("", timeout=PATIENCE_SECONDS)
    assert not err
    counts = json.loads(out)
    assert counts["failed"] == []
    assert counts["answered"] > 100


@contextmanager
def changed(machine: Machine, lines: str) -> Iterator[None]:
    """Let other lines hold for the service in this block, from its next start on."""
    machine.run(f"mkdir {UNIT}.d && cat > {UNIT}.d/test.conf", stdin=f"[Service]\n{lines}\n")
    machine.run("systemctl daemon-reload")
    try:
        yield
    finally:
        machine.run(f"rm -r {UNIT}.d && systemctl daemon-reload")


def test_the_lines_of_the_page_make_a_service_that_people_log_in_to(service: Machine) -> None:
    assert logged_in(service)["token_type"].lower() == "bearer"
    key_set = json.loads(service.run(f"curl -sS {URL}/.well-known/jwks.json"))
    assert len(key_set["keys"]) == 2
    shown = service.show("issuer")
    assert (shown["UnitFileState"], shown["User"], shown["NRestarts"]) == ("enabled", "issuer", "0")
    lines = [line for line in log(service).splitlines() if '"level"' in line]
    assert lines
    assert [line for line in lines if '"level": "info"' not in line and not SLOW.search(line)] == []


def test_the_operators_line_shows_the_keys_of_the_service(service: Machine) -> None:
    assert re.findall(r"^(current|standby) ", service.run(OPERATE), re.MULTILINE) == ["current", "standby"]


def test_a_reload_replaces_the_workers_and_loses_no_request(service: Machine) -> None:
    before, main = workers(service), service.show("issuer")["MainPID"]
    with load(service):
        service.run("systemctl reload issuer")
        eventually(lambda: len(now := workers(service)) == 2 and not now & before, "workers are new")
    assert service.show("issuer")["MainPID"] == main


def test_a_stop_ends_well_under_load_and_a_restart_comes_back(service: Machine) -> None:
    asking = service.start(PYTHON, "-c", LOAD, f"username=alice&password={PASSWORD.replace(' ', '+')}")
    service.run("systemctl stop issuer")
    asking.communicate("", timeout=PATIENCE_SECONDS)
    shown = service.show("issuer")
    assert (shown["ActiveState"], shown["Result"], shown["ExecMainStatus"]) == ("inactive", "success", "0")
    service.run("systemctl restart issuer")
    until_ready(service)


def test_it_comes_back_however_often_it_is_killed(service: Machine) -> None:
    with changed(service, "RestartSec=100ms"):  # so that it is often within ten seconds, however busy this is
        main = service.show("issuer")["MainPID"]
        for _ in range(KILLS):
            service.run(f"kill -9 {main}")

            def other(killed: str = main) -> str:
                shown = service.show("issuer")
                assert shown["Result"] != "start-limit-hit"
                return (
                    shown["MainPID"]
                    if shown["ActiveState"] == "active" and shown["MainPID"] != killed
                    else ""
                )

            main = eventually(other, "it is started again")
    until_ready(service)
    assert logged_in(service)["token_type"].lower() == "bearer"


def test_the_service_is_confined_as_documented(service: Machine) -> None:
    unit = service.run(f"cat {UNIT}")
    for name, value in (
        ("ExecStart", f"{PYTHON} /opt/issuer/confined.py"),
        ("Type", "oneshot"),
        ("Restart", "no"),
    ):
        unit = re.sub(rf"^{name}=.*$", f"{name}={value}", unit, flags=re.MULTILINE)
    service.run(
        "cat > /opt/issuer/confined.py", stdin=(ROOT / "tests" / "support" / "confined.py").read_text("utf-8")
    )
    service.run("cat > /etc/systemd/system/confined.service && systemctl daemon-reload", stdin=unit)
    service.run("systemctl start confined")
    found = json.loads(service.run("journalctl --unit confined --output cat | grep '^{'"))
    written = {folder for folder in found["written"] if not folder.startswith("/var/lib/issuer/")}
    assert written == {"/tmp", "/var/tmp", "/var/lib/issuer"}  # noqa: S108
    assert found["executed"] == found["allowed"] == found["processes"] == []
    assert service.run("ls -A /var/tmp /tmp | grep probe || true") == ""


def test_the_exposure_level_is_as_documented(service: Machine) -> None:
    (said,) = re.findall(r"`systemd-analyze security issuer` rates its exposure (\d\.\d) of 10", PAGE)
    assert f" {said} OK" in service.run("systemd-analyze security --no-pager issuer").splitlines()[-1]


def test_a_renewed_certificate_is_served_after_a_reload(service: Machine) -> None:
    make = (
        "cd /etc/issuer && openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=issuer.example -days 1"
        " -keyout key.pem -out fullchain.pem 2>/dev/null && chgrp issuer *.pem && chmod 640 *.pem"
    )
    served = "openssl s_client -connect 127.0.0.1:8443 </dev/null 2>/dev/null | openssl x509 -noout -serial"
    command = re.sub(r"(\w+\.pem)", r"/etc/issuer/\1", f"{Path(PYTHON).parent}/{SERVE_TLS}")
    service.run(make)
    with changed(service, f"ExecStart=\nExecStart={command}"):
        service.run("systemctl restart issuer")
        before = eventually(lambda: service.run(served, check=False), "it speaks TLS")
        service.run(f"({make}) && systemctl reload issuer")
        eventually(
            lambda: service.run(served, check=False) not in {before, ""},
            "the new one is served",
        )
    service.run("systemctl restart issuer")
    until_ready(service)


def test_the_exporter_of_traces_is_installed_beside_the_issuer(service: Machine) -> None:
    assert EXPORTER in INSTALL_EXPORTER
    service.run(f"{NO_INDEX}cd /opt/issuer\n{INSTALL_EXPORTER}")
    service.run(f"{PYTHON} -c 'import opentelemetry.exporter.otlp.proto.http'")


def test_the_passphrase_may_be_encrypted_on_disk(service: Machine) -> None:
    service.run(ENCRYPT)
    until_ready(service)
    assert service.run("ls /etc/issuer/passphrase* ").split() == ["/etc/issuer/passphrase.cred"]
    assert logged_in(service)["token_type"].lower() == "bearer"
    assert "standby" in service.run(OPERATE_ENCRYPTED)
