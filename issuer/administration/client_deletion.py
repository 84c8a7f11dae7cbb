"""Deletes a client with everything that is stored of it. Its id stays in `subjects`: it is never reused."""

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, Table, delete, update

from issuer.administration.client_sessions import active
from issuer.audit.event import Event
from issuer.audit.events import record
from issuer.authorize.code_store import authorization_codes
from issuer.authorize.consent_store import consents
from issuer.authorize.pushed import pushed_requests
from issuer.clients.store import delete_client, lock_client
from issuer.database.database import Database
from issuer.database.engines import lift_time_limits
from issuer.sessions.logout_notices import logout_notices
from issuer.sessions.store import client_sessions
from issuer.tokens.refresh_rotation import families

# Two transactions could wait for each other in another order: consents before codes, as where a user withdraws, and
# families before what a browser session has, as where an account is deleted. Codes before families: one that is being
# redeemed is waited for, and its session then ends.
_BEFORE_FAMILIES = (consents, authorization_codes, pushed_requests)
_AFTER_FAMILIES = (client_sessions, logout_notices)


@dataclass(frozen=True)
class Removed:
    """What was removed with a client."""

    sessions: int
    """How many were ended. They are deleted a day later, as all ended sessions."""
    consents: int
    """How many consents were deleted: one for each user and resource."""


def remove_client(database: Database, client_id: str, now: datetime, event: Event | None = None) -> Removed:
    """Delete a client, and end its sessions, in one transaction; raise LookupError if it is not registered.

    Requests that looked it up before may still store something: `remove_leftovers` removes that.
    """
    with database.write() as connection:
        lift_time_limits(connection)
        if lock_client(connection, client_id) is None:
            raise LookupError(client_id)
        return remove_within(connection, client_id, now, event)


def remove_within(
    connection: Connection, client_id: str, now: datetime, event: Event | None = None
) -> Removed:
    """Do the same within a transaction that has locked the client; the event is recorded with what was removed."""
    delete_client(connection, client_id)
    removed = _remove_all_of(connection, client_id, now)
    if event:
        record(connection, replace(event, detail=f"sessions ended: {removed.sessions}"))
    return removed


def remove_leftovers(database: Database, client_id: str, now: datetime) -> None:
    """Remove what requests have stored of a client that was deleted while they ran."""
    with database.write() as connection:
        lift_time_limits(connection)
        _remove_all_of(connection, client_id, now)


def _remove_all_of(connection: Connection, client_id: str, now: datetime) -> Removed:
    def delete_of(table: Table) -> int:
        return connection.execute(delete(table).where(table.c.client_id == client_id)).rowcount

    deleted = {table: delete_of(table) for table in _BEFORE_FAMILIES}
    ended = connection.execute(update(families).where(*active(client_id, now)).values(ended_at=now)).rowcount
    for table in _AFTER_FAMILIES:
        delete_of(table)
    return Removed(ended, deleted[consents])
