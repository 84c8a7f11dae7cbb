"""The file `.env`: one reader, takes values as they are, says what it cannot read, and trusts its owner alone."""

import os
from functools import partial
from pathlib import Path

import pytest
from support.components import not_possible, require_root
from support.installation import Deployment, deployment, empty, installed
from support.servers import Installation, eventually

from issuer.checks.finding import Severity
from issuer.settings.env_file import BadEnvFile, read_env_file
from issuer.settings.loading import load_settings
from issuer.settings.settings import BadSettings
from issuer.wiring import build

__all__ = ["deployment", "empty", "installed"]  # fixtures

LONG = "sixteen silent penguins"


def write(text: str | bytes, mode: int = 0o600) -> Path:
    path = Path(".env")
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    "line",
    [
        "ISSUER_KEYS_PASSPHRASE={}",
        "ISSUER_KEYS_PASSPHRASE='{}'",
        'ISSUER_KEYS_PASSPHRASE="{}"',
        "export ISSUER_KEYS_PASSPHRASE = '{}'",
        "issuer_keys_passphrase={}   # a comment",
        "\ufeffISSUER_KEYS_PASSPHRASE={}\r",
    ],
)
@pytest.mark.parametrize(
    "secret", ["pa$$word${HOME}and$HOME", "with#hash=and:colon", "sixteen silent penguins"]
)
def test_a_secret_arrives_as_it_was_written(line: str, secret: str) -> None:
    write(line.format(secret) + "\n")
    assert load_settings().passphrase() == secret


def test_an_empty_setting_of_the_environment_leaves_that_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    write("ISSUER_AUDIENCE=https://api.example\nISSUER_KEYS_PASSPHRASE_FILE=\n")
    monkeypatch.setenv("ISSUER_AUDIENCE", " ")
    assert load_settings().audience == "https://api.example"
    assert load_settings().passphrase() is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("ISSUER_URL: http://127.0.0.1:8000\n", 1),
        ('\n# a comment\n\nISSUER_KEYS_PASSPHRASE="not closed\nISSUER_AUDIENCE=https://a.example\n', 4),
        ('ISSUER_KEYS_PASSPHRASE="not closed\nISSUER_AUDIENCE="https://a.example"\n', 1),
        ("ISSUER_URL\n", 1),
        ("export ISSUER_URL\n", 1),
        ("set ISSUER_URL=http://127.0.0.1:8000\n", 1),
        ("ISSUER_URL 'http://127.0.0.1:8000'\n", 1),
        ("A=b\n\ufeffISSUER_URL=http://127.0.0.1:8000\n", 2),
        ("\u200bISSUER_URL=http://127.0.0.1:8000\n", 1),
        ('"ISSUER_URL"="http://127.0.0.1:8000"\n', 1),
        ('$env:ISSUER_URL="http://127.0.0.1:8000"\n', 1),
        ("ISSUER-URL=http://127.0.0.1:8000\n", 1),
        ("ISSUER.URL=http://127.0.0.1:8000\n", 1),
    ],
)
def test_a_line_that_may_be_a_setting_and_cannot_be_read_is_refused_by_its_number(
    text: str, line: int
) -> None:
    write(text)
    with pytest.raises(BadSettings, match=rf"line {line} of \.env cannot be read") as refusal:
        load_settings()
    assert "not closed" not in str(refusal.value)


def test_a_line_of_another_program_that_cannot_be_read_is_a_warning(deployment: Deployment) -> None:
    write("if [ x ]; then\n")
    assert "line 1 of .env cannot be read" in deployment.one(Severity.WARNING).wrong


@pytest.mark.processes
@pytest.mark.parametrize(
    "line",
    [
        "\u200bISSUER_ALGORITHM=ES256",
        "\ufeffISSUER_ALGORITHM=ES256",
        '"ISSUER_ALGORITHM"="ES256"',
        '$env:ISSUER_ALGORITHM="ES256"',
        "issuer.algorithm=ES256",
    ],
)
def test_the_printed_fix_of_a_misspelt_name_sets_the_intended_setting(
    deployment: Deployment, line: str
) -> None:
    deployment.patch.delenv("ISSUER_ALGORITHM")
    write(f"A=b\n{line}\n")
    deployment.require_fixed(deployment.one())
    assert load_settings().algorithm == "ES256"


@pytest.mark.parametrize("name", ["spring.jwt.issuer-uri", "MY-ISSUER_X", "OIDC_ISSUER_URL", "a.verifier.b"])
def test_a_name_of_another_program_is_its_own_affair(deployment: Deployment, name: str) -> None:
    write(f"{name}=https://a.example\n")
    assert deployment.found() == []


def test_a_value_that_swallowed_the_next_line_is_refused() -> None:
    write('ISSUER_AUDIENCE="https://a.example\nISSUER_KEYS=database\nISSUER_PKCS11_TOKEN="\n')
    with pytest.raises(BadSettings, match=r"^ISSUER_AUDIENCE: contains a line break.* \(\.env, line 1\)$"):
        load_settings()


@pytest.mark.parametrize("kind", ["directory", "FIFO", "link to nothing"])
def test_a_path_that_is_no_file_is_refused_without_waiting(kind: str) -> None:
    path = Path(".env")
    make = {
        "directory": partial(path.mkdir),
        "FIFO": partial(os.mkfifo, path),
        "link to nothing": partial(path.symlink_to, "x"),
    }
    make[kind]()
    with pytest.raises(BadSettings, match=r"\.env is "):
        load_settings()


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_to_is_refused(mode: int) -> None:
    write("ISSUER_AUDIENCE=https://api.example\n", mode)
    with pytest.raises(BadSettings, match="others can write"):
        load_settings()


def test_a_file_or_link_of_another_user_is_refused_and_one_of_root_is_not(tmp_path: Path) -> None:
    require_root()
    path = write("ISSUER_AUDIENCE=https://api.example\n")
    load_settings()
    os.chown(path, 65534, 65534)
    with pytest.raises(BadSettings, match="belongs to user 65534"):
        load_settings()
    os.chown(path, 0, 0)
    path.rename("elsewhere")
    path.symlink_to("elsewhere")
    load_settings()
    os.chown(path, 65534, 65534, follow_symlinks=False)
    with pytest.raises(BadEnvFile, match="belongs to user 65534"):
        read_env_file()


# A running issuer


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path, ISSUER_ALGORITHM="ES256")


@pytest.mark.processes
def test_a_start_prints_which_file_it_read_and_whether_others_may_read_it(
    installation: Installation, tmp_path: Path
) -> None:
    write("ISSUER_KEYS_PASSPHRASE_FILE=passphrase\n")
    (tmp_path / "passphrase").write_text("short")
    (tmp_path / "passphrase").chmod(0o644)
    with installation:
        server = installation.serve().until_ready()
        assert f"from {tmp_path}/.env and the environment" in server.output
        assert "others can read passphrase (mode 0644)" in server.output
        assert "fewer than 16 characters" in server.output
        warnings = installation.http.get(f"{server.url}/readyz").json()["warnings"]
        assert [each.partition(" ")[0] for each in warnings] == ["others", "the"]
        (tmp_path / "passphrase").chmod(0o600)
        warnings = installation.http.get(f"{server.url}/readyz").json()["warnings"]
        assert len(warnings) == 1, "one that is over goes away"


@pytest.mark.processes
def test_a_node_whose_keys_become_read_only_reports_that_before_the_next_rotation(
    installation: Installation, tmp_path: Path
) -> None:
    if os.geteuid() != 0 or os.system("mount -t tmpfs -o mode=700 none " + _made(tmp_path / "keys")) != 0:  # noqa: S605
        not_possible("nothing can be mounted here")
    try:
        with installation:
            server = installation.serve().until_ready()
            assert installation.http.get(f"{server.url}/readyz").json()["warnings"] == []
            os.system(f"mount -o remount,ro {tmp_path}/keys")  # noqa: S605

            def is_reported() -> bool:
                answer = installation.http.get(f"{server.url}/readyz")
                return answer.is_success and "mounted read-only" in str(answer.json()["warnings"])

            eventually(is_reported, "a warning")
            assert installation.command("check").code == 1
    finally:
        os.system(f"umount -l {tmp_path}/keys")  # noqa: S605


def _made(folder: Path) -> str:
    folder.mkdir(mode=0o700)
    return str(folder)


def test_a_full_disk_of_the_keys_is_reported(deployment: Deployment) -> None:
    require_root()
    issuer = build(load_settings())
    full = Path("keys")
    real = os.statvfs(full)
    facts = os.statvfs_result((*real[:4], 0, *real[5:]))
    deployment.patch.setattr(os, "statvfs", lambda _: facts)
    view = issuer.keys.node.refresh()
    assert view
    assert any("is full" in each for each in issuer.keys.node.warnings())
    issuer.close()
    assert any("is full" in finding.wrong for finding in deployment.found())
