"""The shell lines of the documents run unchanged and in their order against real servers.

Only ports and the address of a database are replaced. Which documents have shell lines is tested in `test_documents`.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from support.components import require
from support.documents import sections
from support.postgresql import new_database, temporary_server
from support.shell_lines import Lines

START = sections("start.md")
CLIENTS = sections("clients.md")
OPERATE = sections("operate.md")
RUNNING = ["Configure", "Start the issuer", "Add a user and a client"]
"""What of the start the other documents begin with."""
POSTGRESQL = ["From files to PostgreSQL"]
HSM = ["Keys in an HSM", "From files to an HSM"]
APART = [*POSTGRESQL, *HSM]


def after(before: Sequence[str], names: Sequence[str]) -> str:
    """Return the lines of the runbooks `names`, after a start and those of `before`."""
    return "".join([*(START[name] for name in RUNNING), *(OPERATE[name] for name in [*before, *names])])


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Lines]]:
    """What needs nothing but the issuer, all begun."""
    texts = {
        "start": "".join(START.values()),
        "clients": after([], []) + "".join(CLIENTS.values()),
        "operate": after([], [name for name in OPERATE if name not in APART]),
    }
    lines = {
        name: Lines(text, tmp_path_factory.mktemp(name), is_fresh=name == "start")
        for name, text in texts.items()
    }
    yield lines
    for each in lines.values():
        each.end()


@pytest.fixture
def alone() -> Iterator[Callable[..., Lines]]:
    """Begin lines that end with the test."""
    lines: list[Lines] = []

    def begin(text: str, folder: Path, replaced: Mapping[str, str] | None = None) -> Lines:
        lines.append(Lines(text, folder, replaced))
        return lines[-1]

    yield begin
    for each in lines:
        each.end()


@pytest.fixture
def postgresql_url() -> Iterator[str]:
    with temporary_server() as server:
        yield new_database(server)


@pytest.mark.usefixtures("begun")  # which runs meanwhile
def test_files_move_to_postgresql_with_all_that_is_in_them(
    tmp_path: Path, postgresql_url: str, alone: Callable[..., Lines]
) -> None:
    replaced = {"postgresql://issuer@db.example/issuer": postgresql_url}
    lines = alone(after(["Routine rotation"], POSTGRESQL), tmp_path, replaced)
    assert lines.printed.count("3 of 3 private keys OK") == 1
    assert "the audit log is intact: 6 entries" in lines.printed
    assert re.search(r"^alice +items:read", lines.printed, re.MULTILINE)
    assert "in the database, encrypted" in lines.logs


@pytest.mark.usefixtures("begun")  # which runs meanwhile
def test_files_move_to_an_hsm(tmp_path: Path, alone: Callable[..., Lines]) -> None:
    require("SoftHSM")
    lines = alone(after([], HSM), tmp_path)
    assert "2 of 2 private keys OK" in lines.printed
    assert "in the PKCS#11 token issuer" in lines.logs


def test_getting_started_comes_to_a_service_that_notices_no_rotation(begun: Mapping[str, Lines]) -> None:
    printed = begun["start"].printed
    assert '{"message":"Hello, alice"}' in printed
    assert printed.count('[{"id":1,"name":"a first item"}') == 3
    assert "HTTP/1.1 401 Unauthorized" in printed
    kids = re.findall(r'^kid +"([\w-]+)"$', printed, re.MULTILINE)
    assert len(set(kids)) == 2


def test_each_line_for_clients_runs(begun: Mapping[str, Lines]) -> None:
    printed = begun["clients"].printed
    answers = re.findall(r'^\{"access_token".*$', printed, re.MULTILINE)
    assert len(answers) == 5
    assert '"scope":"items:read items:write"' in answers[0]
    assert '"scope":"items:read"' in answers[2]
    assert '{"active":false}' in printed


def test_each_runbook_runs(begun: Mapping[str, Lines]) -> None:
    printed = begun["operate"].printed
    assert "is revoked; " in printed
    assert printed.count('{"access_token"') == 1
    assert "is PKCS#8 PEM, under the passphrase" in printed
    assert "$argon2id$" in (begun["operate"].folder / "users.txt").read_text("utf-8")


def test_the_file_of_clients_is_registered_once_and_its_secrets_are_not_printed(
    begun: Mapping[str, Lines],
) -> None:
    printed, folder = begun["operate"].printed, begun["operate"].folder
    assert printed.count("3 clients in the file: registered as declared") == 1
    (written,) = json.loads((folder / "new-secrets.json").read_text("utf-8"))["clients"]
    assert written["client_id"] == "warehouse"
    assert written["client_secret"] not in printed


def test_every_runbook_is_run() -> None:
    assert set(APART) <= set(OPERATE)
    assert set(RUNNING) <= set(START)
