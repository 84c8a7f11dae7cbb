"""The objects of a process, by domain: what `wiring` makes, and endpoints and commands use."""

from contextlib import suppress
from dataclasses import dataclass

from issuer.accounts.hashing_pool import HashingPool
from issuer.accounts.login import PasswordLogin
from issuer.accounts.passwords import Passwords
from issuer.accounts.registration import Registration
from issuer.accounts.roles import RoleStore
from issuer.accounts.store import AccountStore
from issuer.administration.address_links import AddressLinks
from issuer.administration.invitations import Invitations
from issuer.administration.mail_delivery import MailDelivery
from issuer.administration.own_account import OwnAccount
from issuer.administration.own_profile import OwnProfile
from issuer.administration.reset_links import ResetLinks
from issuer.administration.user_mails import UserMails
from issuer.audit.event import Event, EventAction
from issuer.audit.event_search import EventSearch
from issuer.audit.events import EventStore
from issuer.audit.store import AuditStore
from issuer.authorize.consent_store import Consents
from issuer.authorize.flow import Flow
from issuer.authorize.sign_in import SignIn
from issuer.authorize.sign_out import SignOut
from issuer.authorize.ticket import Tickets
from issuer.clients.authentication import ClientAuthentication
from issuer.clients.key_sets import ClientKeys
from issuer.clients.outgoing_http import OutgoingHttp
from issuer.clients.resources import Resources
from issuer.clients.store import ClientStore
from issuer.clock import Clock
from issuer.database.database import Database
from issuer.database.errors import StoreError
from issuer.database.secrets import MonthlySecrets
from issuer.grants.pipeline import Pipeline
from issuer.keyring.census import Census
from issuer.keyring.census_store import CensusStore
from issuer.keyring.heartbeat_store import HeartbeatStore
from issuer.keyring.node import Node
from issuer.keyring.policy import Policy
from issuer.keyring.recovery import Recovery
from issuer.keyring.rotation import Rotation
from issuer.sessions.logout_notice_store import LogoutNoticeStore
from issuer.sessions.store import BrowserSessionStore
from issuer.settings.settings import Settings
from issuer.signing.signer import Signer
from issuer.throttling.account_limits import AccountLimitStore
from issuer.tokens.backchannel_logout import BackchannelLogout
from issuer.tokens.bearer import BearerAuthentication
from issuer.tokens.entitlements import Entitlements
from issuer.tokens.event_store import SessionEventStore
from issuer.tokens.family_store import FamilyStore
from issuer.tokens.group_commit import GroupCommit
from issuer.tokens.hints import Hints
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
    census: Census
    """Of this process."""
    census_store: CensusStore
    audit: AuditStore


@dataclass(frozen=True)
class Accounts:
    """Users and their passwords."""

    store: AccountStore
    passwords: Passwords
    hashing_pool: HashingPool
    login: PasswordLogin
    registration: Registration
    roles: RoleStore
    limits: AccountLimitStore


@dataclass(frozen=True)
class Clients:
    """Clients and their authentication."""

    store: ClientStore
    resources: Resources
    entitlements: Entitlements
    key_sets: ClientKeys
    authentication: ClientAuthentication
    http: OutgoingHttp


@dataclass(frozen=True)
class Sessions:
    """Browsers that are signed in, secrets that sign tickets and forms, and clients to tell of ended sessions."""

    store: BrowserSessionStore
    secrets: MonthlySecrets
    tickets: Tickets
    sign_in: SignIn
    sign_out: SignOut
    notices: LogoutNoticeStore
    backchannel: BackchannelLogout


@dataclass(frozen=True)
class Tokens:
    """Tokens and sessions: issued, rotated, verified and revoked."""

    jwt_signer: JwtSigner
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
class Authorize:
    """Authorization requests, from the first to the code."""

    flow: Flow
    consents: Consents


@dataclass(frozen=True)
class Administration:
    """Changes of accounts together with their sessions."""

    mails: UserMails
    mail_delivery: MailDelivery | None
    """None: no mails are sent."""
    address_links: AddressLinks
    invitations: Invitations
    own_account: OwnAccount
    own_profile: OwnProfile
    reset_links: ResetLinks


@dataclass(frozen=True)
class Events:
    """Events of accounts and clients, and the search in both audit logs."""

    store: EventStore
    search: EventSearch


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
    authorize: Authorize
    administration: Administration
    events: Events

    def event(
        self,
        action: EventAction,
        *,
        user_id: str | None = None,
        client_id: str | None = None,
        detail: str | None = None,
        reason: str | None = None,
    ) -> Event:
        """Return the event of what an operator does now, to give to what makes the change."""
        return Event(self.clock(), self.actor, action, user_id, client_id, detail, reason)

    def close(self) -> None:
        """End threads and connections, and withdraw the heartbeat of this node."""
        self.accounts.hashing_pool.close()
        self.tokens.group_commit.close()
        self.clients.key_sets.close()
        with suppress(StoreError):  # the census only informs
            self.keys.census.flush(self.clock())
        with suppress(StoreError):  # the heartbeat expires in any case
            self.keys.node.leave()
        self.database.close()
        self.ring_database.close()
