"""The table of consents: given, looked up, listed and withdrawn.

Whether a request needs consent is decided in `consent`.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    ForeignKey,
    LargeBinary,
    Row,
    String,
    Table,
    bindparam,
    delete,
    exists,
    func,
    select,
)

from issuer.accounts.account_lock import lock_enabled
from issuer.audit.event import Event, EventAction, by_user
from issuer.audit.events import record
from issuer.authorize.code_store import authorization_codes
from issuer.authorize.consent import Consent, ConsentState, consent_state, consent_to, resources_of
from issuer.authorize.request import AuthorizationRequest
from issuer.database.database import Database, metadata
from issuer.database.errors import DatabaseDamaged
from issuer.database.rows import checked, each_readable, upserting
from issuer.database.types import Instant, Scope
from issuer.oauth import CLIENT_ID_MOST_CHARACTERS, format_scope
from issuer.tokens.family_store import FamilyStore
from issuer.urls import RESOURCE_MOST_CHARACTERS

consents = Table(
    "consents",
    metadata,
    Column("user_id", ForeignKey("users.id"), primary_key=True),
    Column("client_id", String(CLIENT_ID_MOST_CHARACTERS), primary_key=True, index=True),
    Column("resource", String(RESOURCE_MOST_CHARACTERS), primary_key=True),
    Column("scope", Scope, nullable=False),
    Column("given_at", Instant, nullable=False),
    Column("shown", LargeBinary, nullable=False),
)

# Built once: that takes longer than executing it.
_TO_CLIENT = select(consents).where(
    consents.c.user_id == bindparam("user"), consents.c.client_id == bindparam("client")
)


class Consents:
    """Stores what users have allowed clients."""

    def __init__(self, database: Database, families: FamilyStore) -> None:
        self._database = database
        self._families = families

    def covers(
        self,
        user_id: str,
        request: AuthorizationRequest,
        scope: frozenset[str],
        started: datetime,
        now: datetime,
    ) -> ConsentState:
        """Return whether a request that began at `started` needs the consent of the user to `scope`."""
        with self._database.read() as connection:
            found = connection.execute(_TO_CLIENT, {"user": user_id, "client": request.client.id}).all()
        # A damaged row counts as none: the user is asked, and the answer replaces it.
        given, _ = each_readable(found, _consent)
        return consent_state(request, scope, given, started, now)

    def give(
        self,
        user_id: str,
        request: AuthorizationRequest,
        scope: frozenset[str],
        started: datetime,
        now: datetime,
    ) -> bool:
        """Store that the user allows `scope`; return False and store nothing if the account is disabled or gone."""
        at = max(now, started)  # the request may have begun on a node whose clock is ahead
        with self._database.write() as connection:
            if not lock_enabled(connection, user_id, None):
                return False
            rows = connection.execute(_TO_CLIENT, {"user": user_id, "client": request.client.id}).all()
            before = {consent.resource: consent for consent in each_readable(rows, _consent)[0]}
            for resource in dict.fromkeys(resources_of(request)):
                given = consent_to(request, user_id, resource, scope, at, before.get(resource))
                row = upserting(connection, consents).values(vars(given))
                key = [column.name for column in consents.primary_key]
                changed = {name: value for name, value in vars(given).items() if name not in key}
                connection.execute(row.on_conflict_do_update(index_elements=key, set_=changed))
            subject, detail = (user_id, request.client.id), format_scope(scope) or None
            record(connection, Event(at, by_user(user_id), EventAction.CONSENT_GIVEN, *subject, detail))
        return True

    def withdraw(self, user_id: str, client_id: str, now: datetime) -> None:
        """Delete what the user has allowed a client, void its codes, and end the client's sessions of the user."""
        with self._database.together():
            with self._database.write() as connection:
                lock_enabled(connection, user_id, None)  # no code is issued meanwhile: see `CodeStore.add`
                # Codes before sessions: one that is being redeemed is waited for, and its session then ends.
                for table in (consents, authorization_codes):
                    theirs = table.c.user_id == user_id, table.c.client_id == client_id
                    connection.execute(delete(table).where(*theirs))
                event = Event(now, by_user(user_id), EventAction.CONSENT_WITHDRAWN, user_id, client_id)
                record(connection, event)
            self._families.end_of_client(user_id, client_id, now)

    def count_users(self, client_id: str) -> int:
        """Return how many users have allowed a client something."""
        counted = select(func.count(consents.c.user_id.distinct())).where(consents.c.client_id == client_id)
        with self._database.read() as connection:
            return connection.scalar(counted) or 0

    def of_user(self, user_id: str) -> tuple[list[Consent], list[DatabaseDamaged]]:
        """Return what a user has allowed, the newest first, and what is wrong with rows that cannot be read."""
        newest = consents.c.given_at.desc(), consents.c.client_id, consents.c.resource
        with self._database.read() as connection:
            theirs = select(consents).where(consents.c.user_id == user_id)
            rows = connection.execute(theirs.order_by(*newest)).all()
        return each_readable(rows, _consent)


def has_consent(client_id: str, user_id: ColumnElement[str]) -> ColumnElement[bool]:
    """Return the condition that the user in a column of a statement has allowed a client something.

    NOT EXISTS is a join for PostgreSQL; with NOT IN it would read all consents of the client for each row.
    """
    return exists().where(consents.c.user_id == user_id, consents.c.client_id == client_id)


def _consent(row: Row[Any]) -> Consent:
    return Consent(**checked(consents, row))
