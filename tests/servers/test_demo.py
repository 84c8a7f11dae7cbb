"""`issuer demo`: its scenario, the README's lines against it, and what prevents it.

It runs on free ports here, so that a demo may run on this machine meanwhile.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.components import require
from support.servers import PATIENCE_SECONDS, free_port
from support.warm_programs import PROGRAMS

from issuer.cli import demo
from issuer.cli.demo_servers import HOST, Ports, Servers
from issuer.cli.output import CommandError

REAL = (sys.executable, "-m", "issuer.cli")
"""Of the one test that starts the demo and all its servers as users do."""


@pytest.fixture
def ports() -> Ports:
    return Ports(free_port(), free_port())


def on(ports: Ports, *program: str) -> list[str]:
    """Return the command."""
    program = program or (PROGRAMS.issuer,)
    return [*program, "demo", "--port", str(ports.issuer), "--service-port", str(ports.service)]


@contextmanager
def listening(port: int) -> Iterator[None]:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((HOST, port))
        taken.listen()
        yield


def nothing_left(folder: Path, ports: Ports) -> bool:
    for port in (ports.issuer, ports.service):
        with listening(port):
            pass
    return not list(folder.glob("demo-*"))


def test_the_lines_of_the_readme_work_against_the_running_demo(tmp_path: Path, ports: Ports) -> None:
    require("curl")
    process = subprocess.Popen(
        on(ports, *REAL),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout
        printed = ""
        for line in process.stdout:
            printed += line
            if line.startswith("Ctrl-C"):
                break
        (export,) = re.findall(r"^export .*$", printed, re.MULTILINE)
        assert ports.curl_lines in printed
        script = f"set -euo pipefail\n{export}\n{ports.curl_lines}"
        done = subprocess.run(
            ["bash", "-c", script], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
        )
        assert done.returncode == 0, printed + done.stderr
        assert '{"message":"Hello, demo"}' in done.stdout
        assert '"username":"demo"' in done.stdout
        assert "a first item" in done.stdout
        assert '"kty":"RSA"' in done.stdout
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(PATIENCE_SECONDS) == 0
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(PATIENCE_SECONDS)
        assert process.stdout
        process.stdout.close()
    assert nothing_left(tmp_path, ports)


def test_the_scenario_passes_and_leaves_nothing_behind(tmp_path: Path, ports: Ports) -> None:
    done = subprocess.run(
        [*on(ports), "--once"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All steps passed." in done.stdout
    assert done.stdout.count("✓") == 9
    assert f'"iss": "{ports.issuer_url}"' in done.stdout
    assert f'"aud": ["{ports.service_url}"' in done.stdout
    assert nothing_left(tmp_path, ports)


@pytest.mark.parametrize("option", ["--port", "--service-port"])
def test_a_taken_port_that_was_asked_for_is_one_clear_line_and_nothing_is_left(
    tmp_path: Path, option: str
) -> None:
    port = free_port()
    with listening(port):
        done = subprocess.run(
            [PROGRAMS.issuer, "demo", "--once", option, str(port)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    assert done.returncode == 1
    assert re.fullmatch(rf"failed: cannot listen on 127\.0\.0\.1:{port}: .* {option}\n", done.stderr)
    assert not list(tmp_path.iterdir())


def test_the_next_free_ports_are_used_if_the_default_ones_are_taken(
    ports: Ports, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "ISSUER_PORT", ports.issuer)
    monkeypatch.setattr(demo, "SERVICE_PORT", ports.service)
    with listening(ports.issuer):
        chosen = demo.choose_ports(None, None)
    assert chosen.service == ports.service
    assert chosen.issuer > ports.issuer
    assert capsys.readouterr().err == (
        f"note: port {ports.issuer} is taken, so the issuer listens on {chosen.issuer};"
        " --port chooses another one\n"
    )
    assert demo.choose_ports(ports.service, None).service > ports.service
    assert demo.choose_ports(None, ports.issuer).issuer > ports.issuer


class Impostor(BaseHTTPRequestHandler):
    """Says that it is ready, as any process may that was faster to listen on a free port."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def test_another_process_that_is_ready_on_the_port_is_not_taken_for_the_issuer(tmp_path: Path) -> None:
    with ThreadingHTTPServer((HOST, 0), Impostor) as impostor:
        threading.Thread(target=impostor.serve_forever).start()
        ports = Ports(impostor.server_port, free_port())
        try:
            with (
                pytest.raises(CommandError, match=r"the issuer stopped: .*cannot listen"),
                Servers(tmp_path, ports) as servers,
            ):
                servers.start()
        finally:
            impostor.shutdown()


def test_a_terminal_that_closes_while_the_demo_stops_leaves_no_server(tmp_path: Path, ports: Ports) -> None:
    # A process of its own, to which so many signals are sent; its servers are not.
    cheap = f"import sys; sys.executable = {PROGRAMS.python!r}; from issuer.cli import main; main()"
    command = on(ports, sys.executable, "-c", cheap)
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    for line in process.stdout:
        if line.startswith("Ctrl-C"):
            break
    process.terminate()
    while process.poll() is None:
        process.send_signal(signal.SIGHUP)
        time.sleep(0.005)
    process.stdout.close()
    assert nothing_left(tmp_path, ports)


@pytest.mark.parametrize(
    ("package", "fix"),
    [("httpx2", "make demo, or see README.md"), ("jwks_verifier", "pip install ./verifier_example")],
)
def test_a_missing_dependency_is_one_clear_line(tmp_path: Path, ports: Ports, package: str, fix: str) -> None:
    without = f"import sys; sys.modules['{package}'] = None; from issuer.cli import main; main()"
    command = [*on(ports, sys.executable, "-c", without), "--once"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert done.returncode == 1
    assert re.fullmatch(rf"failed: the package {package} is not installed[;,] .*{fix}\n", done.stderr)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which not even root may write")
def test_an_unwritable_folder_is_one_clear_line(ports: Ports) -> None:
    done = subprocess.run(
        [*on(ports), "--once"],
        cwd="/proc",
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 1
    assert re.fullmatch(r"failed: cannot make a scratch folder in /proc: .*\n", done.stderr)


def test_a_demo_that_is_terminated_takes_its_servers_with_it(tmp_path: Path, ports: Ports) -> None:
    process = subprocess.Popen(on(ports), cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        for line in process.stdout:
            if line.startswith("Ctrl-C"):
                break
        process.terminate()
        process.wait(PATIENCE_SECONDS)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(PATIENCE_SECONDS)
        assert process.stdout
        process.stdout.close()
    assert nothing_left(tmp_path, ports)
