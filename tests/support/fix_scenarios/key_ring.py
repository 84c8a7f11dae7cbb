"""Scenarios: the key ring and its audit log."""

import shutil
from dataclasses import replace
from datetime import timedelta

from issuer.clock import system_clock
from issuer.database.database import Database
from issuer.fixes import Kind
from issuer.keyring.store import RingStore
from issuer.settings.loading import load_settings
from issuer.signing.algorithms import ALGORITHMS
from issuer.wiring import build
from support.defaults import MovableClock
from support.fix_scenarios.stage import Stage, scenario, stub


@scenario(Kind.RING_MISSING)
def _(stage: Stage) -> None:
    stage.without_keys()
    Database("sqlite:///issuer.db").migrate()


@scenario(Kind.RING_OLDER)
def _(stage: Stage) -> None:
    stage.back_up()
    issuer = build(load_settings())
    kid = issuer.keys.rotation.ring().standbys(system_clock())[0].kid
    issuer.keys.rotation.change(lambda ring, now: ring.revoked(kid, "stolen", issuer.policy, now))
    issuer.close()
    shutil.move(stage.deployment.folder / "backup.db", stage.deployment.folder / "issuer.db")
    stage.fills["TEXT"] = "'restored a backup'"


@scenario(Kind.AUDIT_SHORT)
def _(stage: Stage) -> None:
    stage.deployment.change("DROP TRIGGER audit_refuses_delete")
    stage.deployment.change("DELETE FROM audit WHERE number = (SELECT max(number) FROM audit)")
    stage.deployment.change(
        "UPDATE audit_head SET (number, digest) = (SELECT max(number), digest FROM audit)"
    )
    stage.fills["TEXT"] = "'who did that?'"


@scenario(Kind.RING_NEEDS_A_NODE)
def _(stage: Stage) -> None:
    stage.deployment.set(ISSUER_STANDBY_KEYS="2")


@scenario(Kind.TOO_MANY_KEYS)
def _(stage: Stage) -> None:
    """Keys were kept for 59 days at one a day, and shorter settings rotate faster from now on."""
    database = Database("sqlite:///issuer.db")
    store = RingStore(database)
    ring = store.load()
    assert ring
    first = min(ring.keys, key=lambda key: key.activates_at or system_clock())
    old = []
    for days in range(59, 0, -1):
        public = ALGORITHMS["ES256"].public_key(ALGORITHMS["ES256"].generate())
        turn = ring.changed_at - timedelta(days=days)
        lives = {"token_lifetime": timedelta(days=60), "activates_at": turn, "published_at": turn}
        old.append(replace(first, kid=public.kid, jwk=public.jwk, **lives))
    store.save(replace(ring, version=2, keys=(*old, *ring.keys)))
    database.close()
    stage.deployment.set(
        ISSUER_ROTATION_PERIOD="6h", ISSUER_PUBLISH_LEAD="6h", ISSUER_ACCESS_TOKEN_LIFETIME="3d"
    )


@scenario(Kind.CLOCK)
def _(stage: Stage) -> None:
    stage.without_keys()
    stage.deployment.set(ISSUER_DATABASE_URL=stage.postgresql())
    stage.deployment.make()
    ahead = MovableClock()
    ahead.now = system_clock() + timedelta(minutes=5)
    stage.deployment.clock = ahead
    stub(stage, "timedatectl", 'test "$*" = "set-ntp true" && touch ntp')

    def corrected() -> None:
        assert (stage.deployment.folder / "ntp").exists()
        stage.deployment.clock = system_clock

    stage.then = corrected
