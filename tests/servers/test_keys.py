"""Operations on keys while servers run: move, revoke, import, change the passphrase, and list the audit log.

The rules themselves are tested without processes.
"""

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from support.commands import PASSWORD, run, run_json
from support.prometheus import Samples
from support.servers import PASSPHRASE, PATIENCE_SECONDS, QUICK, Installation, Server, eventually, kid_of
from support.shared_database import lock_held, use_postgresql

from issuer.cli.terminal import short_kid

NEW_PASSPHRASE = "seventeen noisy walruses"
MAX_AGE_AND_SKEW = timedelta(seconds=1 + 1)
NEVER_TOO_IDLE = "?options=-c%20idle_in_transaction_session_timeout%3D0"
"""Lets a process be stopped within a transaction for longer than the issuer allows itself."""


def phases(document: Any) -> dict[str, str]:
    return {key["phase"]: key["kid"] for key in document["keys"]}


@pytest.fixture
def serving(initialized: Installation) -> Installation:
    """An installation with a server of two workers."""
    initialized.serve(workers=2).until_ready()
    return initialized


def test_a_dry_run_shows_the_rotation_and_changes_nothing(initialized: Installation) -> None:
    before = run_json(initialized, "keys", "list")
    would = run_json(initialized, "keys", "rotate", "--dry-run")
    assert would["dry_run"] is True
    assert phases(would)["current"] == phases(before)["standby"]
    assert run_json(initialized, "keys", "list")["version"] == before["version"]
    assert len(initialized.key_files()) == 2


def test_the_plan_names_the_instants_of_the_next_rotation(initialized: Installation) -> None:
    initialized.settings["ISSUER_ROTATION_PERIOD"] = "1h"
    initialized.serve().until_ready().stop()  # turns are set by a process that starts
    ring, planned = run_json(initialized, "keys", "list"), run_json(initialized, "keys", "plan")
    standby = next(key for key in ring["keys"] if key["phase"] == "standby")
    signs = next(event for event in planned["events"] if event["event"] == "signs from now on")
    assert (signs["kid"], signs["at"]) == (standby["kid"], standby["signs_from"])
    drawn = run(initialized, "keys", "plan").out
    assert "█" in drawn
    assert short_kid(standby["kid"]) in drawn


def test_a_forced_rotation_needs_a_reason_and_prints_until_when_tokens_may_be_refused(
    initialized: Installation,
) -> None:
    initialized.settings |= {"ISSUER_OUTAGE_LIMIT": "1h", "ISSUER_PUBLISH_LEAD": "2h"}
    run_json(initialized, "keys", "rotate")
    standby = run_json(initialized, "keys", "rotate", code=3)
    assert "allowed_from" in standby
    assert run(initialized, "keys", "rotate", "--force").code == 2
    forced = run_json(initialized, "keys", "rotate", "--force", "--reason", "the vendor asked")
    assert "may refuse its tokens until" in forced["message"]
    newest = run_json(initialized, "audit", "list")["entries"]
    assert "forced: the vendor asked" in [entry["reason"] for entry in newest]


def test_a_rollback_lets_the_previous_key_sign_again_in_every_worker(serving: Installation) -> None:
    first = kid_of(serving.token())
    run_json(serving, "keys", "rotate")
    eventually(lambda: kid_of(serving.token()) != first, "the new key signs")
    back = run_json(serving, "keys", "rollback", "--reason", "clients choke on it")
    assert phases(back)["current"] == first
    eventually(lambda: kid_of(serving.token()) == first, "the old key signs")
    key_set = serving.key_set()
    serving.require_verifies(serving.token(), key_set)
    assert {key["kid"] for key in key_set.json()["keys"]} == {key["kid"] for key in back["keys"]}


def test_revoking_waits_for_every_process_and_prints_when_it_takes_effect(serving: Installation) -> None:
    run_json(serving, "users", "add", "alice", "--password-stdin", stdin=PASSWORD)
    assert serving.log_in("alice", PASSWORD).is_success
    stolen = kid_of(serving.token())
    began = datetime.now(UTC)
    revoked = run_json(serving, "keys", "revoke", stolen, "--reason", "stolen", "--compromised", "--yes")
    assert stolen not in {key["kid"] for key in serving.key_set().json()["keys"]}
    assert kid_of(serving.token()) != stolen
    assert revoked["acknowledged"] == 2
    ended = datetime.now(UTC)
    assert began < datetime.fromisoformat(revoked["refused_from"]) < ended + MAX_AGE_AND_SKEW
    assert revoked["refresh_families"] == 1
    assert next(key for key in revoked["keys"] if key["kid"] == stolen)["compromised"] is True
    again = run_json(
        serving, "keys", "revoke", stolen, "--reason", "stolen", "--compromised", "--yes", code=4
    )
    assert "refuses it from" in again["message"]
    other = phases(revoked)["standby"]
    ended = run_json(serving, "keys", "revoke", other, "--reason", "to be sure", "--end-sessions", "--yes")
    assert ended["refresh_families"] == 0
    assert "1 session ended" in ended["message"]


def test_a_process_that_does_not_answer_is_named_with_what_it_may_still_do(initialized: Installation) -> None:
    initialized.settings |= {**QUICK, "ISSUER_OUTAGE_LIMIT": "1m", "ISSUER_PUBLISH_LEAD": "2m"}
    first, second = initialized.serve().until_ready(), initialized.serve(port=initialized.service_port)
    second.until_ready()
    stolen = kid_of(initialized.token())
    with stopped(second):
        nodes = run_json(initialized, "keys", "nodes")
        assert len(nodes["nodes"]) == 2
        revoked = run_json(initialized, "keys", "revoke", stolen, "--reason", "stolen", "--yes")
        assert revoked["acknowledged"] == 1
        assert "has not answered since" in revoked["message"]
        forced = ["keys", "rotate", "--force", "--reason", "a drill", "--dry-run"]
        (warning,) = run_json(initialized, *forced)["warnings"]
        assert "may serve a key set without the newest keys until" in warning
        states = {node["state"] for node in run_json(initialized, "keys", "nodes")["nodes"]}
        assert "up to date" in states
        assert len(states) == 2
    assert first.process.poll() is None


class stopped:  # noqa: N801 - reads as a statement
    """A server stopped as by SIGSTOP in this block."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def __enter__(self) -> None:
        self._server.freeze()

    def __exit__(self, *_: object) -> None:
        self._server.thaw()


def pem_file(folder: Path, passphrase: str) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    encryption = BestAvailableEncryption(passphrase.encode())
    file = folder / "legacy.pem"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    file.chmod(0o600)
    return file


def secret_file(folder: Path, text: str) -> Path:
    file = folder / "secret"
    file.write_text(f"{text}\n")
    file.chmod(0o600)
    return file


def test_an_imported_key_can_be_the_first_of_a_new_ring_and_signs_when_served(
    installation: Installation,
) -> None:
    pem = pem_file(installation.folder, NEW_PASSPHRASE)
    arguments = [
        "keys",
        "import",
        str(pem),
        "--passphrase-file",
        str(secret_file(installation.folder, NEW_PASSPHRASE)),
    ]
    assert "first `issuer serve`" in run_json(installation, *arguments, code=1)["message"]
    made = run_json(installation, *arguments, "--current")
    current = phases(made)["current"]
    assert next(key["alg"] for key in made["keys"] if key["kid"] == current) == "ES256"
    assert run_json(installation, *arguments, "--current", code=3)["error"] == "refused"
    installation.serve().until_ready()
    assert kid_of(installation.token()) == current
    assert NEW_PASSPHRASE not in json.dumps(made)


def test_of_two_rotations_at_once_even_forced_ones_one_succeeds_and_the_other_is_refused(
    installation: Installation, postgresql: str
) -> None:
    database = use_postgresql(installation, postgresql)
    installation.serve().until_ready().stop()
    standby = phases(run_json(installation, "keys", "list"))["standby"]
    rotate = ["keys", "rotate", "--force", "--reason", "a drill", "--json"]
    with (
        ThreadPoolExecutor(2) as operators,
        lock_held(database, "LOCK TABLE key_ring IN EXCLUSIVE MODE") as until_waiting,
    ):
        outcomes = [operators.submit(run, installation, *rotate) for _ in range(2)]
        until_waiting(2)
    won, refused = sorted(outcome.result() for outcome in outcomes)
    assert (won.code, refused.code) == (0, 3)
    assert "faster" in refused.document["message"]
    ring = run_json(installation, "keys", "list")
    assert (ring["version"], phases(ring)["current"]) == (2, standby)


def test_of_two_imports_of_one_key_at_once_one_succeeds_and_the_other_is_refused(
    installation: Installation, postgresql: str
) -> None:
    database = use_postgresql(installation, postgresql)
    installation.settings["ISSUER_DATABASE_URL"] += NEVER_TOO_IDLE
    installation.serve().until_ready().stop()
    pem = str(pem_file(installation.folder, NEW_PASSPHRASE))
    secret = str(secret_file(installation.folder, NEW_PASSPHRASE))
    arguments = ["keys", "import", pem, "--passphrase-file", secret]
    with lock_held(database, "LOCK TABLE private_keys IN EXCLUSIVE MODE") as until_waiting:
        late = installation._start(["-m", "issuer.cli", *arguments, "--json"], port=0, workers=1)
        until_waiting(1)
        late.freeze()
    taken_in = run_json(installation, *arguments)
    late.thaw()
    assert late.process.wait(PATIENCE_SECONDS) == 3, late.output
    assert "already" in json.loads(late.output)["message"]
    verified = run_json(installation, "keys", "verify")
    assert [key["kid"] for key in verified["keys"]] == [key["kid"] for key in taken_in["keys"]]
    assert verified["strays"] == []


def test_rewrapping_beside_a_running_server_needs_no_restart(initialized: Installation) -> None:
    del initialized.settings["ISSUER_KEYS_PASSPHRASE"]
    in_use = initialized.folder / "passphrase"
    in_use.write_text(PASSPHRASE)
    initialized.settings["ISSUER_KEYS_PASSPHRASE_FILE"] = str(in_use)
    server = initialized.serve().until_ready()
    new = secret_file(initialized.folder, NEW_PASSPHRASE)
    rewrapped = run_json(initialized, "keys", "rewrap", "--new-passphrase-file", str(new))
    assert rewrapped == {"rewrapped": 2}
    assert run_json(initialized, "keys", "rewrap", "--new-passphrase-file", str(new), code=4)
    assert initialized.token()
    assert (
        "rewrap" in run_json(initialized, "keys", "rotate", code=1)["message"]
    )  # the old passphrase makes no key
    new.replace(in_use)
    rotated = run_json(initialized, "keys", "rotate")
    eventually(lambda: kid_of(initialized.token()) == phases(rotated)["current"], "it signs")
    assert run_json(initialized, "keys", "verify")["keys"] == [
        {"phase": key["phase"], "kid": key["kid"], "alg": "RS256", "result": "ok"} for key in rotated["keys"]
    ]
    assert {NEW_PASSPHRASE, PASSPHRASE} & set(server.output.split("\n")) == set()


def test_verify_finds_a_damaged_key_and_a_stray_file(initialized: Installation) -> None:
    (standby,) = (
        key["kid"] for key in run_json(initialized, "keys", "list")["keys"] if key["phase"] == "standby"
    )
    file = initialized.keys / f"{standby}.pem"
    file.write_bytes(file.read_bytes()[:-100])
    (initialized.keys / "copy.pem").touch(mode=0o600)
    found = run_json(initialized, "keys", "verify", code=1)
    assert {key["phase"]: key["result"] == "ok" for key in found["keys"]} == {
        "current": True,
        "standby": False,
    }
    assert found["strays"] == ["copy.pem"]


def test_the_audit_log_names_the_operator_of_each_change_and_detects_tampering(
    initialized: Installation,
) -> None:
    run_json(initialized, "keys", "rotate", "--reason", "a drill")
    both = run_json(initialized, "audit", "list")["entries"]
    entries = [entry for entry in both if entry["log"] == "keys"]
    assert [entry["action"] for entry in entries].count("published") == 3
    last = next(entry for entry in entries if entry["reason"] == "a drill")
    assert (last["action"], last["ring_version"]) == ("activated", 2)
    assert " on " in last["actor"]
    whole = run_json(initialized, "audit", "verify")
    assert whole["entries"] == len(entries)
    assert run_json(initialized, "audit", "verify", "--noted", whole["digest"])["entries"] == len(entries)
    assert "was replaced" in run_json(initialized, "audit", "verify", "--noted", "0" * 64, code=1)["message"]
    with closing(sqlite3.connect(initialized.folder / "issuer.db")) as database, database:
        database.execute("DROP TRIGGER audit_refuses_update")
        database.execute("UPDATE audit SET actor = 'nobody' WHERE number = 2")
    assert "entry 2 was changed" in run_json(initialized, "audit", "verify", code=1)["message"]


def test_a_failing_reconcile_shows_in_readiness_metrics_and_log_and_never_stops_signing(
    initialized: Installation,
) -> None:
    server = initialized.serve().until_ready()
    initialized.keys.chmod(0o755)
    (standby,) = (
        key["kid"] for key in run_json(initialized, "keys", "list")["keys"] if key["phase"] == "standby"
    )
    # What removes the standby makes another due, which cannot be written now.
    with closing(sqlite3.connect(initialized.folder / "issuer.db", isolation_level=None)) as database:
        (text,) = database.execute("SELECT document FROM key_ring").fetchone()
        ring = json.loads(text)
        ring["keys"] = [key for key in ring["keys"] if key["kid"] != standby]
        ring["version"] += 1
        database.execute("UPDATE key_ring SET version = version + 1, document = ?", (json.dumps(ring),))

    def answer() -> Any:
        return initialized.http.get(f"{initialized.url}/readyz").json()

    eventually(lambda: len(answer()["warnings"]) == 2, "two warnings")
    assert "chmod 700" in answer()["warnings"][0]
    samples = Samples(initialized.http.get(f"{initialized.url}/metrics").text)
    assert samples.total("issuer_key_ring_reconcile_failing_seconds") > 0
    assert samples.total("issuer_standby_keys_missing") == 1
    eventually(lambda: "key ring needs attention" in server.output, "a line in the log")
    initialized.keys.chmod(0o700)
    eventually(
        lambda: (
            (answer()["status"], set(answer()["checks"].values()), answer()["warnings"]) == ("ok", {"ok"}, [])
        ),
        "key ring recovered",
    )
