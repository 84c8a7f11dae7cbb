"""`build`: the only place that makes the objects of the program, and imports every layer below.

The layers above use the `Issuer` that it returns, each only the domain that it needs.
"""

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from issuer.accounts.hashing_pool import HashingPool
from issuer.accounts.login import PasswordLogin
from issuer.accounts.passwords import Passwords
from issuer.accounts.registration import Registration
from issuer.accounts.store import AccountStore
from issuer.administration.own_account import OwnAccount
from issuer.audit.store import AuditStore
from issuer.authorize.consent_store import Consents
from issuer.authorize.ticket import Tickets
from issuer.clients.authentication import ClientAuthentication
from issuer.clients.key_sets import ClientKeys
from issuer.clients.store import ClientStore
from issuer.clock import Clock, system_clock
from issuer.database.database import Database, uptime_microseconds
from issuer.database.errors import StoreError
from issuer.database.secrets import MonthlySecrets, SecretStore
from issuer.grants.context import GrantContext
from issuer.grants.pipeline import Pipeline
from issuer.keyring.heartbeat_store import HeartbeatStore
from issuer.keyring.node import Node
from issuer.keyring.policy import Policy
from issuer.keyring.recovery import Recovery
from issuer.keyring.retired_keys import RetiredKeys
from issuer.keyring.rotation import Rotation
from issuer.keyring.store import RingStore
from issuer.sessions.store import BrowserSessionStore
from issuer.settings.settings import Settings
from issuer.settings.shared import shared_settings
from issuer.signers import signer_for, storage_error_of
from issuer.signing.signer import Signer
from issuer.threads import cores
from issuer.throttling.guard import Guard
from issuer.throttling.store import ThrottleStore
from issuer.tokens.access_tokens import AccessTokens
from issuer.tokens.bearer import BearerAuthentication
from issuer.tokens.event_store import SessionEventStore
from issuer.tokens.families import Sessions as RefreshSessions
from issuer.tokens.family_store import FamilyStore
from issuer.tokens.group_commit import GroupCommit
from issuer.tokens.hints import Hints
from issuer.tokens.id_tokens import IdTokens
from issuer.tokens.introspection import Introspection
from issuer.tokens.revocation import Revocation
from issuer.tokens.signed_jwt import JwtSigner
from issuer.tokens.userinfo import UserInfo


@dataclass(frozen=True)
class Keys:
    """The key ring, its private keys, and this node's view of it."""

    signer: Signer
    rotation: Rotation
    recovery: Recovery
    node: Node
    heartbeats: HeartbeatStore
    audit: AuditStore


@dataclass(frozen=True)
class Accounts:
    """Users and their passwords."""

    store: AccountStore
    passwords: Passwords
    hashing_pool: HashingPool
    registration: Registration


@dataclass(frozen=True)
class Clients:
    """Clients and their authentication."""

    store: ClientStore
    key_sets: ClientKeys
    authentication: ClientAuthentication


@dataclass(frozen=True)
class Sessions:
    """Browsers that are signed in, and the secrets by which tickets and forms are signed."""

    store: BrowserSessionStore
    secrets: MonthlySecrets
    tickets: Tickets


@dataclass(frozen=True)
class Tokens:
    """Tokens and sessions: issued, rotated, verified and revoked."""

    pipeline: Pipeline
    families: FamilyStore
    session_events: SessionEventStore
    group_commit: GroupCommit
    bearer: BearerAuthentication
    revocation: Revocation
    introspection: Introspection
    userinfo: UserInfo
    hints: Hints


@dataclass(frozen=True)
class Issuer:
    """Everything that one process needs to be the issuer."""

    settings: Settings
    policy: Policy
    clock: Clock
    actor: str
    database: Database
    ring_database: Database
    keys: Keys
    accounts: Accounts
    clients: Clients
    sessions: Sessions
    tokens: Tokens
    consents: Consents
    own_account: OwnAccount

    def close(self) -> None:
        """End threads and connections, and withdraw the heartbeat of this node."""
        self.accounts.hashing_pool.close()
        self.tokens.group_commit.close()
        self.clients.key_sets.close()
        with suppress(StoreError):  # the heartbeat expires in any case
            self.keys.node.leave()
        self.database.close()
        self.ring_database.close()


def build(
    settings: Settings, clock: Clock = system_clock, actor: str | None = None, *, reads: bool = False
) -> Issuer:
    """Return the issuer for `settings`. Migrate its database, unless it only `reads`.

    The audit log names the `actor`; by default that is this process. Raise BadSettings, StoreError or KeyRingError.
    """
    node_name = f"{socket.gethostname()}/{os.getpid()}"
    actor = actor or f"node {node_name}"
    settings.require_usable()  # before anything is made
    policy = settings.policy()
    database, ring_database = _databases(settings, clock, reads=reads)
    signer = signer_for(settings, ring_database)
    if not reads:
        database.migrate()
    keys = _keys(settings, policy, clock, ring_database, signer, actor, node_name)
    guard = Guard(ThrottleStore(database))
    accounts = _accounts(settings, database, guard)
    clients = _clients(settings, policy, database, guard)
    sessions = _sessions(settings, database)
    tokens = _tokens(settings, policy, database, guard, keys, accounts, clients)
    login = PasswordLogin(accounts.store, accounts.passwords, guard)
    return Issuer(
        settings=settings,
        policy=policy,
        clock=clock,
        actor=actor,
        database=database,
        ring_database=ring_database,
        keys=keys,
        accounts=accounts,
        clients=clients,
        sessions=sessions,
        tokens=tokens,
        consents=Consents(database, tokens.families),
        own_account=OwnAccount(database, login, accounts.passwords, sessions.store, tokens.families),
    )


def _keys(
    settings: Settings,
    policy: Policy,
    clock: Clock,
    database: Database,
    signer: Signer,
    actor: str,
    node_name: str,
) -> Keys:
    store, heartbeats = RingStore(database), HeartbeatStore(database)
    rotation = Rotation(store, signer, policy, clock, actor)
    return Keys(
        signer=signer,
        rotation=rotation,
        recovery=Recovery(rotation, store, signer, policy, clock, actor),
        node=Node(
            rotation,
            signer,
            heartbeats,
            policy,
            clock,
            node_name,
            storage_error_of(settings),
            shared_settings(settings),
        ),
        heartbeats=heartbeats,
        audit=AuditStore(database),
    )


def _accounts(settings: Settings, database: Database, guard: Guard) -> Accounts:
    store, passwords = AccountStore(database), Passwords()
    registration = Registration(store, passwords, guard, is_open=settings.registration == "open")
    return Accounts(store, passwords, HashingPool(cores()), registration)


def _clients(settings: Settings, policy: Policy, database: Database, guard: Guard) -> Clients:
    proxy = settings.proxy.get_secret_value() if settings.proxy else None
    store, key_sets = ClientStore(database), ClientKeys(settings.trusted_authorities(), proxy)
    endpoint = () if settings.assertion_audience == "issuer" else (f"{settings.url}/oauth2/token",)
    audiences = (settings.url, *endpoint)
    authentication = ClientAuthentication(store, key_sets, guard, audiences, policy.clock_skew)
    return Clients(store, key_sets, authentication)


def _sessions(settings: Settings, database: Database) -> Sessions:
    lifetime, idle = settings.browser_session_lifetime, settings.browser_session_idle
    secrets = MonthlySecrets(SecretStore(database), "browser")
    return Sessions(BrowserSessionStore(database, lifetime, idle), secrets, Tickets(secrets))


def _tokens(
    settings: Settings,
    policy: Policy,
    database: Database,
    guard: Guard,
    keys: Keys,
    accounts: Accounts,
    clients: Clients,
) -> Tokens:
    families, events = FamilyStore(database), SessionEventStore(database)
    jwt_signer = JwtSigner(keys.signer, lambda: keys.node.view, policy, settings.url)
    access_tokens = AccessTokens(jwt_signer)
    bearer = BearerAuthentication(accounts.store, families, access_tokens)
    context = GrantContext(
        login=PasswordLogin(accounts.store, accounts.passwords, guard),
        families=families,
        signing_key=access_tokens.signing_key,
        user_audience=(settings.audience, settings.url),
        client_audience=(settings.audience,),
        clock_skew=policy.clock_skew,
    )
    pipeline = Pipeline(
        context=context,
        authentication=clients.authentication,
        guard=guard,
        sessions=RefreshSessions(families, events, settings.refresh_token_lifetime, policy.clock_skew),
        access_tokens=access_tokens,
        id_tokens=IdTokens(jwt_signer),
        password_login=settings.password_login == "on",  # noqa: S105 - a switch
    )
    return Tokens(
        pipeline=pipeline,
        families=families,
        session_events=events,
        group_commit=GroupCommit(families),
        bearer=bearer,
        revocation=Revocation(families, access_tokens),
        introspection=Introspection(accounts.store, clients.store, families, access_tokens),
        userinfo=UserInfo(bearer, clients.store),
        hints=Hints(jwt_signer, RetiredKeys(database)),
    )


def _databases(settings: Settings, clock: Clock, *, reads: bool) -> tuple[Database, Database]:
    """Return the database for requests and that for the ring: requests must not delay the maintenance of the ring."""
    url = settings.database_url.get_secret_value()
    database, ring_database = Database(url, reads=reads), Database(url, reads=reads)
    if clock is not system_clock:
        database.shared_clock = shared_clock_by(clock)
    return database, ring_database


def shared_clock_by(clock: Clock) -> Callable[[], int]:
    """Return a `Database.shared_clock` that advances as fast as `clock`, and starts at the uptime of this machine."""
    began, machine = clock(), uptime_microseconds()
    return lambda: machine + (clock() - began) // timedelta(microseconds=1)
