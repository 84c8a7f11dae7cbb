"""Checks of the key ring: that it exists, is the newest and is maintained; of its audit log, clock and hosts."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from issuer.audit.chain import integrity_error
from issuer.audit.store import AuditStore
from issuer.checks import mail
from issuer.checks.finding import Finding, problem, warning
from issuer.checks.storage import restore, run_statement
from issuer.clock import duration
from issuer.database.database import Database
from issuer.database.errors import DatabaseDamaged, StoreError
from issuer.errors import KeyRingError, NoRing, OlderRing, WrongClock
from issuer.fixes import Fix, Kind, setting
from issuer.keyring.checkpoint import DamagedCheckpoint, RingCheckpoint
from issuer.keyring.heartbeat import Heartbeat
from issuer.keyring.heartbeat_store import HeartbeatStore
from issuer.keyring.node import ring_warnings, too_many_keys
from issuer.keyring.policy import PUBLISHED_MOST, Policy
from issuer.keyring.restore_detection import RECOVER_COMMAND, describe_conflict, describe_missing_ring
from issuer.keyring.ring import KeyRing
from issuer.keyring.rotation import Rotation
from issuer.keyring.tombstone import Moved
from issuer.settings.settings import Settings
from issuer.settings.shared import MAIL, SET, shared_settings
from issuer.settings.values import LONGEST
from issuer.signing.signer import Signer


def load(
    rotation: Rotation, database: Database, findings: list[Finding], remove_checkpoint: Fix
) -> KeyRing | None:
    """Return the ring, or None with the reason added to `findings`."""
    try:
        return rotation.ring()
    except NoRing:
        findings.extend(_ring_missing(rotation, restore(database)))
    except OlderRing as error:
        findings.append(problem(str(error), Fix(Kind.RING_OLDER, RECOVER_COMMAND)))
    except Moved as error:
        findings.append(problem(str(error), _moved_to(error.to)))
    except DamagedCheckpoint as error:
        findings.append(problem(str(error), remove_checkpoint))
    except (StoreError, KeyRingError) as error:
        findings.append(problem(str(error), restore(database)))
    return None


def lost(signer: Signer, restored: Fix, remove_checkpoint: Fix) -> Iterator[Finding]:
    """Yield a problem if there are private keys without their database: the next start would refuse."""
    try:
        noted, kept = RingCheckpoint(signer.checkpoint_storage).ring(), signer.kept()
    except DamagedCheckpoint as error:
        yield problem(str(error), remove_checkpoint)
        return
    if noted:
        yield problem(describe_conflict(None, noted), Fix(Kind.RING_OLDER, RECOVER_COMMAND))
    elif kept:
        yield problem(describe_missing_ring(len(kept)), restored)


def _ring_missing(rotation: Rotation, restored: Fix) -> Iterator[Finding]:
    try:
        rotation.require_creatable()
    except KeyRingError as error:
        yield problem(str(error), restored)
    else:
        yield warning(
            "there is no key ring yet: the first start creates it", Fix(Kind.RING_MISSING, "issuer serve")
        )


def _moved_to(url: str) -> Fix:
    """Return the setting for the new database after a move; its password is not known here."""
    return setting(Kind.DATABASE_MOVED, "ISSUER_DATABASE_URL", re.sub(r":[*]{3}@", ":PASSWORD@", url))


def clock(rotation: Rotation) -> Iterator[Finding]:
    """Yield a finding if the clocks of this machine and of the database differ."""
    try:
        rotation.clocks.require()
    except WrongClock as error:
        yield problem(str(error), Fix(Kind.CLOCK, "timedatectl set-ntp true"))
        return
    if wrong := rotation.clocks.warning():
        yield warning(wrong, Fix(Kind.CLOCK, "timedatectl set-ntp true"))


def maintenance(ring: KeyRing, policy: Policy, now: datetime) -> Iterator[Finding]:
    """Yield what is overdue or missing, because no issuer runs or those that run fail."""
    for wrong in ring_warnings(ring, policy, now):
        yield problem(wrong, Fix(Kind.RING_NEEDS_A_NODE, "issuer serve"))
    if too_many := too_many_keys(ring, policy, now):
        longer = duration(_slower(ring, policy, now))
        yield problem(too_many, Fix(Kind.TOO_MANY_KEYS, f"ISSUER_ROTATION_PERIOD={longer}"))


def _slower(ring: KeyRing, policy: Policy, now: datetime) -> timedelta:
    """Return a rotation period with which published keys leave before there are too many."""
    period = policy.rotation_period
    while (
        period < LONGEST
        and ring.most_published(replace(policy, rotation_period=period), now) > PUBLISHED_MOST
    ):
        period = min(2 * period, LONGEST)
    return period


def audit(store: AuditStore, rotation: Rotation | None, database: Database) -> Iterator[Finding]:
    """Yield the first broken link of the audit log, or that recorded entries are missing.

    Without a `rotation` it is not compared with the record: the ring was found to be older, and so is its audit log.
    """
    try:
        wrong = integrity_error(*store.chain())
    except DatabaseDamaged as error:
        yield problem(str(error), restore(database))
        return
    if wrong:
        yield problem(f"the audit log is not intact: {wrong}", restore(database))
    elif rotation and (wrong := rotation.checkpoint.audit_error()):
        yield problem(wrong, Fix(Kind.AUDIT_SHORT, RECOVER_COMMAND))


def nodes(
    settings: Settings, database: Database, heartbeats: HeartbeatStore, now: datetime
) -> Iterator[Finding]:
    """Yield settings that differ between running nodes and this command, and what several hosts cannot share."""
    try:
        beats = heartbeats.all()
    except DatabaseDamaged as error:
        yield problem(str(error), run_statement(database, "DELETE FROM heartbeats"))
        return
    alive = [beat for beat in beats if beat.signs_until > now and not beat.has_left]
    yield from _other_settings(settings, alive)
    yield from _several_hosts(settings, database, alive)


def _other_settings(settings: Settings, alive: Iterable[Heartbeat]) -> Iterator[Finding]:
    """Yield each setting that has another value at a running node."""
    for name, ours in shared_settings(settings).items():
        others = {beat.settings.get(name, ours): beat.name for beat in alive}
        others.pop(ours, None)
        for theirs, node in others.items():
            yield problem(
                f"{name} is {ours} here and {theirs} at the running issuer {node}: all nodes of an installation must"
                " have the same value",
                _same(name, theirs),
            )


def _same(name: str, value: str) -> Fix:
    if name == MAIL:
        return Fix(Kind.SETTINGS_DIFFER, mail.LINE if value == SET else f"{MAIL}=")
    return setting(Kind.SETTINGS_DIFFER, name, value)


def _several_hosts(settings: Settings, database: Database, alive: Iterable[Heartbeat]) -> Iterator[Finding]:
    """Yield what several hosts cannot share."""
    names = sorted({beat.name.rpartition("/")[0] for beat in alive})
    if len(names) < 2:  # noqa: PLR2004 - one host
        return
    hosts_running = ", ".join(names)
    if database.is_sqlite:
        yield problem(
            f"issuers run on {hosts_running} with one SQLite file, which is not safe on a network file system",
            Fix(Kind.SEVERAL_HOSTS_SQLITE, "issuer move --to-file FILE"),
        )
    elif settings.key_directory:
        yield warning(
            f"issuers run on {hosts_running}, and ISSUER_KEYS is the directory {settings.keys}: they must share it",
            Fix(Kind.SEVERAL_HOSTS_DIRECTORY, "issuer move --to-file FILE"),
        )
