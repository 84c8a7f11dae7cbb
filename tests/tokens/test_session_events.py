"""The record of repeats and replays of refresh tokens: sums by user, and no influence on answers."""

import json
import uuid
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from support.defaults import REFRESH_GRACE, MovableClock
from support.refreshes import events, is_active, log_in, refresh, successor
from typer.testing import CliRunner

from issuer.audit.chain import Action, Entry
from issuer.cli.commands import app
from issuer.digests import digest
from issuer.maintenance.pruning import prune
from issuer.services import Issuer
from issuer.tokens.session_events import SessionEvent


@pytest.mark.parametrize("broken", ["the table is gone", "the log raises"])
def test_a_failing_record_changes_no_answer_to_a_repeat_or_replay(
    web: TestClient,
    alice: str,
    issuer: Issuer,
    clock: MovableClock,
    monkeypatch: pytest.MonkeyPatch,
    broken: str,
) -> None:
    first = log_in(web)["refresh_token"]
    if broken == "the table is gone":
        with issuer.database.write() as connection:
            connection.execute(text("DROP TABLE session_events"))
    else:

        class Broken:
            def __getattr__(self, name: str) -> Any:
                raise OSError(name)

        monkeypatch.setattr("issuer.tokens.families.log", Broken())
    second = successor(web, first)
    assert successor(web, first) == second
    assert refresh(web, first).json()["error"] == "invalid_grant"
    clock.advance(seconds=REFRESH_GRACE.total_seconds() + 1)
    issuer.keys.node.refresh()
    answer = refresh(web, first)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert not is_active(web, second)


def test_events_are_summed_by_user_for_thirty_days_and_deleted_after_ninety(
    web: TestClient, alice: str, issuer: Issuer, clock: MovableClock
) -> None:
    for _ in range(20):
        first = log_in(web)["refresh_token"]
        successor(web, first)
        successor(web, first)
    assert [(each.event, each.count) for each in issuer.tokens.session_events.newest(10)[0]] == [
        ("refresh token repeated", 20)
    ]
    assert {link.entry.action for link in issuer.keys.audit.chain()[0]} == {"published", "activated"}
    clock.advance(days=31)
    issuer.keys.node.refresh()
    first = log_in(web)["refresh_token"]
    assert successor(web, first) == successor(web, first)
    [event], _ = issuer.tokens.session_events.newest(10)
    assert (event.count, event.first_at, event.last_at) == (1, clock(), clock())
    clock.advance(days=89)
    prune(issuer.database, clock())
    assert events(issuer) == {"refresh token repeated": 1}
    clock.advance(days=2)
    while prune(issuer.database, clock()):
        pass
    assert events(issuer) == {}


def test_many_replays_do_not_displace_key_events_in_the_audit_log(
    web: TestClient, alice: str, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISSUER_KEYS_PASSPHRASE", "a passphrase for tests")

    def run_audit(*command: str) -> Any:
        done = CliRunner().invoke(app, ["audit", *command])
        assert done.exit_code == 0, done.output
        return json.loads(done.output) if "--json" in command else done.output

    assert "no events in the last 90 days" in run_audit("sessions")
    assert run_audit("list", "--json")["sessions"] == []
    now = issuer.clock()
    issuer.keys.audit.record(Entry(now, "an operator", Action.ACTIVATED, reason="forced: the vendor asked"))
    first = log_in(web)["refresh_token"]
    found = issuer.tokens.families.find(digest(first))
    assert found
    for number in range(60):  # of as many accounts
        family = replace(found.family, user_id=str(uuid.UUID(int=number)))
        issuer.tokens.session_events.record(SessionEvent.REUSED, family, now)
    issuer.tokens.session_events.record(SessionEvent.REUSED, found.family, now + timedelta(seconds=1))
    listed = run_audit("list", "--json")
    assert "forced: the vendor asked" in [entry["reason"] for entry in listed["entries"]]
    assert len(listed["sessions"]) == 50
    assert "issuer audit sessions" in run_audit("list")
    assert len(run_audit("sessions", "--last", "100", "--json")["sessions"]) == 61
    newest = run_audit("sessions").strip().splitlines()[-1]
    assert "alice" in newest
    assert found.family.id in newest
    assert "entries" in run_audit("verify", "--json")
