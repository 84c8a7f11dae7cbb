"""The documents are true: what they name exists, links lead somewhere, and each block is run or says that it is not.

That shell lines run is seen here for the README's, and in `servers/test_docs_lines` for the others'; what is written
from the code is compared in `test_reference`.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.commands import all_commands
from typer.testing import CliRunner

from issuer.cli.commands import app
from issuer.cli.demo_servers import Ports
from issuer.settings.settings import Settings
from issuer.wiring import build
from verifier_example import settings as example_settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_python_that_a_page_a_file_or_a_fix_starts_imports_nothing_from_the_folder_it_runs_in() -> None:
    places = [
        ROOT / "README.md",
        ROOT / "SECURITY.md",
        *(ROOT / "docs").rglob("*.*"),
        *ROOT.glob("issuer/**/*.py"),
    ]
    for path in places:
        text = path.read_text("utf-8") if path.suffix in {".md", ".yaml", ".py"} else ""
        text += path.read_text("utf-8") if path.name == "Dockerfile" else ""
        started = re.findall(r"""\bpython3?["',]* ["']?(-(?:c\b(?!`)|m (?!venv)|(?=\s)).{0,40})""", text)
        assert not [line for line in started if "multiprocessing" not in line], path
        for line in re.findall(r"^.*\buvicorn\b.*--factory.*$", text, re.MULTILINE):
            assert "--app-dir" in line, (path, line)  # or uvicorn would look there


def test_the_reference_has_each_command_and_no_other() -> None:
    page = (ROOT / "docs" / "reference.md").read_text("utf-8")
    assert sorted(re.findall(r"^### (issuer [a-z-]+.*)$", page, re.MULTILINE)) == sorted(all_commands())


def test_the_readme_names_each_group_of_commands_and_none_that_is_not() -> None:
    table = README.partition("\n## Operate\n")[2].partition("\n## ")[0]
    groups, named = set(), set()
    for cell in re.findall(r"^\| (`issuer [^|]*) \|", table, re.MULTILINE):
        first, *more = re.findall(r"`([^`]+)`", cell)
        if "…" in cell:
            groups |= set(re.findall(r"issuer ([a-z]+)", cell))
            continue
        words = first.split()
        groups.add(words[1])
        named |= {first, *(" ".join([*words[:2], name]) for name in more)}
    assert named <= set(all_commands())
    assert groups == {command.split()[1] for command in all_commands()} - {"demo"}


@pytest.mark.parametrize("command", list(all_commands()))
def test_each_command_explains_itself_and_takes_json(command: str) -> None:
    shown_help = CliRunner().invoke(app, [*command.split()[1:], "--help"], catch_exceptions=False).stdout
    if command not in {"issuer serve", "issuer demo"}:
        assert "--json" in shown_help
    assert len(shown_help.splitlines()) > 5


DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    ROOT / "verifier_example" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_names_only_commands_options_and_settings_that_exist(document: Path) -> None:
    text = document.read_text("utf-8")
    known = {f"ISSUER_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"ISSUER_[A-Z0-9_]+[A-Z0-9]", text)) - known == set()
    known_of_example = {f"VERIFIER_{name.upper()}" for name in example_settings.Settings.model_fields}
    assert set(re.findall(r"VERIFIER_[A-Z0-9_]+[A-Z0-9]", text)) - known_of_example == set()
    groups = {command.split()[1] for command in all_commands() if len(command.split()) > 2}
    named = {
        f"issuer {group} {name}" for group, name in re.findall(r"\bissuer ([a-z]+) ([a-z][a-z-]*)", text)
    }
    assert {name for name in named if name.split()[1] in groups} - {*all_commands()} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_settings_of_a_document_let_the_page_of_the_service_log_in(document: Path) -> None:
    for block in re.findall(r"^```\w+\n(.*?)^```$", document.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        for audience in re.findall(r"^ISSUER_AUDIENCE=(.+)$", block, re.MULTILINE):
            assert re.search(rf"^ISSUER_CORS_ORIGINS=(\S+,)*{re.escape(audience)}\b", block, re.MULTILINE)


LINE_MOST_CHARACTERS = 118


def anchors(text: str) -> set[str]:
    """Return what may follow the # of a link to a document, as code hosts make it of headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_lines_of_a_document_are_short(document: Path) -> None:
    text = document.read_text("utf-8")
    written = re.sub(r"^<!-- \w+ from .*?^<!-- end of \w+ -->$", "", text, flags=re.DOTALL | re.MULTILINE)
    blocks = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    lines = blocks.sub(lambda block: block[2] if block[1] == "bash" else "", written).splitlines()
    assert not [
        line for line in lines if len(line) > LINE_MOST_CHARACTERS and not line.startswith(("|", "!["))
    ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_each_relative_link_leads_somewhere(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (document.parent / name).resolve() if name else document
        assert path.exists(), target
        assert not anchor or anchor in anchors(path.read_text("utf-8")), target


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages <= set(re.findall(r"\]\(([\w-]+\.md)\)", index))


RUN = {
    "README.md": "here and servers/test_demo.py",
    "start.md": "servers/test_docs_lines.py",
    "browser.md": "servers/test_browser_page.py",
    "clients.md": "servers/test_docs_lines.py",
    "fastapi.md": "servers/test_documented_services.py",
    "from-the-tutorial.md": "servers/test_documented_services.py",
    "operate.md": "servers/test_docs_lines.py",
    "backup.md": "test_backup.py",
    "verifying.md": "servers/test_listening.py",
    "deploy.md": "servers/test_deployed.py; of containers test_deploy.py, without an engine",
}
"""Documents with `bash` blocks, and what runs them; a line that nothing runs is `console`, after a `$`."""
LANGUAGES = {
    "bash",
    "console",
    "diff",
    "text",
    "python",
    "javascript",
    "html",
    "go",
    "java",
    "yaml",
    "nginx",
    "apache",
    "json",
    "ini",
    "",
}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_block_is_run_or_marked_as_not_run(document: Path) -> None:
    text = document.read_text("utf-8")
    fences = re.findall(r"^```(\w*)$", text, re.MULTILINE)
    assert len(fences) % 2 == 0
    opening = fences[::2]
    assert set(opening) <= LANGUAGES
    assert "bash" not in opening or document.name in RUN
    for block in re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        assert block.startswith("$ ")


def test_installing_without_make_runs_the_same_commands() -> None:
    make = (ROOT / "Makefile").read_text("utf-8")
    make = re.sub(r"\$\(call install,(.*)\)", r"install --require-hashes -r \1", make.replace("--quiet ", ""))
    (block,) = (each for each in blocks("bash") if each.startswith("python3 -m venv"))
    start = (ROOT / "docs" / "start.md").read_text("utf-8")
    for line in (
        "install --require-hashes -r requirements.lock",
        "install --no-deps --no-build-isolation -e . -e ./verifier_example",
    ):
        assert line in make.replace("--editable", "-e")
        assert line in block
        assert line in start


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_of_the_checkout_in_console_lines_exist(document: Path) -> None:
    text = document.read_text("utf-8")
    for name in re.findall(r"requirements[\w-]*\.(?:lock|txt)", text):
        assert (ROOT / name).exists() or "tests/interop" in text


def test_the_readme_shows_the_lines_that_the_demo_prints() -> None:
    assert Ports().curl_lines in blocks("bash")


def test_each_make_target_in_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)\b", "\n".join(blocks("bash")))) == {"check", "demo", "test"}
    assert {"check", "demo", "test", "serve", "lint", "bench", "help"} <= targets


@pytest.mark.processes
def test_the_operators_lines_of_the_readme_run_as_they_stand(settings: Settings, tmp_path: Path) -> None:
    issuer = build(settings)
    issuer.keys.node.refresh()
    issuer.close()
    lines = "".join(block for block in blocks("bash") if block.startswith("issuer "))
    assert "issuer users add" in lines
    assert "issuer clients add" in lines
    (tmp_path / ".env").write_text("ISSUER_KEYS_PASSPHRASE=a passphrase for tests\n")
    script = f'set -euo pipefail\nissuer() {{ "{sys.executable}" -m issuer.cli "$@"; }}\n{lines}'
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.processes
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
