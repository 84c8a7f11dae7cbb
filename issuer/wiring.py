"""The clock, the log, and `build`: the only place that makes objects, and that knows every room below.

Rooms above ask the `Issuer` it returns.
"""

import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from issuer.grants.bearer import BearerAuthentication
from issuer.grants.means import Means
from issuer.grants.pipeline import Pipeline
from issuer.passwords import HashingPool, Passwords
from issuer.policy import Policy
from issuer.rotation import Clock, Node, Rotation
from issuer.settings import Settings
from issuer.signing import Signer
from issuer.signing.pem import PemDirectory, PemSigner
from issuer.store.accounts import AccountStore
from issuer.store.clients import ClientStore
from issuer.store.database import Database
from issuer.store.families import FamilyStore
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
    database: Database
    ring_database: Database
    accounts: AccountStore
    clients: ClientStore
    families: FamilyStore
    passwords: Passwords
    hashing: HashingPool
    signer: Signer
    rotation: Rotation
    node: Node
    pipeline: Pipeline
    bearer: BearerAuthentication

    def close(self) -> None:
        """Let threads and connections go."""
        self.hashing.close()
        self.database.close()
        self.ring_database.close()


def build(settings: Settings, clock: Clock = clock) -> Issuer:
    """Return the issuer for `settings`, its database brought up to date.

    Raise BadSettings, StoreError or KeyRingError when it cannot be.
    """
    policy = settings.policy()
    passphrase = settings.passphrase()
    url = settings.database_url.get_secret_value()
    database, ring_database = Database(url), Database(url)  # requests must not hold up the care of the ring
    database.migrate()
    signer = _signer(settings.keys, passphrase, ring_database)
    rotation = Rotation(RingStore(ring_database), signer, policy, clock)
    node = Node(rotation, signer, clock)
    accounts, clients, families = AccountStore(database), ClientStore(database), FamilyStore(database)
    passwords = Passwords()
    means = Means(
        accounts=accounts,
        families=families,
        passwords=passwords,
        user_audience=(settings.audience, settings.url),
        client_audience=(settings.audience,),
    )
    pipeline = Pipeline(
        means=means,
        clients=clients,
        signer=signer,
        view=lambda: node.view,
        policy=policy,
        issuer=settings.url,
        refresh_lifetime=settings.refresh_token_lifetime,
        password_login=settings.password_login == "on",  # noqa: S105 - a switch
    )
    return Issuer(
        settings=settings,
        policy=policy,
        clock=clock,
        database=database,
        ring_database=ring_database,
        accounts=accounts,
        clients=clients,
        families=families,
        passwords=passwords,
        hashing=HashingPool(),
        signer=signer,
        rotation=rotation,
        node=node,
        pipeline=pipeline,
        bearer=BearerAuthentication(accounts, lambda: node.view, policy, settings.url),
    )


def _signer(keys: str, passphrase: str | None, database: Database) -> Signer:
    vault = PrivateKeyStore(database) if keys == "database" else PemDirectory(Path(keys))
    return PemSigner(vault, passphrase)
