"""Registering the clients of a file: all or none, with the database and the file of secrets in step."""

import json
import stat
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from support.lost_commits import losing_commits
from support.postgresql import temporary_database
from support.stores import NOW, user

from issuer.accounts.store import AccountStore
from issuer.administration.client_deletion import remove_client
from issuer.administration.client_file import read_clients
from issuer.administration.client_plan import Step
from issuer.administration.client_sync import ClientSync, spelled
from issuer.audit.event import Recorded
from issuer.audit.event_search import EventSearch, Filters
from issuer.clients.client import secret_matches
from issuer.clients.resources import Resource, Resources
from issuer.clients.store import ClientStore
from issuer.database.database import Database
from issuer.database.errors import DatabaseUnavailable
from issuer.digests import digest
from issuer.errors import Refused
from issuer.strict_json import BadDocument

HASH = "ab" * 32
DAY = timedelta(days=1)


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    return tmp_path / "secrets.json"


def sync(
    database: Database, *clients: Mapping[str, object], secrets: Path | None = None, **options: Any
) -> ClientSync:
    document = {"clients": clients, **({"secrets_file": secrets.name} if secrets else {})}
    file = read_clients(json.dumps(document).encode(), "https://api.example", NOW, is_json=True)
    chosen = {"overlap": timedelta(days=1), "prune": False, "actor": "an operator", **options}
    return ClientSync(database, spelled(file, Resources(database)), secrets, NOW, **chosen)


def names(database: Database) -> list[str]:
    return sorted(client.name for client in ClientStore(database).all()[0])


def test_clients_are_registered_and_a_second_time_nothing_is_done(
    each_database: Database, secrets: Path
) -> None:
    file = sync(
        each_database, {"client_id": "a", "name": "A"}, {"name": "B", "secret_sha256": HASH}, secrets=secrets
    )
    assert [each.step for each in file.preview()] == [Step.ADD, Step.ADD]
    assert (names(each_database), secrets.exists()) == ([], False)
    file.perform()
    assert names(each_database) == ["A", "B"]
    assert (
        sync(each_database, {"client_id": "a", "name": "A"}, {"name": "B"}, secrets=secrets).perform() == []
    )


def test_new_secrets_are_in_a_new_file_that_only_its_owner_can_read(
    each_database: Database, secrets: Path
) -> None:
    sync(
        each_database, {"client_id": "a", "name": "A"}, {"name": "B", "secret_sha256": HASH}, secrets=secrets
    ).perform()
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
    (written,) = json.loads(secrets.read_text())["clients"]
    client = ClientStore(each_database).by_id("a")
    assert (written["client_id"], written["name"]) == ("a", "A")
    assert secret_matches(client, written["client_secret"], NOW)


def test_a_file_of_secrets_is_never_overwritten_and_then_nothing_is_registered(
    each_database: Database, secrets: Path
) -> None:
    secrets.write_text("others")
    file = sync(each_database, {"name": "A"}, secrets=secrets)
    for attempt in (file.preview, file.perform):
        with pytest.raises(Refused, match="is not overwritten"):
            attempt()
    secrets.unlink()
    secrets.symlink_to(secrets.parent / "elsewhere")
    with pytest.raises(FileExistsError):
        file.perform()
    assert (names(each_database), (secrets.parent / "elsewhere").exists()) == ([], False)


def test_if_one_client_cannot_be_registered_none_is_and_no_secret_is_written(
    each_database: Database, secrets: Path
) -> None:
    store = ClientStore(each_database)
    owner = user()
    AccountStore(each_database).add(owner)
    sync(each_database, {"client_id": "gone", "name": "Gone", "secret_sha256": HASH}).perform()
    remove_client(each_database, "gone", NOW)
    for taken in ("gone", owner.id):
        file = sync(each_database, {"name": "A"}, {"client_id": taken, "name": "B"}, secrets=secrets)
        for attempt in (file.preview, file.perform):
            with pytest.raises(BadDocument, match="no id is used again"):
                attempt()
    assert (store.all()[0], secrets.exists()) == ([], False)


def test_secrets_of_clients_that_were_not_stored_are_removed(database: Database, secrets: Path) -> None:
    with database.write() as connection:  # which fails when it is committed
        connection.execute(text("CREATE TABLE parents (id INTEGER PRIMARY KEY)"))
        connection.execute(
            text("CREATE TABLE children (id INTEGER REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)")
        )
        connection.execute(
            text("CREATE TRIGGER refuse AFTER INSERT ON clients BEGIN INSERT INTO children VALUES (1); END")
        )
    with pytest.raises(Exception, match="FOREIGN KEY"):
        sync(database, {"name": "A"}, secrets=secrets).perform()
    assert (names(database), secrets.exists()) == ([], False)


@pytest.mark.parametrize("is_committed", [True, False])
def test_secrets_are_kept_if_the_connection_is_lost_at_the_commit_and_the_command_can_be_run_again(
    postgresql: str, secrets: Path, is_committed: bool
) -> None:
    declared = {"client_id": "a", "name": "A"}
    with temporary_database(postgresql) as url, closing(Database(url)) as database:
        database.migrate()
        with (
            losing_commits(url, b"INSERT INTO clients", is_committed=is_committed) as losing,
            closing(Database(losing)) as lost,
            pytest.raises(
                DatabaseUnavailable, match="whether the clients were registered is unknown"
            ) as error,
        ):
            sync(lost, declared, secrets=secrets).perform()
        (kept,) = secrets.parent.iterdir()
        assert f" kept in {kept}. " in str(error.value)
        again = sync(database, declared, secrets=secrets).perform()
        assert [each.step for each in again] == ([] if is_committed else [Step.ADD])
        (written,) = json.loads((kept if is_committed else secrets).read_text())["clients"]
        client = ClientStore(database).by_id("a")
        assert secret_matches(client, written["client_secret"], NOW)


def test_files_that_are_registered_at_the_same_time_register_each_client_once(
    each_database: Database,
) -> None:
    def register(_: int) -> int:
        clients = ({"name": f"client {number}", "secret_sha256": HASH} for number in range(5))
        return len(sync(each_database, *clients).perform())

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(register, range(4))) == [0, 0, 0, 5]
    assert names(each_database) == [f"client {number}" for number in range(5)]


def test_only_confirmed_clients_are_deleted(each_database: Database) -> None:
    sync(
        each_database, *({"client_id": each, "name": each, "secret_sha256": HASH} for each in "abc")
    ).perform()
    pruned = sync(each_database, {"client_id": "a", "name": "a"}, prune=True)
    assert [each.client.id for each in pruned.preview()] == ["b", "c"]
    with pytest.raises(Refused, match="meanwhile"):
        pruned.perform(["b"])
    assert names(each_database) == ["a", "b", "c"]
    done = pruned.perform(["b", "c", "d"])
    pruned.remove_leftovers(done, NOW)
    assert names(each_database) == ["a"]
    with pytest.raises(BadDocument, match="no id is used again"):
        sync(each_database, {"client_id": "b", "name": "b", "secret_sha256": HASH}).perform()


def test_audiences_are_spelled_as_the_resources_are_registered(each_database: Database) -> None:
    Resources(each_database).add(Resource("https://tools.example/", NOW))
    declared = {"client_id": "a", "name": "a", "secret_sha256": HASH, "audiences": ["https://tools.example"]}
    sync(each_database, declared).perform()
    client = ClientStore(each_database).by_id("a")
    assert client
    assert client.audiences == ("https://tools.example/",)
    assert sync(each_database, declared).perform() == []


def test_a_disabled_client_stays_disabled(each_database: Database) -> None:
    declared = {"client_id": "a", "name": "a", "secret_sha256": HASH}
    sync(each_database, declared).perform()
    store = ClientStore(each_database)
    store.set_disabled("a", NOW)
    before = store.by_id("a")
    assert before
    sync(each_database, {**declared, "scope": "b"}).perform()
    assert store.by_id("a") == replace(before, scope=frozenset({"b"}))


def test_what_happens_to_secrets_is_recorded_and_without_overlap_a_replaced_one_is_refused_at_once(
    each_database: Database,
) -> None:
    machine = {"client_id": "a", "name": "a", "secret_sha256": digest("old").hex()}
    renewed = {**machine, "secret_sha256": digest("new").hex()}
    keys = {"client_id": "a", "name": "a", "auth": "private_key_jwt", "jwks_uri": "https://a.example/jwks"}
    steps: list[tuple[dict[str, str], timedelta, set[str]]] = [
        (machine, DAY, {"old"}),
        (renewed, DAY, {"old", "new"}),
        (renewed, DAY, {"old", "new"}),
        (renewed, timedelta(0), {"new"}),
        (machine, timedelta(0), {"old"}),
        (keys, DAY, set()),
        (renewed, DAY, {"new"}),
    ]
    store = ClientStore(each_database)
    for declared, overlap, valid in steps:
        sync(each_database, declared, overlap=overlap).perform()
        client = store.by_id("a")
        assert {each for each in ("old", "new") if secret_matches(client, each, NOW)} == valid
    events, _ = EventSearch(each_database).newest(Filters(client_id="a"), 20)
    told = [(each.event.action, each.event.detail) for each in events if isinstance(each, Recorded)]
    assert [each for each in told if each[0] != "client changed"] == [
        ("client created", None),
        ("secret rotated", "the old one is valid for 1d"),
        ("secret removed", "the old one"),
        ("secret rotated", "the old one is valid for 0s"),
        ("secret removed", None),
        ("secret created", None),
    ]
    changed = [detail for action, detail in told if action == "client changed"]
    assert changed[:3] == ["secret", "old secret", "secret"]


def test_a_file_of_secrets_that_cannot_be_written_whole_is_removed_and_nothing_is_registered(
    each_database: Database, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("issuer.administration.client_sync.os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        sync(each_database, {"name": "A"}, secrets=secrets).perform()
    assert (names(each_database), secrets.exists()) == ([], False)
