"""All checks of an installation, in the order of their dependencies.

A check is skipped while one that it depends on reports a problem. The checks themselves are in the sibling modules.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from issuer.audit.store import AuditStore
from issuer.checks import clients, configuration, mail, passphrases, private_keys, ring, storage
from issuer.checks.finding import Finding, Severity, problem
from issuer.clients.store import ClientStore
from issuer.clock import Clock
from issuer.database.database import Database
from issuer.database.errors import StoreError
from issuer.errors import KeyRingError
from issuer.fixes import Fix, Kind
from issuer.keyring.heartbeat_store import HeartbeatStore
from issuer.keyring.policy import Policy
from issuer.keyring.rotation import Rotation
from issuer.keyring.store import RingStore
from issuer.settings.env_file import BadEnvFile
from issuer.settings.loading import load_settings
from issuer.settings.settings import BadSettings, Settings
from issuer.settings.sources import source
from issuer.signers import pem_storage_for, signer_for, token_signer_for


@dataclass(frozen=True)
class CheckResult:
    """The result of a check; `name` is what was checked."""

    name: str
    findings: tuple[Finding, ...]
    note: str = ""
    """Information that is shown without a finding, too."""

    @property
    def is_sound(self) -> bool:
        """Whether the checks that depend on this one can run."""
        return all(finding.severity is not Severity.PROBLEM for finding in self.findings)


def run_checks(clock: Clock) -> Iterator[CheckResult]:
    """Yield the result of each check; change nothing."""
    try:
        settings = load_settings()
    except BadSettings as error:
        yield CheckResult("settings", tuple(_refused(error)), _source())
        return
    configured = CheckResult("settings", tuple(_configured(settings)), _source())
    yield configured
    if configured.is_sound and settings.mail_server:
        yield CheckResult("mail server", tuple(mail.server(settings, settings.mail_server)))
    kept: tuple[Finding, ...] = ()
    if place := settings.key_directory:
        kept = (*private_keys.directory(place), *storage.room(_existing(place)))
        yield CheckResult("key directory", kept)
    url = settings.database_url.get_secret_value()
    try:
        database = Database(url)
    except StoreError as error:
        form = Fix(Kind.DATABASE_URL, f"ISSUER_DATABASE_URL={storage.url_form(url)}")
        yield CheckResult("database", (problem(str(error), form),))
        yield from _token(settings, configured)
        return
    try:
        stored = CheckResult("database", tuple(_stored(settings, database)))
        yield stored
        if stored.is_sound and _is_current(database):
            yield CheckResult("clients", tuple(_clients(settings, ClientStore(database))))
        if configured.is_sound and stored.is_sound and _is_current(database):
            reported = {finding.wrong for finding in kept}
            for result in _ring(settings, settings.policy(), database, clock):
                new = tuple(_once(result.findings, reported))
                # If all of its findings were reported before, it is not sound, but nothing is new.
                if new or not result.findings:
                    yield replace(result, findings=new)
        else:
            yield from _token(settings, configured)
    finally:
        database.close()


def _clients(settings: Settings, store: ClientStore) -> Iterator[Finding]:
    yield from clients.without_pkce(store)
    yield from clients.without_rs256(store, settings.algorithm)


def _source() -> str:
    try:
        return f"from {source()}"
    except BadEnvFile:
        return ""


def _refused(error: BadSettings) -> Iterator[Finding]:
    """Yield the settings that were refused, and contradictions among the others."""
    yield from configuration.refused(error)
    if error.rest:
        reported = {str(each) for each in error.rest.contradictions(besides=error.errors)}
        yield from (each for each in _contradictions(error.rest) if each.wrong in reported)


def _contradictions(settings: Settings) -> Iterator[Finding]:
    yield from configuration.contradictions(settings)
    yield from passphrases.passphrase(settings)
    yield from configuration.hardware_token(settings)


def _configured(settings: Settings) -> Iterator[Finding]:
    yield from _contradictions(settings)
    yield from configuration.given_values()
    yield from configuration.likely_mistakes(settings)
    yield from configuration.unusual_choices(settings)


def _stored(settings: Settings, database: Database) -> Iterator[Finding]:
    file = database.file
    # Before the database is opened: SQLite creates files beside it, with the same permissions.
    rights = list(storage.permissions(file)) if file and not database.is_missing else []
    foreign = list(storage.foreign(database))
    if foreign:  # permissions of another program's file are not checked
        yield from foreign
        return
    yield from rights
    if file:
        yield from storage.room(_existing(file.absolute().parent))
    for finding in storage.schema(database):
        is_new = finding.fix.kind is Kind.DATABASE_MISSING
        yield from (is_new and list(_lost(settings, database))) or [finding]
    yield from storage.pooler(database)


def _lost(settings: Settings, database: Database) -> Iterator[Finding]:
    """Yield why the first start with a new database would fail: there are private keys of an earlier one."""
    if settings.keys == "database":
        return
    try:
        signer = signer_for(settings, database)
        yield from ring.lost(signer, storage.restore(database), private_keys.remove_checkpoint(settings))
    except (BadSettings, KeyRingError):
        return  # reported with the key directory, or with the token once there is a database


def _ring(settings: Settings, policy: Policy, database: Database, clock: Clock) -> Iterator[CheckResult]:
    try:
        signer = signer_for(settings, database)
        signer.kept()
    except (BadSettings, KeyRingError) as error:
        if not settings.key_directory:  # problems of a directory were reported before
            fix = getattr(error, "fix", None) or private_keys.token_slots(settings)
            yield CheckResult("private keys", (problem(str(error), fix),))
        return
    rotation, now = Rotation(RingStore(database), signer, policy, clock, "check"), clock()
    findings = [*ring.clock(rotation), *ring.nodes(settings, database, HeartbeatStore(database), now)]
    found = ring.load(rotation, database, findings, private_keys.remove_checkpoint(settings))
    if found:
        findings += ring.maintenance(found, policy, now)
    yield CheckResult("key ring", tuple(findings))
    yield CheckResult("audit", tuple(ring.audit(AuditStore(database), rotation if found else None, database)))
    if found:
        keys = found.published_keys(now)
        unusable = private_keys.published(settings, database, signer, keys)
        strays = private_keys.orphans(settings, signer, found, now)
        no_checkpoint = private_keys.checkpoint_missing(settings, signer)
        weak = () if settings.keys == "pkcs11" else _weak(settings, database)
        yield CheckResult("private keys", (*unusable, *weak, *strays, *no_checkpoint))


def _token(settings: Settings, configured: CheckResult) -> Iterator[CheckResult]:
    """Yield whether the PKCS#11 token can be opened, if the key ring cannot be checked."""
    if settings.keys != "pkcs11" or not configured.is_sound:
        return
    findings: tuple[Finding, ...] = ()
    try:
        signer = token_signer_for(settings)
        if signer:
            signer.kept()
    except (BadSettings, KeyRingError) as error:
        fix = getattr(error, "fix", None) or private_keys.token_slots(settings)
        findings = (problem(str(error), fix),)
    yield CheckResult("private keys", findings)


def _weak(settings: Settings, database: Database) -> Iterator[Finding]:
    return private_keys.encrypted_weakly(pem_storage_for(settings, database), settings.passphrase())


def _once(findings: Iterable[Finding], reported: set[str]) -> Iterator[Finding]:
    """Yield findings that were not reported yet: an unusable directory would be reported for each key in it."""
    for finding in findings:
        if finding.wrong not in reported:
            reported.add(finding.wrong)
            yield finding


def _is_current(database: Database) -> bool:
    """Whether the tables are those of this version; `storage.schema` reports it if not."""
    return not database.is_missing and database.is_current()


def _existing(path: Path) -> Path:
    """Return the path, or its nearest parent that exists and is accessible."""
    return next((each for each in (path, *path.absolute().parents) if os.path.isdir(each)), Path())  # noqa: PTH112
