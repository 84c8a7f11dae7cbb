"""The clock, the log, and `build`: the only place that makes objects, and that knows every room below.

Rooms above ask the `Issuer` it returns.
"""

import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import structlog

from issuer.grants.bearer import BearerAuthentication
from issuer.grants.means import Means
from issuer.grants.pipeline import Pipeline
from issuer.keeping import Node
from issuer.passwords import HashingPool, Passwords
from issuer.policy import Policy
from issuer.refusal import KeyUnavailable
from issuer.rotation import Clock, Rotation
from issuer.settings import BadSettings, Settings
from issuer.signing import Signer
from issuer.signing.directory import PemDirectory
from issuer.signing.pem import PemSigner
from issuer.store.accounts import AccountStore
from issuer.store.audit import AuditStore
from issuer.store.clients import ClientStore
from issuer.store.database import Database, StoreError
from issuer.store.families import FamilyStore
from issuer.store.heartbeats import HeartbeatStore
from issuer.store.private_keys import PrivateKeyStore
from issuer.store.ring import RingStore


def clock() -> datetime:
    """Return the present; nothing else in this package reads the clock."""
    return datetime.now(UTC)


def configure_log() -> None:
    """Let this process log to standard error, tracebacks without the values of variables: some are secret."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ],
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )


@dataclass(frozen=True)
class Issuer:
    """Everything that one process needs to be the issuer."""

    settings: Settings
    policy: Policy
    clock: Clock
    actor: str
    database: Database
    ring_database: Database
    accounts: AccountStore
    clients: ClientStore
    families: FamilyStore
    passwords: Passwords
    hashing: HashingPool
    signer: Signer
    rotation: Rotation
    audit: AuditStore
    heartbeats: HeartbeatStore
    node: Node
    pipeline: Pipeline
    bearer: BearerAuthentication

    def close(self) -> None:
        """Let threads and connections go, and tell the other nodes."""
        self.hashing.close()
        with suppress(StoreError):  # what others expect of a process that cannot tell runs out by itself
            self.node.leave()
        self.database.close()
        self.ring_database.close()


def build(settings: Settings, clock: Clock = clock, actor: str | None = None) -> Issuer:
    """Return the issuer for `settings`, its database brought up to date.

    The audit names the `actor`; without one it is this process. Raise BadSettings, StoreError or KeyRingError
    when it cannot be.
    """
    node_name = f"{socket.gethostname()}/{os.getpid()}"
    actor = actor or f"node {node_name}"
    policy = settings.policy()
    settings.passphrase()  # a bad one is told before anything is made
    url = settings.database_url.get_secret_value()
    database, ring_database = Database(url), Database(url)  # requests must not hold up the care of the ring
    signer = _signer(settings, ring_database)
    database.migrate()
    rotation = Rotation(RingStore(ring_database), signer, policy, clock, actor)
    heartbeats = HeartbeatStore(ring_database)
    node = Node(rotation, signer, heartbeats, policy, clock, node_name)
    clients, means = ClientStore(database), _means(settings, database)
    return Issuer(
        settings=settings,
        policy=policy,
        clock=clock,
        actor=actor,
        database=database,
        ring_database=ring_database,
        accounts=means.accounts,
        clients=clients,
        families=means.families,
        passwords=means.passwords,
        hashing=HashingPool(),
        signer=signer,
        rotation=rotation,
        audit=AuditStore(ring_database),
        heartbeats=heartbeats,
        node=node,
        pipeline=_pipeline(settings, policy, means, clients, signer, node),
        bearer=BearerAuthentication(means.accounts, lambda: node.view, policy, settings.url),
    )


def _means(settings: Settings, database: Database) -> Means:
    return Means(
        accounts=AccountStore(database),
        families=FamilyStore(database),
        passwords=Passwords(),
        user_audience=(settings.audience, settings.url),
        client_audience=(settings.audience,),
    )


def _pipeline(
    settings: Settings, policy: Policy, means: Means, clients: ClientStore, signer: Signer, node: Node
) -> Pipeline:
    return Pipeline(
        means=means,
        clients=clients,
        signer=signer,
        view=lambda: node.view,
        policy=policy,
        issuer=settings.url,
        refresh_lifetime=settings.refresh_token_lifetime,
        password_login=settings.password_login == "on",  # noqa: S105 - a switch
    )


def _signer(settings: Settings, database: Database) -> Signer:
    token = settings.hardware_token()
    if token:
        return _token_signer(*token, lambda: _passphrase(settings) or "")
    vault = PrivateKeyStore(database) if settings.keys == "database" else PemDirectory(Path(settings.keys))
    return PemSigner(vault, partial(_passphrase, settings))


def _token_signer(module: Path, label: str, pin: Callable[[], str]) -> Signer:
    try:
        # Only here: what they import is an extra.
        from issuer.signing.cryptoki import Token  # noqa: PLC0415
        from issuer.signing.pkcs11 import Pkcs11Signer  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise BadSettings(
            "ISSUER_KEYS is pkcs11, which needs python-pkcs11; run: pip install --require-hashes -r"
            " requirements-pkcs11.lock"
        ) from error
    return Pkcs11Signer(Token(module, label, pin))


def _passphrase(settings: Settings) -> str | None:
    """Return the passphrase as it is now: its file may have been changed by an operator since the start."""
    try:
        return settings.passphrase()
    except BadSettings as error:
        raise KeyUnavailable(str(error)) from error
