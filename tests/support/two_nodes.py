"""Two nodes on one database whose clocks differ: sessions begin and are refreshed at either."""

from datetime import datetime, timedelta
from typing import Any, cast

from issuer.accounts.login import PasswordLogin
from issuer.accounts.passwords import Passwords
from issuer.accounts.store import AccountStore
from issuer.accounts.user import User
from issuer.audit.events import EventStore
from issuer.clients.authentication import ClientAuthentication
from issuer.clients.key_sets import ClientKeys
from issuer.clients.resources import Resources
from issuer.clients.store import ClientStore
from issuer.database.database import Database
from issuer.grants.context import GrantContext
from issuer.grants.pipeline import Pipeline
from issuer.oauth import InvalidGrant, OAuthRequest
from issuer.signing.public_key import PublicKey
from issuer.throttling.guard import Guard
from issuer.throttling.origin import Origin
from issuer.throttling.store import ThrottleStore
from issuer.tokens.access_tokens import AccessToken
from issuer.tokens.authorization import Authorization
from issuer.tokens.entitlements import Entitlements
from issuer.tokens.event_store import SessionEventStore
from issuer.tokens.families import Sessions
from issuer.tokens.family_store import FamilyStore
from issuer.tokens.further_claims import ClaimsOfAttributes
from issuer.tokens.refresh import Grace, NewFamily
from support.defaults import REFRESH_GRACE, START, sound_key

SKEW = timedelta(seconds=30)
GRACE = Grace(REFRESH_GRACE, SKEW)
HOUR = timedelta(hours=1)
LIFETIME = timedelta(days=30)
HERE, THERE = "203.0.113.7", "198.51.100.7"
OWNER = User("owner", "owner", "a hash", frozenset({"a"}), START)


class Time:
    """The true time, from which the clocks of nodes differ."""

    def __init__(self) -> None:
        self.now = START


class KeyRingStub:
    """Replaces the key ring: there is always a key, and its signatures are empty."""

    def signing_key(self, _now: datetime) -> PublicKey:
        return sound_key("any")

    def sign(self, *_args: object) -> AccessToken:
        return AccessToken("", 1)


class Node:
    """A node whose clock differs by `off` from the true time; the clock of the database does not."""

    def __init__(self, database: Database, time: Time, off: timedelta, grace: Grace = GRACE) -> None:
        self.time, self.off = time, off
        database.shared_clock = lambda: int(time.now.timestamp() * 1_000_000)
        self.database, self.families = database, FamilyStore(database)
        guard, clients = Guard(ThrottleStore(database)), ClientStore(database)
        self.sessions = Sessions(self.families, SessionEventStore(database), LIFETIME, grace)
        self._pipeline = Pipeline(
            context=GrantContext(
                login=PasswordLogin(AccountStore(database), Passwords(), guard, EventStore(database)),
                families=self.families,
                codes=cast("Any", None),  # no code is redeemed
                signing_key=cast("Any", KeyRingStub()).signing_key,
                resources=Resources(database),
                entitlements=Entitlements(Resources(database), ("x",), "x"),
                user_audience=("x",),
                client_audience=("x",),
                grace=grace,
            ),
            authentication=ClientAuthentication(clients, ClientKeys(), guard, ("x",), SKEW),
            guard=guard,
            sessions=self.sessions,
            access_tokens=cast("Any", KeyRingStub()),
            id_tokens=cast("Any", KeyRingStub()),
            further_claims=ClaimsOfAttributes(()),
            password_login=True,
        )

    @property
    def now(self) -> datetime:
        return self.time.now + self.off

    def log_in(self) -> str:
        authorization = Authorization(OWNER.id, "first-party", OWNER.scope, ("x",))
        new = NewFamily()
        return self.sessions.start(new, authorization, Origin("", HERE), self.now)[0].token

    def refresh(self, token: str, address: str = HERE) -> str:
        form = {"grant_type": "refresh_token", "client_id": "first-party", "refresh_token": token}
        granted = self._pipeline.grant(OAuthRequest(form), Origin("", address), self.now)
        assert granted.refresh_token
        return granted.refresh_token

    def refuses(self, token: str, address: str = HERE) -> bool:
        try:
            self.refresh(token, address)
        except InvalidGrant:
            return True
        return False


def two_nodes(url: str, time: Time, grace: Grace = GRACE) -> list[Node]:
    """Return two nodes on one database, whose clocks differ by the allowed skew."""
    databases = [Database(url), Database(url)]
    databases[0].migrate()
    AccountStore(databases[0]).add(OWNER)
    offs = (SKEW / 2, -SKEW / 2)
    return [Node(database, time, off, grace) for database, off in zip(databases, offs, strict=True)]
