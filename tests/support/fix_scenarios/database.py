"""Scenarios: the database."""

import os
import shutil
from collections.abc import Mapping
from types import SimpleNamespace

from issuer.clock import system_clock
from issuer.database.database import Database
from issuer.fixes import Kind
from issuer.keyring.heartbeat import Heartbeat
from issuer.keyring.heartbeat_store import HeartbeatStore
from issuer.settings.loading import load_settings
from support.components import require_root
from support.fix_scenarios.stage import (
    NOBODY,
    Stage,
    as_an_ordinary_user,
    scenario,
    setting,
)

setting(Kind.DATABASE_URL, ISSUER_DATABASE_URL="sqlite:///keys")  # a folder


@scenario(Kind.DATABASE_MISSING)
def _(stage: Stage) -> None:
    stage.without_keys()


@scenario(Kind.DATABASE_OUTDATED)
def _(stage: Stage) -> None:
    stage.deployment.change("UPDATE issuer_schema_version SET version_num = '0000'")


@scenario(Kind.DATABASE_RESTORE)
def _(stage: Stage) -> None:
    stage.back_up()
    stage.deployment.change("UPDATE key_ring SET document = '{}'")


@scenario(Kind.DATABASE_UNREACHABLE)
def _(stage: Stage) -> None:
    stage.deployment.set(ISSUER_DATABASE_URL="postgresql://me:hidden@127.0.0.1:1/name")


@scenario(Kind.DATABASE_ENCODING)
def _(stage: Stage) -> None:
    stage.without_keys()
    stage.deployment.set(ISSUER_DATABASE_URL=stage.postgresql("ENCODING 'SQL_ASCII' TEMPLATE template0"))


@scenario(Kind.DATABASE_FOREIGN)
def _(stage: Stage) -> None:
    stage.without_keys()
    stage.deployment.change("CREATE TABLE wares (id INTEGER)")
    (stage.deployment.folder / "issuer.db").chmod(0o600)


@scenario(Kind.HEARTBEATS_DAMAGED)
def _(stage: Stage) -> None:
    beat("one/7")
    stage.deployment.change("UPDATE heartbeats SET signs_until = 'nonsense'")


@scenario(Kind.DATABASE_OWNER)
def _(stage: Stage) -> None:
    require_root()
    os.chown(stage.deployment.folder / "issuer.db", NOBODY, NOBODY)


@scenario(Kind.DATABASE_UNREADABLE)
def _(stage: Stage) -> None:
    file = stage.deployment.folder / "issuer.db"
    file.chmod(0o400)
    as_an_ordinary_user(stage, file)


@scenario(Kind.DATABASE_EXPOSED)
def _(stage: Stage) -> None:
    (stage.deployment.folder / "issuer.db").chmod(0o644)


@scenario(Kind.DATABASE_FOLDER_CLOSED)
def _(stage: Stage) -> None:
    as_an_ordinary_user(stage, stage.deployment.folder.absolute())
    stage.deployment.folder.chmod(0o500)


@scenario(Kind.DATABASE_FOLDER_EXPOSED)
def _(stage: Stage) -> None:
    stage.deployment.folder.chmod(0o777)


@scenario(Kind.DATABASE_MOVED)
def _(stage: Stage) -> None:
    url = stage.postgresql()
    (stage.deployment.folder / "to").write_text(url)
    (stage.deployment.folder / "to").chmod(0o600)
    stage.deployment.apply("issuer move --to-file to")
    stage.deployment.set(ISSUER_KEYS="database")


@scenario(Kind.DISK_FULL)
def _(stage: Stage) -> None:
    full = SimpleNamespace(total=1024**4, used=0, free=100 * 1024**2)
    stage.deployment.patch.setattr(shutil, "disk_usage", lambda _: full)


def beat(name: str, other_settings: Mapping[str, str] | None = None) -> None:
    settings = load_settings()
    database, now = Database(settings.database_url.get_secret_value()), system_clock()
    HeartbeatStore(database).beat(Heartbeat.of(name, name, 1, settings.policy(), now, other_settings), now)
    database.close()


@scenario(Kind.SETTINGS_DIFFER)
def _(stage: Stage) -> None:
    beat("one/7", {"ISSUER_URL": "https://issuer.example", "ISSUER_CLOCK_SKEW": "30s"})


def moved_elsewhere(stage: Stage) -> None:
    """Let an operator stop the nodes, move everything to a new database, and set what `issuer move` says."""
    url = stage.postgresql()
    (stage.deployment.folder / "to").write_text(url)
    stage.fills["FILE"] = "to"
    for name in ("one/7", "two/7"):
        beat(name)

    def follow() -> None:
        stage.deployment.set(ISSUER_DATABASE_URL=url, ISSUER_KEYS="database")

    stage.then = follow


@scenario(Kind.SEVERAL_HOSTS_SQLITE)
def _(stage: Stage) -> None:
    moved_elsewhere(stage)
    stub_nodes_stopped(stage)


@scenario(Kind.SEVERAL_HOSTS_DIRECTORY)
def _(stage: Stage) -> None:
    stage.without_keys()
    stage.deployment.set(ISSUER_DATABASE_URL=stage.postgresql())
    stage.deployment.make()
    moved_elsewhere(stage)
    stub_nodes_stopped(stage)


def stub_nodes_stopped(stage: Stage) -> None:
    """The nodes of the scenario are heartbeats: they are gone once the operator begins to do something."""
    real = stage.deployment.apply

    def stopped_first(line: str, *, must_work: bool = True) -> None:
        database = Database(load_settings().database_url.get_secret_value())
        for beat_left in HeartbeatStore(database).all():
            HeartbeatStore(database).beat(beat_left.last(system_clock()), system_clock())
        database.close()
        real(line, must_work=must_work)

    stage.deployment.apply = stopped_first  # type: ignore[method-assign]
