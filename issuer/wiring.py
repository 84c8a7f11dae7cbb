"""The clock, and `build`: the only place that makes the objects of the program and imports every layer below.

The layers above use the `Issuer` that it returns.
"""

import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from issuer.accounts.hashing_pool import HashingPool
from issuer.accounts.passwords import Passwords
from issuer.accounts.registration import Registration
from issuer.accounts.store import AccountStore
from issuer.audit.store import AuditStore
from issuer.clients.authentication import ClientAuthentication
from issuer.clients.key_sets import ClientKeys
from issuer.clients.store import ClientStore
from issuer.clock import Clock, system_clock
from issuer.database.database import Database, host_ticks
from issuer.database.errors import StoreError
from issuer.errors import KeyUnavailable
from issuer.fixes import Fix, Kind, quoted
from issuer.grants.context import Means
from issuer.grants.pipeline import Pipeline
from issuer.keyring.heartbeat_store import HeartbeatStore
from issuer.keyring.node import Node
from issuer.keyring.policy import Policy
from issuer.keyring.recovery import Recovery
from issuer.keyring.rotation import Rotation
from issuer.keyring.store import RingStore
from issuer.settings.settings import BadSettings, Settings
from issuer.signing.pem import PemSigner, PemStorage
from issuer.signing.pem_database import PemDatabase
from issuer.signing.pem_directory import PemDirectory
from issuer.signing.signer import Signer
from issuer.throttling.guard import Guard
from issuer.throttling.store import ThrottleStore
from issuer.tokens.access_tokens import Mint
from issuer.tokens.bearer import BearerAuthentication
from issuer.tokens.event_store import SessionEventStore
from issuer.tokens.families import Sessions
from issuer.tokens.family_store import FamilyStore
from issuer.tokens.group_commit import Batches
from issuer.tokens.introspection import Introspection
from issuer.tokens.revocation import Revocation

# With the interpreter that runs this: another `pip` would install it elsewhere.
INSTALL_PKCS11 = Fix(Kind.PKCS11_PACKAGE, f"{quoted(sys.executable)} -m pip install 'python-pkcs11>=0.10'")


def cores(limit: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Return how many cores this process may use; a container's `limit` of time counts as whole ones (cgroups v2)."""
    allowed = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    with suppress(OSError, ValueError, ZeroDivisionError):  # no such limit, or "max"
        microseconds, period = limit.read_text().split()
        return max(1, min(allowed, int(microseconds) // int(period)))
    return allowed


@dataclass(frozen=True)
class Grants:
    """Everything about tokens that requests ask for."""

    client_keys: ClientKeys
    authentication: ClientAuthentication
    pipeline: Pipeline
    registration: Registration
    bearer: BearerAuthentication
    revocation: Revocation
    introspection: Introspection


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
    session_events: SessionEventStore
    batches: Batches
    passwords: Passwords
    hashing: HashingPool
    signer: Signer
    rotation: Rotation
    recovery: Recovery
    audit: AuditStore
    heartbeats: HeartbeatStore
    node: Node
    grants: Grants

    def close(self) -> None:
        """Let threads and connections go, and tell the other nodes."""
        self.hashing.close()
        self.batches.close()
        self.grants.client_keys.close()
        with suppress(StoreError):  # what others expect of a process that cannot tell runs out by itself
            self.node.leave()
        self.database.close()
        self.ring_database.close()


def build(
    settings: Settings, clock: Clock = system_clock, actor: str | None = None, *, reads: bool = False
) -> Issuer:
    """Return the issuer for `settings`, its database brought up to date, or as it is for one that only `reads`.

    The audit names the `actor`; without one it is this process. Raise BadSettings, StoreError or KeyRingError
    when it cannot be.
    """
    node_name = f"{socket.gethostname()}/{os.getpid()}"
    actor = actor or f"node {node_name}"
    settings.require_usable()  # before anything is made
    policy = settings.policy()
    database, ring_database = _databases(settings, clock, reads=reads)
    signer = signer_for(settings, ring_database)
    if not reads:
        database.migrate()
    ring_store = RingStore(ring_database)
    rotation = Rotation(ring_store, signer, policy, clock, actor)
    heartbeats = HeartbeatStore(ring_database)
    node = Node(rotation, signer, heartbeats, policy, clock, node_name, storage_error_of(settings))
    clients, means = ClientStore(database), _means(settings, database, policy)
    events = SessionEventStore(database)
    mint = Mint(signer, lambda: node.view, policy, settings.url)
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
        session_events=events,
        batches=Batches(means.families),
        passwords=means.passwords,
        hashing=HashingPool(cores()),
        signer=signer,
        rotation=rotation,
        recovery=Recovery(rotation, ring_store, signer, policy, clock, actor),
        audit=AuditStore(ring_database),
        heartbeats=heartbeats,
        node=node,
        grants=_grants(settings, policy, events, means, clients, mint, Guard(ThrottleStore(database))),
    )


def _databases(settings: Settings, clock: Clock, *, reads: bool) -> tuple[Database, Database]:
    """Return the database for requests and that for the ring: requests must not delay the upkeep of the ring."""
    url = settings.database_url.get_secret_value()
    database, ring_database = Database(url, reads=reads), Database(url, reads=reads)
    if clock is not system_clock:
        database.ticks = ticks_by(clock)
    return database, ring_database


def _means(settings: Settings, database: Database, policy: Policy) -> Means:
    return Means(
        accounts=AccountStore(database),
        families=FamilyStore(database),
        passwords=Passwords(),
        user_audience=(settings.audience, settings.url),
        client_audience=(settings.audience,),
        clock_skew=policy.clock_skew,
    )


def _grants(
    settings: Settings,
    policy: Policy,
    events: SessionEventStore,
    means: Means,
    clients: ClientStore,
    mint: Mint,
    guard: Guard,
) -> Grants:
    sessions = Sessions(means.families, events, settings.refresh_token_lifetime, policy.clock_skew)
    proxy = settings.proxy.get_secret_value() if settings.proxy else None
    keys = ClientKeys(settings.trusted_authorities(), proxy)
    endpoint = () if settings.assertion_audience == "issuer" else (f"{settings.url}/oauth2/token",)
    audiences = (settings.url, *endpoint)
    authentication = ClientAuthentication(clients, keys, guard, audiences, policy.clock_skew)
    return Grants(
        client_keys=keys,
        authentication=authentication,
        pipeline=Pipeline(
            means=means,
            authentication=authentication,
            guard=guard,
            sessions=sessions,
            mint=mint,
            password_login=settings.password_login == "on",  # noqa: S105 - a switch
        ),
        registration=Registration(
            means.accounts, means.passwords, guard, is_open=settings.registration == "open"
        ),
        bearer=BearerAuthentication(means.accounts, means.families, mint),
        revocation=Revocation(means.families, mint),
        introspection=Introspection(means.accounts, clients, means.families, mint),
    )


def ticks_by(clock: Clock) -> Callable[[], int]:
    """Return the ticks of a database (see `Database.ticks`) that pass as fast as a clock of the caller's own.

    They begin with those of this machine, however wrong the clock is: what it said before is not comparable.
    """
    began, machine = clock(), host_ticks()
    return lambda: machine + (clock() - began) // timedelta(microseconds=1)


def signer_for(settings: Settings, database: Database) -> Signer:
    """Return the backend that the settings name; raise BadSettings or KeyUnavailable. It opens nothing yet."""
    return token_signer_for(settings) or PemSigner(
        pem_storage_for(settings, database), partial(_passphrase, settings)
    )


def token_signer_for(settings: Settings) -> Signer | None:
    """Return the PKCS#11 token, if the settings name one; raise BadSettings. It opens nothing yet."""
    token = settings.hardware_token()
    return _token_signer(*token, lambda: _passphrase(settings) or "") if token else None


def pem_storage_for(settings: Settings, database: Database) -> PemStorage:
    """Return where the PEM text of private keys is kept that are not in a PKCS#11 token."""
    return PemDatabase(database) if settings.keys == "database" else PemDirectory(Path(settings.keys))


def storage_error_of(settings: Settings) -> Callable[[], KeyUnavailable | None]:
    """Return what tells why no new key could be stored; the database and a token tell it themselves."""
    directory = settings.key_directory
    return PemDirectory(directory).storage_error if directory else lambda: None


def _token_signer(module: Path, label: str, pin: Callable[[], str]) -> Signer:
    try:
        # Only here: what they import is an extra.
        from issuer.signing.pkcs11.session import Token  # noqa: PLC0415
        from issuer.signing.pkcs11.signer import Pkcs11Signer  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise BadSettings(
            f"ISSUER_KEYS is pkcs11, which needs python-pkcs11; run: {INSTALL_PKCS11}", fix=INSTALL_PKCS11
        ) from error
    return Pkcs11Signer(Token(module, label, pin))


def _passphrase(settings: Settings) -> str | None:
    """Return the passphrase as it is now: its file may have been changed by an operator since the start."""
    try:
        return settings.passphrase()
    except BadSettings as error:
        raise KeyUnavailable(str(error)) from error
