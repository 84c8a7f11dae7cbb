"""The files in docs/deploy are fit for use, as far as that can be checked without running them as root."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from support.components import require, require_root

from issuer.cli.commands import app as commands
from issuer.settings.settings import Settings
from verifier_example.settings import Settings as ExampleSettings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "docs" / "deploy"
EXPOSURE_MOST = 1.5
"""By the count of systemd-analyze: 0 to 10, and below 2 is its best grade."""
KNOWN = {
    f"{kind.model_config.get('env_prefix')}{name.upper()}"
    for kind in (Settings, ExampleSettings)
    for name in kind.model_fields
}


def require_options_exist(command: str) -> None:
    """Fail unless `issuer serve` takes the options of this command line."""
    serve = typer.main.get_command(commands).commands["serve"]  # type: ignore[attr-defined]
    known = {option for parameter in serve.params for option in parameter.opts}
    given = command.partition("issuer serve")[2]
    assert given
    assert {word for word in shlex.split(given) if word.startswith("--")} <= known


# systemd


def unit() -> list[tuple[str, str]]:
    text = (DEPLOY / "issuer.service").read_text("utf-8")
    return re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)


@pytest.mark.processes
def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path) -> None:
    require("systemd")
    there = tmp_path / "issuer.service"
    text = (DEPLOY / "issuer.service").read_text("utf-8")
    # The program and the account are not on this machine.
    there.write_text(
        text.replace("/opt/issuer/.venv/bin/issuer", "/bin/true").replace("=issuer\n", "=root\n")
    )
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(there)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, [line for line in done.stderr.splitlines() if "issuer.service" in line]) == (
        0,
        [],
    )


@pytest.mark.processes
def test_the_unit_is_confined_as_far_as_it_can_be() -> None:
    require("systemd")
    done = subprocess.run(
        [
            "systemd-analyze",
            "security",
            "--offline=true",
            f"--threshold={EXPOSURE_MOST * 10:.0f}",
            str(DEPLOY / "issuer.service"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout.splitlines()[-1:]


def test_the_unit_names_options_and_settings_that_exist() -> None:
    entries = dict(unit())
    require_options_exist(entries["ExecStart"])
    assert "--workers 2" in entries["ExecStart"]  # SIGHUP replaces one worker by another
    environment = [each for name, value in unit() if name == "Environment" for each in value.split()]
    # Python imports nothing from folders that the service may write to.
    pythons = {"PYTHONSAFEPATH=1", "PYTHONNOUSERSITE=1"}
    assert pythons <= set(environment)
    assert pythons <= set((DEPLOY / "Dockerfile").read_text("utf-8").split())
    assert {each.partition("=")[0] for each in environment if each not in pythons} <= KNOWN


# Containers


def compose() -> Mapping[str, Any]:
    document: Mapping[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    return document


def test_each_setting_in_the_compose_file_exists_and_none_holds_a_secret() -> None:
    for service in compose()["services"].values():
        for name, value in service.get("environment", {}).items():
            if name.startswith(("ISSUER_", "VERIFIER_")):
                assert name in KNOWN
            assert not re.search("PASSWORD|PASSPHRASE|TOKEN", name) or str(value).startswith("/run/secrets/")
            assert not re.search(r"://[^/@]*:[^/@]*@", str(value))


def test_the_compose_file_names_only_what_it_defines() -> None:
    document = compose()
    for name, service in document["services"].items():
        assert set(service.get("secrets", [])) <= document["secrets"].keys(), name
        assert set(service["networks"]) <= document["networks"].keys(), name
        assert service.get("depends_on", {}).keys() <= document["services"].keys(), name
        for other, condition in service.get("depends_on", {}).items():
            checked = "healthcheck" in document["services"][other] or other.startswith("issuer-")
            assert condition["condition"] == "service_started" or checked, (name, other)
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert source in document["volumes"] or (DEPLOY / source).is_file(), volume
    build = document["services"]["issuer-1"]["build"]
    assert (DEPLOY / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).is_file()
    require_options_exist(document["services"]["issuer-2"]["command"][-1])


def test_a_replaced_issuer_has_the_address_that_the_proxy_uses() -> None:
    asked = re.findall(r"(?:server |http://)([a-z]+[\w-]*):\d+", (DEPLOY / "nginx.conf").read_text("utf-8"))
    assert asked
    for name in asked:
        networks = compose()["services"][name]["networks"].values()
        assert any("ipv4_address" in (network or {}) for network in networks), name


def test_each_variable_that_the_compose_file_needs_is_documented_and_has_no_default() -> None:
    text = (DEPLOY / "compose.yaml").read_text("utf-8")
    needed = set(re.findall(r"\$\{(\w+):\?", text))
    assert needed == set(re.findall(r"\$\{(\w+)", text))
    (lines,) = re.findall(
        r"^printf '%s\\n' ([^>]*) > \.env$", (ROOT / "docs" / "deploy.md").read_text("utf-8"), re.MULTILINE
    )
    settings = dict(each.split("=", 1) for each in lines.replace("\\\n", " ").split())
    assert settings.keys() == needed
    # Its nginx serves the example there, whose /docs logs in at the issuer.
    assert settings["ISSUER_CORS_ORIGINS"] == settings["ISSUER_AUDIENCE"]


def test_the_nodes_are_given_more_time_to_stop_than_they_take() -> None:
    from issuer.cli.serve import GRACE_SECONDS  # noqa: PLC0415

    service = compose()["services"]["issuer-1"]
    drain = int(re.findall(r"--drain (\d+)", service["command"][-1])[0])
    assert int(service["stop_grace_period"].removesuffix("s")) > drain + GRACE_SECONDS
    assert int(dict(unit())["TimeoutStopSec"]) > GRACE_SECONDS


def test_the_image_is_made_of_files_that_exist_and_that_enter_the_build() -> None:
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    copied = [
        path for line in re.findall(r"^COPY (?!--)(.*) \S+$", text, re.MULTILINE) for path in line.split()
    ]
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    allowed = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert "*" in ignored
    assert set(copied) == allowed
    assert all((ROOT / path).exists() for path in copied)
    assert re.search(r"^USER \d+:\d+$", text, re.MULTILINE)
    assert re.search(r"^CMD \[", text, re.MULTILINE)
    require_options_exist(" ".join(re.findall(r'"([^"]+)"', text.rpartition("CMD")[2])))


def test_no_image_is_named_with_a_registry() -> None:
    named = re.findall(r"^FROM (\S+)", (DEPLOY / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    named += [service["image"] for service in compose()["services"].values()]
    for image in named:
        assert "." not in image.partition("/")[0].partition(":")[0], image


@pytest.mark.processes
def test_nginx_accepts_its_configuration(tmp_path: Path) -> None:
    require("nginx")
    require("OpenSSL")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=issuer", "-days", "1",
         "-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "certificate")],
        check=True,
        capture_output=True,
    )  # fmt: skip
    text = (DEPLOY / "nginx.conf").read_text("utf-8")
    # The names of the other containers, their secrets, and /tmp are not those of this machine.
    text = re.sub(r"(issuer-1|issuer-2|example)(?=:\d)", "127.0.0.1", text)
    text = text.replace("/tmp/", f"{tmp_path}/").replace("/run/secrets/tls_", f"{tmp_path}/")  # noqa: S108
    (tmp_path / "nginx.conf").write_text(text)
    done = subprocess.run(
        ["nginx", "-t", "-p", str(tmp_path), "-c", "nginx.conf"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr.replace('the "user" directive', "")


def test_the_document_shows_only_options_that_exist() -> None:
    text = (ROOT / "docs" / "deploy.md").read_text("utf-8")
    served = re.findall(r"issuer serve[^`\n]*", text)
    assert served
    for line in served:
        if "--" in line:
            require_options_exist(line)


# The lines of the document that need no service manager


def blocks(name: str) -> list[str]:
    text = (ROOT / "docs" / name).read_text("utf-8")
    return re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.processes
def test_operators_commands_read_the_settings_of_the_service_and_show_none_on_a_command_line(
    tmp_path: Path,
) -> None:
    require_root()
    (setup,) = (block for block in blocks("deploy.md") if "useradd" in block)
    (listing,) = (block for block in blocks("deploy.md") if block.startswith("cd /var/lib/issuer && runuser"))
    assert "ISSUER_" not in listing
    lines = setup[setup.index("install -d -m 750") : setup.index("cp docs/deploy/issuer.service")]
    replaced = {
        "/etc/issuer": f"{tmp_path}/etc",
        "/var/lib/issuer": f"{tmp_path}/var",
        "/opt/issuer/.venv/bin/issuer": f"{sys.executable} -m issuer.cli",
        "-g issuer": "-g root",
        "-o issuer": "-o root",
        "chgrp issuer": "chgrp root",
        "-u issuer": "-u root",
    }
    for old, new in replaced.items():
        lines, listing = lines.replace(old, new), listing.replace(old, new)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ISSUER_")}
    check = f"cd {tmp_path}/var && {sys.executable} -m issuer.cli check"
    start = "from issuer.wiring import *; build(load_settings()).keys.node.refresh()"
    served = f"cd {tmp_path}/var && {sys.executable} -c 'from issuer.settings.loading import *; {start}'"
    for line in (lines, served, check, listing):
        done = subprocess.run(
            ["bash", "-euc", line], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        if line == check:
            assert f"settings: from {tmp_path}/var/.env and the environment" in done.stdout
    assert "current" in done.stdout
    passphrase = (tmp_path / "etc" / "passphrase").stat()
    assert passphrase.st_mode & 0o777 == 0o640


def test_no_document_puts_settings_on_a_command_line() -> None:
    for path in (ROOT / "docs").glob("*.md"):
        assert not re.search(r"env \$\(cat", path.read_text("utf-8")), path
