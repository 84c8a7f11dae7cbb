"""Every table of every command at several widths, with long names: no timestamp and no id is split."""

import io
import json
import re
import shutil
import sys
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from support.defaults import PASSWORD
from support.installation import SETTINGS, Deployment, deployment, empty, installed

from issuer.accounts.registration import register_user
from issuer.administration.clients import register_client
from issuer.cli import commands
from issuer.keyring.heartbeat import Heartbeat
from issuer.keyring.ring import KeyRing
from issuer.oauth import AuthMethod
from issuer.services import Issuer
from issuer.settings.loading import load_settings
from issuer.tokens.event_store import SessionEventStore
from issuer.tokens.refresh import Family
from issuer.tokens.session_events import SessionEvent
from issuer.wiring import build

__all__ = ["deployment", "empty", "installed"]

LONG = "a-" * 32
SCOPE = frozenset({"items:read", "items:" + "x" * 60})
LISTS = [
    ["keys", "list"],
    ["keys", "plan"],
    ["keys", "nodes"],
    ["keys", "verify"],
    ["keys", "rotate", "--dry-run", "--force", "--reason", "a test"],
    ["audit", "list"],
    ["audit", "sessions"],
    ["users", "list"],
    ["clients", "list"],
]
WHOLE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[\w-]{8}…|\(new key\)"
)
"""Timestamps, ids and shortened kids."""
PART = re.compile(r"\d{4}-\d\d-\d\dT?|\d\d:\d\d:\d\dZ|[0-9a-f]{4,}-[0-9a-f]{4}|…")


class Terminal(io.StringIO):
    """Standard output that is a terminal, as wide as COLUMNS says."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def crowded(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of an installation with long names everywhere, and a key in each phase."""
    folder = tmp_path_factory.mktemp("crowded")
    shutil.copytree(installed, folder, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        issuer = build(load_settings())
        _crowd(issuer)
        issuer.close()
    return folder


def _crowd(issuer: Issuer) -> None:
    now = issuer.clock()
    for _ in range(2):
        issuer.keys.rotation.change(
            lambda ring, now: KeyRing.promoted(ring, issuer.policy, now, forced=True), "a long reason " * 30
        )
    ring = issuer.keys.rotation.ring()
    oldest = ring.by_activation[0]
    issuer.keys.rotation.change(lambda ring, now: ring.revoked(oldest.kid, LONG, issuer.policy, now))
    user = register_user(issuer.accounts.store, issuer.accounts.passwords, LONG, PASSWORD, now, SCOPE)
    client, _ = register_client(
        issuer.clients.store, "a name " * 20, AuthMethod.BASIC, SCOPE, ("https://a.example/" + "x" * 90,), now
    )
    for version in (1, 99):
        name = f"{LONG}/{version}"
        beat = Heartbeat.of(name, name, version, issuer.policy, now)
        issuer.keys.heartbeats.beat(beat, now - timedelta(days=1))
    family = Family(str(uuid4()), user.id, client.id, SCOPE, ("a",), now, now)
    SessionEventStore(issuer.database).record(SessionEvent.REUSED_FROM_OTHER_ADDRESS, family, now)


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize("command", LISTS, ids=" ".join)
def test_no_timestamp_and_no_id_is_split(
    command: list[str], columns: int, crowded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(crowded)
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    assert run(monkeypatch, *command) == 0
    printed = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())
    assert WHOLE.search(printed)
    assert PART.findall(WHOLE.sub("", printed)) == []
    for line in printed.splitlines():
        assert all(found.end() <= columns for found in WHOLE.finditer(line)), line


def test_a_kid_copied_from_a_table_names_its_key(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "keys", "list") == 0
    kid = next(line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("current"))
    assert run(monkeypatch, "keys", "revoke", kid, "--reason", "a test", "--yes") == 0
    assert f"{kid} is revoked; " in capsys.readouterr().out
    assert run(monkeypatch, "keys", "list", "--json") == 0
    keys = json.loads(capsys.readouterr().out)["keys"]
    assert [key["phase"] for key in keys] == ["current", "standby", "revoked"]
    assert keys[-1]["kid"].startswith(kid.removesuffix("…"))


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["issuer", *arguments])
    return commands._run(as_json="--json" in arguments)
