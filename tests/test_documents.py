"""The documents are true: each setting, command and endpoint in the README exists, and the other way round."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import typer
from fastapi.testclient import TestClient
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pydantic import SecretStr
from pydantic_settings import BaseSettings

from issuer.cli.commands import app as commands
from issuer.cli.demo import CURL_LINES
from issuer.policy import duration
from issuer.settings import Settings
from issuer.wiring import build
from verifier_example import app as example

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def rows(heading: str) -> list[list[str]]:
    """Return the cells of every table row under `heading`."""
    section = README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    assert section, heading
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def shown(default: object) -> str:
    """Return a default as the README writes it."""
    if isinstance(default, timedelta):
        return f"`{duration(default)}`"
    if isinstance(default, SecretStr):
        return f"`{default.get_secret_value()}`"
    if isinstance(default, tuple):
        return f"`{','.join(default)}`" if default else ""
    return "" if default is None else f"`{default}`"


def told(settings: type[BaseSettings]) -> Iterator[tuple[str, str]]:
    prefix = settings.model_config.get("env_prefix", "")
    for name, field in settings.model_fields.items():
        yield f"`{prefix}{name.upper()}`", shown(field.default)


def test_the_readme_has_each_setting_of_the_issuer_with_its_default_and_meaning() -> None:
    documented = [row for row in rows("Settings") if row[0].startswith("`ISSUER_")]
    assert [(name, default) for name, default, _ in documented] == list(told(Settings))
    assert [row[2] for row in documented] == [field.description for field in Settings.model_fields.values()]


def test_the_readme_has_each_setting_of_the_example_with_its_default() -> None:
    documented = {row[0]: row[1] for row in rows("Settings") if row[0].startswith("`VERIFIER_")}
    expected = dict(told(example.Settings))
    assert documented.keys() == expected.keys()
    for name, default in expected.items():
        seconds = re.fullmatch(r"`(\d+(?:\.\d+)?)`", default)
        assert documented[name] == (
            f"`{duration(timedelta(seconds=float(seconds[1])))}`" if seconds else default
        )


def all_commands() -> Iterator[str]:
    """Walk the command line as typer builds it."""
    group = typer.main.get_command(commands)
    for name, command in sorted(group.commands.items()):  # type: ignore[attr-defined]
        children = getattr(command, "commands", {})
        yield from (
            (f"issuer {name} {child}" for child in sorted(children)) if children else (f"issuer {name}",)
        )


def test_the_readme_has_each_command_and_no_other() -> None:
    assert sorted(row[0].strip("`") for row in rows("Operate it")) == sorted(all_commands())


@pytest.mark.parametrize("command", list(all_commands()))
def test_each_command_explains_itself_and_takes_json(command: str) -> None:
    arguments = [sys.executable, "-m", "issuer.cli", *command.split()[1:], "--help"]
    shown_help = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    if command not in {"issuer serve", "issuer demo"}:
        assert "--json" in shown_help
    assert len(shown_help.splitlines()) > 5


def endpoints(document: dict[str, dict[str, object]]) -> set[str]:
    paths: dict[str, dict[str, object]] = document["paths"]  # type: ignore[assignment]
    return {f"{method.upper()} {path}" for path, operations in paths.items() for method in operations}


def test_the_readme_has_each_endpoint_of_both_services_and_no_other(web: TestClient) -> None:
    issuers = endpoints(web.get("/openapi.json").json())
    with TestClient(example.create_app()) as service:
        examples = endpoints(service.get("/openapi.json").json())
    documented = [row[0].strip("`") for row in rows("HTTP")]
    assert sorted(documented) == sorted([*issuers, *examples])


DOCUMENTS = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_names_only_commands_options_and_settings_that_exist(document: Path) -> None:
    text = document.read_text("utf-8")
    known = {f"ISSUER_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"ISSUER_[A-Z0-9_]+[A-Z0-9]", text)) - known == set()
    groups = {command.split()[1] for command in all_commands() if len(command.split()) > 2}
    named = {
        f"issuer {group} {name}" for group, name in re.findall(r"\bissuer ([a-z]+) ([a-z][a-z-]*)", text)
    }
    assert {name for name in named if name.split()[1] in groups} - {*all_commands()} == set()


def test_the_readme_shows_the_lines_that_the_demo_prints() -> None:
    assert CURL_LINES in blocks("bash")


def test_each_make_target_in_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)\b", "\n".join(blocks("bash")))) == {"demo", "test"}
    assert {"demo", "test", "serve", "lint", "bench", "help"} <= targets


def test_the_operators_lines_of_the_readme_run_as_they_stand(settings: Settings, tmp_path: Path) -> None:
    issuer = build(settings)
    issuer.node.refresh()
    issuer.close()
    (lines,) = (block for block in blocks("bash") if block.startswith("issuer users add"))
    (tmp_path / ".env").write_text("ISSUER_KEYS_PASSPHRASE=a passphrase for tests\n")
    script = f'set -euo pipefail\nissuer() {{ "{sys.executable}" -m issuer.cli "$@"; }}\n{lines}'
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_committed_file_names_a_registry_or_holds_a_private_key() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    unwanted = re.compile(
        r"pypi\.or[g]|python[h]osted|npm[j]s\.|registry\.np[m]|BEGIN ([A-Z ]+ )?PRIVATE KEY-----\s*\n\w"
    )
    for name in filter(None, tracked.stdout.split("\0")):
        found = (
            unwanted.search((ROOT / name).read_text("utf-8", "replace")) if (ROOT / name).is_file() else None
        )
        assert not found, f"{name}: {found}"


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-pkcs11.lock", "requirements-test.lock"])
def test_the_lock_files_pin_every_package_by_hash_and_name_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text("utf-8")
    pins = [line for line in text.splitlines() if "==" in line]
    assert all(line.endswith("\\") for line in pins)
    assert "--hash=sha256:" in text
    assert "://" not in text


def lines(lock: str) -> list[str]:
    return (ROOT / lock).read_text("utf-8").splitlines()


def test_the_lock_files_hold_every_package_that_the_project_names_at_a_version_it_takes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    runtime = [*project["project"]["dependencies"], *project["dependency-groups"]["build"]]
    token = project["project"]["optional-dependencies"]["pkcs11"]
    for lock, wanted in (
        ("requirements.lock", runtime),
        ("requirements-pkcs11.lock", [*runtime, *token]),
        ("requirements-test.lock", [*runtime, *token, *project["dependency-groups"]["test"]]),
    ):
        pins = (Requirement(line.rstrip(" \\")) for line in lines(lock) if "==" in line)
        pinned = {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in pins}
        for requirement in map(Requirement, wanted):
            name = canonicalize_name(requirement.name)
            assert name in pinned, f"{name} is not in {lock}; run: make lock"
            assert requirement.specifier.contains(pinned[name]), (
                f"{lock} pins {name} {pinned[name]}; run: make lock"
            )
