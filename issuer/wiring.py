"""`build`: the only place that makes the objects of the program, and imports every layer below.

The layers above use the `services.Issuer` that it returns, each only the domain that it needs.
"""

import os
import socket

from issuer.accounts.hashing_pool import HashingPool
from issuer.accounts.login import PasswordLogin
from issuer.accounts.passwords import Passwords
from issuer.accounts.registration import Registration
from issuer.accounts.roles import RoleStore
from issuer.accounts.store import AccountStore
from issuer.administration.address_links import AddressLinks
from issuer.administration.invitations import Invitations
from issuer.administration.mail_delivery import delivery_for
from issuer.administration.own_account import OwnAccount
from issuer.administration.own_profile import OwnProfile
from issuer.administration.reset_links import ResetLinks
from issuer.administration.user_mails import UserMails
from issuer.audit.event_search import EventSearch
from issuer.audit.events import EventStore
from issuer.audit.store import AuditStore
from issuer.authorize.code_store import CodeStore
from issuer.authorize.consent_store import Consents
from issuer.authorize.flow import Flow
from issuer.authorize.pushed import PushedRequests
from issuer.authorize.sign_in import SignIn
from issuer.authorize.sign_out import SignOut
from issuer.authorize.ticket import Tickets
from issuer.authorize.validation import Rules, supported_prompts
from issuer.clients.authentication import ClientAuthentication
from issuer.clients.key_sets import ClientKeys
from issuer.clients.outgoing_http import OutgoingHttp
from issuer.clients.resources import Resources
from issuer.clients.store import ClientStore
from issuer.clock import Clock, system_clock
from issuer.database.database import Database
from issuer.database.secrets import MonthlySecrets, SecretStore
from issuer.databases import databases_for
from issuer.keyring.census import Census
from issuer.keyring.census_store import CensusStore
from issuer.keyring.heartbeat_store import HeartbeatStore
from issuer.keyring.node import Node
from issuer.keyring.policy import Policy
from issuer.keyring.recovery import Recovery
from issuer.keyring.rotation import Rotation
from issuer.keyring.store import RingStore
from issuer.mail.outbox import Outbox
from issuer.services import (
    Accounts,
    Administration,
    Authorize,
    Clients,
    Events,
    Issuer,
    Keys,
    Sessions,
    Tokens,
)
from issuer.sessions.logout_notice_store import LogoutNoticeStore
from issuer.sessions.store import BrowserSessionStore
from issuer.settings.settings import Settings
from issuer.settings.shared import shared_settings
from issuer.signers import signer_for, storage_error_of
from issuer.signing.signer import Signer
from issuer.threads import cores
from issuer.throttling.account_limits import AccountLimitStore
from issuer.throttling.guard import Guard
from issuer.throttling.store import ThrottleStore
from issuer.token_wiring import tokens_for
from issuer.tokens.backchannel_logout import BackchannelLogout
from issuer.tokens.entitlements import Entitlements


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
    database, ring_database = databases_for(settings, clock, reads=reads)
    signer = signer_for(settings, ring_database)
    if not reads:
        database.migrate()
    keys = _keys(settings, policy, clock, ring_database, signer, actor, node_name)
    guard = Guard(ThrottleStore(database))
    mails = UserMails(Outbox(database) if settings.mail_server else None, guard)
    accounts = _accounts(settings, database, guard, mails)
    clients = _clients(settings, policy, database, guard)
    tokens = tokens_for(settings, policy, database, guard, keys, accounts, clients)
    sessions = _sessions(settings, database, actor, keys, accounts, clients, tokens)
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
        authorize=_authorize(settings, database, guard, clients, sessions, tokens),
        administration=_administration(settings, database, guard, mails, accounts, sessions, tokens),
        events=Events(EventStore(database), EventSearch(database)),
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
    census_store = CensusStore(database)
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
        census=Census(census_store.save, is_on=settings.census == "on"),
        census_store=census_store,
        audit=AuditStore(database),
    )


def _accounts(settings: Settings, database: Database, guard: Guard, mails: UserMails) -> Accounts:
    store, passwords = AccountStore(database), Passwords()
    registration = Registration(store, passwords, guard, is_open=settings.registration == "open")
    login = PasswordLogin(store, passwords, guard, EventStore(database), mails.new_device)
    return Accounts(
        store,
        passwords,
        HashingPool(cores()),
        login,
        registration,
        RoleStore(database),
        AccountLimitStore(database),
    )


def _clients(settings: Settings, policy: Policy, database: Database, guard: Guard) -> Clients:
    proxy = settings.proxy.get_secret_value() if settings.proxy else None
    store, key_sets = ClientStore(database), ClientKeys(settings.trusted_authorities(), proxy)
    endpoints = () if settings.assertion_audience == "issuer" else ("/oauth2/token", "/oauth2/par")
    audiences = (settings.url, *(f"{settings.url}{path}" for path in endpoints))
    authentication = ClientAuthentication(store, key_sets, guard, audiences, policy.clock_skew)
    http = OutgoingHttp(settings.trusted_authorities(), proxy)
    resources = Resources(database)
    entitlements = Entitlements(resources, (settings.audience,), settings.url)
    return Clients(store, resources, entitlements, key_sets, authentication, http)


def _sessions(
    settings: Settings,
    database: Database,
    actor: str,
    keys: Keys,
    accounts: Accounts,
    clients: Clients,
    tokens: Tokens,
) -> Sessions:
    lifetime, idle = settings.browser_session_lifetime, settings.browser_session_idle
    remembered = settings.browser_session_remembered
    secrets = MonthlySecrets(SecretStore(database), "browser")
    store, notices = BrowserSessionStore(database, lifetime, idle, remembered), LogoutNoticeStore(database)
    return Sessions(
        store=store,
        secrets=secrets,
        tickets=Tickets(secrets),
        sign_in=SignIn(database, accounts.login, store, tokens.families),
        sign_out=SignOut(clients.store, store, tokens.families, notices, tokens.hints),
        notices=notices,
        backchannel=BackchannelLogout(
            notices, clients.store, tokens.jwt_signer, clients.http, keys.audit, actor
        ),
    )


def _authorize(
    settings: Settings,
    database: Database,
    guard: Guard,
    clients: Clients,
    sessions: Sessions,
    tokens: Tokens,
) -> Authorize:
    consents = Consents(database, tokens.families)
    rules = Rules(
        default_audience=(settings.audience,),
        issuer=settings.url,
        prompts=supported_prompts(is_registration_open=settings.registration == "open"),
        hints=tokens.hints,
        resources=clients.resources,
    )
    flow = Flow(
        rules=rules,
        find_client=clients.store.find_enabled,
        tickets=sessions.tickets,
        sessions=sessions.store,
        codes=CodeStore(database),
        pushed=PushedRequests(database),
        consents=consents,
        guard=guard,
    )
    return Authorize(flow, consents)


def _administration(
    settings: Settings,
    database: Database,
    guard: Guard,
    mails: UserMails,
    accounts: Accounts,
    sessions: Sessions,
    tokens: Tokens,
) -> Administration:
    store, login, families = accounts.store, accounts.login, tokens.families
    reset_links = ResetLinks(database, sessions.secrets, store, families, accounts.passwords, mails)
    address_links = AddressLinks(database, sessions.secrets, store, login, mails)
    return Administration(
        mails=mails,
        mail_delivery=delivery_for(settings, database, store, guard, reset_links, address_links),
        address_links=address_links,
        invitations=Invitations(store, accounts.passwords),
        own_account=OwnAccount(database, login, accounts.passwords, sessions.store, families, mails),
        own_profile=OwnProfile(database, store, login, mails),
        reset_links=reset_links,
    )
