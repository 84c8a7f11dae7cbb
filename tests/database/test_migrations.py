"""Upgrades: what the first release left goes on under this one, and each migration leaves the version before working.

The story that real servers play on such a database is told in `servers/test_upgraded`.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import jwt
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import Connection, insert, inspect, select, text
from support.defaults import bearer
from support.first_release import (
    ADD_PRIVATE_KEY,
    ADD_TOKEN,
    CHANGES,
    PASSWORD,
    READS,
    SAVE_RING,
    USE_TOKEN,
    FirstRelease,
)

from issuer.clock import system_clock
from issuer.database.database import SCHEMA, Database
from issuer.database.migrations import config
from issuer.database.schema import VERSION_TABLE
from issuer.digests import named
from issuer.keyring.store import RingStore
from issuer.settings.settings import Settings
from issuer.throttling.limits import ACCOUNT, bucket
from issuer.throttling.store import ThrottleStore, devices, throttle
from issuer.tokens.refresh import family_and_proof
from issuer.web.app import create_app
from issuer.wiring import Issuer, build

ISSUER, SERVICE = "http://127.0.0.1:8000", "http://127.0.0.1:8001"
REVISIONS = sorted(script.revision for script in ScriptDirectory.from_config(config()).walk_revisions())


@pytest.fixture
def first(url: str, keys: Path) -> FirstRelease:
    made = FirstRelease(ISSUER, SERVICE, system_clock() - timedelta(minutes=1), "a passphrase for tests")
    made.make(url, keys)
    return made


@pytest.fixture
def upgraded(first: FirstRelease, url: str, settings: Settings) -> Iterator[Issuer]:
    """This version on what the first release left."""
    issuer = build(settings.model_copy(update={"database_url": SecretStr(url)}))
    yield issuer
    issuer.close()


@pytest.fixture
def web(upgraded: Issuer) -> Iterator[TestClient]:
    with TestClient(create_app(upgraded)) as client:
        yield client


def refresh(web: TestClient, token: str) -> Any:
    form = {"grant_type": "refresh_token", "client_id": "first-party", "refresh_token": token}
    return web.post("/oauth2/token", data=form)


def verifies(web: TestClient, token: str) -> bool:
    """Return whether a service that knows the issuer by URL only accepts the token."""
    keys = {key.key_id: key for key in jwt.PyJWKSet.from_dict(web.get("/.well-known/jwks.json").json()).keys}
    key = keys.get(jwt.get_unverified_header(token)["kid"])
    return bool(key and jwt.decode(token, key, ["RS256"], audience=SERVICE, issuer=ISSUER))


def test_keys_tokens_sessions_accounts_and_clients_of_the_first_release_go_on(
    first: FirstRelease, web: TestClient, upgraded: Issuer, keys: Path
) -> None:
    document = web.get("/.well-known/jwks.json").json()
    assert [key["kid"] for key in document["keys"]] == [key.kid for key in first.keys]
    assert {path.stem for path in keys.glob("*.pem")} == {key.kid for key in first.keys}
    assert verifies(web, first.access_token)
    refreshed = refresh(web, first.refresh_token)
    assert refreshed.status_code == 200
    headers = bearer(refreshed.json()["access_token"])
    assert web.get("/users/me", headers=headers).json()["username"] == "bob"
    assert refresh(web, refreshed.json()["refresh_token"]).status_code == 200
    assert web.post("/login", data={"username": "bob", "password": PASSWORD}).status_code == 200
    machine = (first.client_id, first.client_secret)
    answer = web.post("/oauth2/token", auth=machine, data={"grant_type": "client_credentials"})
    assert answer.status_code == 200
    assert upgraded.keys.node.warnings() == []


def test_the_ring_of_the_first_release_rotates_and_its_key_can_be_revoked(
    first: FirstRelease, web: TestClient, upgraded: Issuer
) -> None:
    old, standby = (key.kid for key in first.keys)
    policy = upgraded.policy
    ring = upgraded.keys.rotation.change(
        lambda ring, now: ring.promoted(policy, now)
    )  # founders are ripe at once
    assert ring.current(system_clock()).kid == standby
    upgraded.keys.node.refresh()
    assert verifies(web, first.access_token)
    upgraded.keys.rotation.change(lambda ring, now: ring.revoked(old, "a test", policy, now))
    upgraded.keys.node.refresh()
    assert not verifies(web, first.access_token)


# Two versions side by side


def test_the_first_release_goes_on_beside_this_one(
    first: FirstRelease, web: TestClient, upgraded: Issuer
) -> None:
    """Its frozen statements work on the newest schema, and each version reads what the other wrote."""
    made_here = web.post("/login", data={"username": "bob", "password": PASSWORD}).json()
    beside = FirstRelease(ISSUER, SERVICE, system_clock(), keys=first.keys)
    with upgraded.database.write() as connection:
        beside.write(connection, "carol")
        connection.execute(text(ADD_PRIVATE_KEY), {"kid": "x", "pem": b"x", "kept": False})
        for change in CHANGES:
            connection.execute(text(change), {"kept": True})
        for read in READS:
            connection.execute(text(read)).all()
    assert refresh(web, beside.refresh_token).status_code == 200
    assert refresh(web, made_here["refresh_token"]).status_code == 200
    assert web.post("/login", data={"username": "carol", "password": PASSWORD}).status_code == 200


def test_of_two_versions_that_use_a_refresh_token_one_does(
    first: FirstRelease, web: TestClient, upgraded: Issuer
) -> None:
    assert refresh(web, first.refresh_token).status_code == 200
    with upgraded.database.write() as connection:
        found = connection.execute(
            text("SELECT digest, family_id FROM refresh_tokens WHERE used_at IS NOT NULL")
        ).one()
        use = {"digest": found.digest, "family_id": found.family_id, "now": first._at(system_clock())}
        assert connection.execute(text(USE_TOKEN), use).rowcount == 0


def test_a_session_of_the_first_release_is_protected_like_any_other_from_its_next_refresh_on(
    first: FirstRelease, web: TestClient
) -> None:
    successor = refresh(web, first.refresh_token).json()["refresh_token"]
    assert family_and_proof(first.refresh_token) is None
    assert family_and_proof(successor)
    assert refresh(web, first.refresh_token).json()["refresh_token"] == successor
    assert refresh(web, first.refresh_token).status_code == 400
    newest = refresh(web, successor).json()["refresh_token"]
    assert family_and_proof(newest) == family_and_proof(successor)


def used_by_the_first_release(upgraded: Issuer, first: FirstRelease, token: str) -> str:
    """Rotate a token as the first release did, and return the successor that it gave."""
    digest = hashlib.sha256(token.encode()).digest()
    with upgraded.database.write() as connection:
        look = text("SELECT family_id, expires_at, successor_seed FROM refresh_tokens WHERE digest = :digest")
        found = connection.execute(look, {"digest": digest}).one()
        mac = hmac.digest(token.encode(), found.successor_seed, "sha256")
        successor = base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
        use = {"digest": digest, "family_id": found.family_id, "now": first._at(system_clock())}
        assert connection.execute(text(USE_TOKEN), use).rowcount == 1
        kept = {"digest": hashlib.sha256(successor.encode()).digest(), "family_id": found.family_id}
        kept |= {"expires_at": found.expires_at, "successor_seed": secrets.token_bytes(32)}
        connection.execute(text(ADD_TOKEN), kept)
    return successor


def test_a_session_is_refreshed_by_both_versions_in_turn(
    first: FirstRelease, web: TestClient, upgraded: Issuer
) -> None:
    token = web.post("/login", data={"username": "bob", "password": PASSWORD}).json()["refresh_token"]
    theirs = used_by_the_first_release(upgraded, first, token)
    assert refresh(web, token).json()["refresh_token"] == theirs
    assert refresh(web, token).status_code == 400
    ours = refresh(web, theirs).json()["refresh_token"]
    assert ours not in {token, theirs}
    again = used_by_the_first_release(upgraded, first, ours)
    assert refresh(web, again).status_code == 200


def test_a_ring_that_the_first_release_saves_beside_this_one_is_taken_up(
    first: FirstRelease, web: TestClient, upgraded: Issuer
) -> None:
    version = upgraded.keys.node.view.ring.version
    saved = {"version": version + 1, "before": version, "document": first.document(version + 1)}
    with upgraded.database.write() as connection:
        assert connection.execute(text(SAVE_RING), saved).rowcount == 1
    view = upgraded.keys.node.refresh()
    assert view.ring.version > version
    assert {key.kid for key in view.published_keys} == {key.kid for key in first.keys}
    assert RingStore(upgraded.database).load() == view.ring


# The rule for each migration


Columns = dict[tuple[str, str], dict[str, Any]]


def columns(connection: Connection) -> Columns:
    looked = inspect(connection)
    return {
        (table, column["name"]): dict(column)
        for table in looked.get_table_names()
        for column in looked.get_columns(table)
    }


def constraints(connection: Connection, tables: set[str]) -> dict[str, list[str]]:
    """Return what may refuse a row, but for the types of columns."""
    looked = inspect(connection)
    return {
        table: sorted(
            [f"unique {each['column_names']}" for each in looked.get_unique_constraints(table)]
            + [f"check {each['sqltext']}" for each in looked.get_check_constraints(table)]
            + [f"foreign {each['constrained_columns']}" for each in looked.get_foreign_keys(table)]
            + [f"unique {each['column_names']}" for each in looked.get_indexes(table) if each["unique"]]
        )
        for table in tables
    }


@pytest.mark.parametrize(("before", "after"), list(pairwise(REVISIONS)))
def test_a_migration_only_adds_so_that_the_version_before_works_beside_it(
    url: str, before: str, after: str
) -> None:
    database = Database(url)
    if database.file:
        database.file.touch()
    with database.write() as connection:
        command.upgrade(config(connection), before)
        old = columns(connection)
        tables = {table for table, _ in old} - {VERSION_TABLE}
        old_constraints = constraints(connection, tables)
    with database.write() as connection:
        command.upgrade(config(connection), after)
        new = columns(connection)
        assert constraints(connection, tables) == old_constraints
    database.close()
    for name, column in old.items():
        assert name in new, f"{name} is gone"
        assert (str(new[name]["type"]), new[name]["nullable"]) == (str(column["type"]), column["nullable"])
    for table, name in new.keys() - old.keys():
        column = new[table, name]
        if table in tables:
            assert column["nullable"] or column["default"] is not None, f"{table}.{name} must be given"


def test_the_revisions_are_one_line_of_four_digits_up_to_the_newest() -> None:
    assert [f"{number:04}" for number in range(1, len(REVISIONS) + 1)] == REVISIONS
    assert REVISIONS[-1] == SCHEMA


def test_failures_and_devices_stay_known_when_their_names_become_keyed(url: str) -> None:
    database, now = Database(url), system_clock()
    if database.file:
        database.file.touch()
    account, device = bucket(ACCOUNT, "account", "alice"), named("cookie", "alice", "a name")
    with database.write() as connection:
        command.upgrade(config(connection), "0003")
        connection.execute(insert(throttle).values(bucket=account.id, failures=7, since=now))
        connection.execute(insert(devices).values(device=device, seen_at=now))
    database.migrate()
    store = ThrottleStore(database)
    assert {each.id: count.failures for each, count in store.counts([account]).items()} == {account.id: 7}
    assert store.known([device], now) == {device: now}
    with database.read() as connection:
        kept = {bytes(name) for name in connection.execute(select(throttle.c.bucket)).scalars()}
    assert not kept & {account.id}
    database.close()
