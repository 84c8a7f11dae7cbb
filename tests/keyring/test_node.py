"""What each process does every second: it loads the ring, opens its keys and reports what is wrong."""

from dataclasses import replace
from datetime import timedelta

import pytest
from pydantic import TypeAdapter
from sqlalchemy import text, update
from support.example_rings import DAY, SECOND
from support.ring_nodes import FAST, Site

from issuer.database.errors import DatabaseDamaged, DatabaseUnavailable
from issuer.errors import KeyUnavailable, OlderRing
from issuer.keyring.node import Node
from issuer.keyring.ring import KeyRing
from issuer.keyring.rotation import Rotation
from issuer.keyring.store import RingStore, key_ring
from issuer.signing.pem import PemSigner
from issuer.signing.pem_directory import CHECKPOINT, PemDirectory
from issuer.signing.public_key import PublicKey


def test_a_standby_that_cannot_be_opened_prevents_a_start_but_not_later_refreshes(site: Site) -> None:
    node = site.node("a")
    standby = node.refresh().ring.standbys(site.clock())[0]
    site.clock.advance(days=1)
    other = site.rotation().change(lambda ring, now: ring.promoted(FAST, now)).standbys(site.clock())[0]
    (site.keys / f"{other.kid}.pem").write_text("damaged")
    view = node.refresh()
    assert view.signing_key(FAST, site.clock()).kid == standby.kid
    assert other.kid in {key.kid for key in view.published_keys}
    (warning,) = node.warnings()
    assert other.kid in warning
    assert "restore it from the backup" in warning
    assert "backup" not in node.warnings(in_detail=False)[0]
    with pytest.raises(KeyUnavailable, match=other.kid):
        site.node("starting").refresh()


def test_a_process_that_cannot_open_the_new_current_key_stops_signing_and_keeps_publishing(
    site: Site,
) -> None:
    passphrases = ["passphrase"]
    signer = PemSigner(PemDirectory(site.keys), lambda: passphrases[0])
    rotation = Rotation(RingStore(site.database), signer, FAST, site.clock, "a")
    node = Node(rotation, signer, site.heartbeats, FAST, site.clock, "a")
    stolen = node.refresh().ring.current(site.clock()).kid
    PemSigner(PemDirectory(site.keys), lambda: "passphrase").rewrap("new")
    operator = PemSigner(PemDirectory(site.keys), lambda: "new")
    moves = Rotation(RingStore(site.database), operator, FAST, site.clock, "operator")
    for _ in range(2):  # the second successor is one that the node never opened
        current = moves.ring().current(site.clock()).kid
        moves.change(lambda ring, now, kid=current: ring.revoked(kid, "stolen", FAST, now))  # type: ignore[misc]
        site.clock.advance(seconds=1)
    view = node.refresh()
    assert stolen not in {key.kid for key in view.published_keys}
    assert site.beats()["a"] == moves.ring().version
    with pytest.raises(KeyUnavailable, match="cannot be opened on this node"):
        view.signing_key(FAST, site.clock())
    passphrases[0] = "new"
    assert node.refresh().signing_key(FAST, site.clock())
    assert node.warnings() == []


def test_a_routine_rotation_causes_no_warning_until_the_next_refresh_adds_a_standby(site: Site) -> None:
    node = site.node("a")
    signs_from = node.refresh().ring.standbys(site.clock())[0].activates_at
    assert signs_from is not None
    site.clock.advance(seconds=(signs_from - site.clock()).total_seconds() - 0.5)
    node.refresh()
    site.clock.advance(seconds=0.5)
    assert (node.view.ring.standbys(site.clock()), node.warnings()) == ((), [])
    assert len(node.refresh().ring.standbys(site.clock())) == 1


def test_a_process_that_cannot_generate_a_key_reports_it_and_keeps_signing_and_publishing(
    site: Site,
) -> None:
    node = site.node("a")
    standby = node.refresh().ring.standbys(site.clock())[0]
    site.clock.advance(days=30)
    site.keys.chmod(0o755)
    for _ in range(40):
        node.refresh()
        site.clock.advance(seconds=1)
    began = site.clock() - timedelta(seconds=40)
    assert node.view.signing_key(FAST, site.clock()).kid == standby.kid
    assert node.failure is not None
    assert (node.failure.since, "chmod 700" in node.failure.reason) == (began, True)
    assert any("1 of 1 standby keys are missing" in warning for warning in node.warnings())
    site.keys.chmod(0o700)
    site.clock.advance(seconds=10)
    node.refresh()
    assert (node.failure, node.warnings()) == (None, [])


def test_an_emergency_revocation_succeeds_without_a_new_standby(site: Site) -> None:
    ring = site.rotation().reconcile()
    stolen = ring.current(site.clock()).kid
    operator = site.rotation()
    operator._signer.generate = unable  # type: ignore[method-assign]
    after = operator.change(lambda ring, now: ring.revoked(stolen, "stolen", FAST, now), emergency=True)
    assert after.current(site.clock()).kid == ring.standbys(site.clock())[0].kid
    assert after.standbys(site.clock()) == ()
    assert operator.generation_error is not None


def unable(alg: str) -> PublicKey:
    raise KeyUnavailable(f"no space left for {alg}")


def test_a_revocation_takes_effect_while_the_private_keys_are_unreachable(site: Site) -> None:
    node = site.node("a")
    ring = node.refresh().ring
    stolen = ring.current(site.clock()).kid
    site.clock.advance(seconds=1)
    away = site.keys.rename(site.keys.with_name("away"))
    site.keys.write_text("no directory")
    operator = site.rotation()
    after = operator.change(
        lambda ring, now: ring.revoked(stolen, "stolen", FAST, now), emergency=True, skip_open_check=True
    )
    assert stolen in operator.private_keys.destruction_errors
    view = node.refresh()
    assert stolen not in {key.kid for key in view.published_keys}
    assert site.beats()["a"] == after.version
    assert any("ISSUER_KEYS" in warning for warning in node.warnings())
    site.keys.unlink()
    away.rename(site.keys)
    site.clock.advance(seconds=11)
    node.refresh()
    assert f"{stolen}.pem" not in {path.name for path in site.keys.iterdir()}
    assert node.view.signing_key(FAST, site.clock())
    assert node.warnings() == []


def test_a_current_key_that_can_no_longer_sign_is_detected_without_a_request(site: Site) -> None:
    node = site.node("a")
    node.refresh()

    def away(kid: str, data: bytes) -> bytes:
        raise KeyUnavailable(f"the token with {kid} was pulled out")

    sign = node._signer.sign
    node._signer.sign = away  # type: ignore[method-assign]
    site.clock.advance(seconds=1)
    view = node.refresh()
    assert any("pulled out" in warning for warning in node.warnings())
    with pytest.raises(KeyUnavailable):
        view.signing_key(FAST, site.clock())
    node._signer.sign = sign  # type: ignore[method-assign]
    assert node.refresh().signing_key(FAST, site.clock())


def test_a_failing_refresh_is_reported_with_its_start_until_it_succeeds(site: Site) -> None:
    node = site.node("a")
    node.refresh()
    with site.database.write() as connection:
        connection.execute(text("ALTER TABLE key_ring RENAME TO elsewhere"))
    began = site.clock()
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable):
            node.refresh()
        site.clock.advance(seconds=1)
    assert node.failure is not None
    assert node.failure.since == began
    with site.database.write() as connection:
        connection.execute(text("ALTER TABLE elsewhere RENAME TO key_ring"))
    node.refresh()
    assert (node.failure, node.warnings()) == (None, [])


def test_an_older_ring_is_refused_by_processes_that_saw_the_newer_one(site: Site) -> None:
    node = site.node("a")
    older = node.refresh().ring
    site.clock.advance(seconds=1)
    kid = older.standbys(site.clock())[0].kid
    site.rotation().change(lambda ring, now: ring.revoked(kid, "stolen", FAST, now))
    node.refresh()
    with site.database.write() as connection:
        document = TypeAdapter(KeyRing).dump_json(older).decode()
        connection.execute(update(key_ring).values(version=older.version, document=document))
    with pytest.raises(OlderRing, match=f"trust keys that were revoked since: {kid}"):
        node.refresh()
    assert kid not in {key.kid for key in node.view.published_keys}


def test_without_a_checkpoint_a_process_that_saw_the_newer_ring_refuses_the_older(site: Site) -> None:
    node = site.node("a")
    older = node.refresh().ring
    site.clock.advance(days=1)
    site.rotation().change(lambda ring, now: ring.promoted(FAST, now))
    seen = node.refresh()
    (site.keys / CHECKPOINT).unlink()
    with site.database.write() as connection:
        document = TypeAdapter(KeyRing).dump_json(older).decode()
        connection.execute(update(key_ring).values(version=older.version, document=document))
    with pytest.raises(DatabaseDamaged, match="went back"):
        node.refresh()
    assert node.view == seen


def test_a_published_key_without_a_private_key_is_reported(site: Site) -> None:
    node = site.node("a")
    ring = node.refresh().ring
    elsewhere = PemSigner(PemDirectory(site.keys.with_name("elsewhere")), lambda: None)
    foreign = replace(ring.keys[0], **vars(elsewhere.generate("ES256")))
    site.clock.advance(seconds=1)
    keys = (replace(foreign, activates_at=ring.changed_at - DAY), *ring.keys)
    RingStore(site.database).save(replace(ring, version=2, keys=keys))
    node.refresh()
    (warning,) = node.warnings()
    assert f"issuer keys revoke {foreign.kid}" in warning


def test_a_refresh_that_hangs_is_reported(site: Site) -> None:
    node = site.node("a")
    node.refresh()
    began = site.clock()
    site.clock.advance(seconds=3)
    assert node.failure is None
    site.clock.advance(seconds=1)
    assert node.failure is not None
    assert (node.failure.since, node.warnings()[0].endswith("may hang")) == (began, True)


def test_an_overdue_rotation_is_reported(site: Site) -> None:
    monthly, late = site.node("a"), site.node("b", replace(FAST, rotation_period=10 * DAY))
    late.refresh()
    monthly.refresh()  # the last to start sets the turn
    late.refresh()
    site.clock.advance(days=11)
    assert any("overdue" in warning for warning in late.warnings())
    assert not any("overdue" in warning for warning in monthly.warnings())


def test_a_new_rotation_period_applies_at_a_start_and_nodes_do_not_overrule_each_other(
    site: Site,
) -> None:
    node = site.node("a")
    node.refresh()
    weekly = site.node("b", replace(FAST, rotation_period=7 * DAY))
    ring = weekly.refresh().ring
    assert ring.standbys(site.clock())[0].activates_at == site.clock() + 7 * DAY
    for _ in range(3):
        site.clock.advance(seconds=1)
        assert node.refresh().ring == weekly.refresh().ring == ring


def test_a_public_key_that_another_program_added_to_the_ring_is_not_published(site: Site) -> None:
    node = site.node("a")
    ring = node.refresh().ring
    forged = replace(ring.keys[1], jwk={**ring.keys[1].jwk, "x": ring.keys[0].jwk["x"]})
    RingStore(site.database).save(replace(ring, version=2, keys=(ring.keys[0], forged)))
    site.clock.advance(seconds=1)
    with pytest.raises(DatabaseDamaged, match="a kid is not the thumbprint of its public key"):
        node.refresh()
    assert node.view.ring == ring


@pytest.mark.parametrize("clock_is_behind_by", [timedelta(0), SECOND, 29 * SECOND])
def test_an_operator_whose_clock_is_behind_can_roll_back(site: Site, clock_is_behind_by: timedelta) -> None:
    ring = site.rotation().reconcile()
    first = ring.current(site.clock()).kid
    site.clock.advance(hours=1)
    site.rotation().change(lambda ring, now: ring.promoted(FAST, now))
    site.clock.now -= clock_is_behind_by
    after = site.rotation().change(lambda ring, now: ring.rolled_back(FAST, now))
    site.clock.now += clock_is_behind_by
    assert after.current(site.clock()).kid == first


def test_a_change_by_another_process_is_seen_once_until_the_ring_has_been_loaded(site: Site) -> None:
    node = site.node("a")
    node.refresh()
    assert not node.sees_change()
    site.rotation().change(lambda ring, now: ring.promoted(FAST, now))
    assert [node.sees_change(), node.sees_change()] == [True, False]
    node.refresh()
    assert not node.sees_change()
    site.rotation().change(lambda ring, now: ring.promoted(FAST, now, forced=True))
    assert node.sees_change()
