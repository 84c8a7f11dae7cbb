"""Deletes a client with everything that is stored of it. Its id stays in `subjects`: it is never reused.

A client may have millions of sessions. So that no lock is held for long, a deletion has three steps, and one that was
interrupted is repeated from the first: disable the client, change its rows in short transactions, delete it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Delete,
    Table,
    Update,
    and_,
    delete,
    false,
    func,
    select,
    update,
)

from issuer.administration.client_sessions import active
from issuer.audit.event import Event
from issuer.audit.events import record
from issuer.authorize.code_store import authorization_codes
from issuer.authorize.consent_store import consents
from issuer.authorize.pushed import pushed_requests
from issuer.callbacks import notify
from issuer.clients.store import delete_client, lock_client, update_client
from issuer.database.database import Database
from issuer.database.engines import lift_time_limits
from issuer.database.rows import batched
from issuer.sessions.logout_notices import logout_notices
from issuer.sessions.store import client_sessions
from issuer.tokens.refresh_rotation import families

# Two transactions could wait for each other in another order: consents before codes, as where a user withdraws, and
# families before what a browser session has, as where an account is deleted. Codes before families: one that is being
# redeemed is waited for, and its session then ends.
_BEFORE_FAMILIES = (authorization_codes, pushed_requests)
_AFTER_FAMILIES = (client_sessions, logout_notices)

Progress = Callable[[str, int, int], None]
"""Called with what was done, how often so far, and how often at the end."""


@dataclass(frozen=True)
class Removed:
    """What was removed with a client."""

    sessions: int = 0
    """How many were ended. They are deleted a day later, as all ended sessions."""
    users: int = 0
    """How many had consented."""


def disable_for_deletion(database: Database, client_id: str, event: Event) -> None:
    """Disable a client that is to be deleted: nothing is issued to it from `clients.store.MEMORY` later on.

    The event is recorded unless it was disabled before. Raise LookupError if it is not registered.
    """
    with database.write() as connection:
        client = lock_client(connection, client_id)
        if client is None:
            raise LookupError(client_id)
        if client.disabled_at is None:
            update_client(connection, client, replace(client, disabled_at=event.at))
            record(connection, event)


def remove_in_batches(database: Database, client_id: str, now: datetime, progress: Progress) -> Removed:
    """End the sessions of a disabled client and delete its consents, in many short transactions.

    Rows that others have locked are left to `remove_client`, so that none waits for another.
    """

    def all_of(table: Table, change: Update | Delete, done: str, *more: ColumnElement[bool]) -> int:
        condition = table.c.client_id == client_id, *more
        return _change_in_batches(
            database, table, change, condition, lambda count, most: notify(progress, done, count, most)
        )

    end = update(families).values(ended_at=now)
    sessions = all_of(families, end, "sessions ended", *active(client_id, now))
    users = all_of(consents, delete(consents), "users whose consent is deleted")
    all_of(client_sessions, delete(client_sessions), "sign-ins deleted")
    return Removed(sessions, users)


def _change_in_batches(
    database: Database,
    table: Table,
    change: Update | Delete,
    condition: Iterable[ColumnElement[bool]],
    progress: Callable[[int, int], None],
) -> int:
    """Change the rows that meet the condition and are not locked; return how many keys they had."""
    condition = tuple(condition)
    # Only the index of the key fits this: by that of the client, each batch would read all rows of the client.
    met = func.coalesce(and_(*condition), false())
    key: Any = next(iter(table.primary_key))
    with database.snapshot() as connection:
        lift_time_limits(connection)
        # All at once: each search for a few more would read the changed ones again.
        keys = connection.scalars(select(key).where(*condition).distinct().order_by(key)).all()
    done = 0
    for some in batched(keys):
        these = met, key.in_(some)
        unlocked = select(key).where(*these).with_for_update(skip_locked=True)
        with database.write() as connection:
            done += len(set(connection.scalars(change.where(*these, key.in_(unlocked)).returning(key))))
        progress(done, len(keys))
    return done


def remove_client(
    database: Database,
    client_id: str,
    now: datetime,
    event: Event | None = None,
    already: Removed = Removed(),
) -> Removed:
    """Delete a client, and end its sessions, in one transaction; raise LookupError if it is not registered.

    Return what was removed, with what was `already`. Requests that looked the client up before it was disabled may
    still store something: `remove_leftovers` removes that.
    """
    with database.write() as connection:
        lift_time_limits(connection)
        if lock_client(connection, client_id) is None:
            raise LookupError(client_id)
        return remove_within(connection, client_id, now, event, already)


def remove_within(
    connection: Connection,
    client_id: str,
    now: datetime,
    event: Event | None = None,
    already: Removed = Removed(),
) -> Removed:
    """Do the same within a transaction that has locked the client; the event is recorded with what was removed."""
    delete_client(connection, client_id)
    last = _remove_all_of(connection, client_id, now)
    removed = Removed(already.sessions + last.sessions, already.users + last.users)
    if event:
        record(connection, replace(event, detail=f"sessions ended: {removed.sessions}"))
    return removed


def remove_leftovers(database: Database, client_id: str, now: datetime) -> None:
    """Remove what requests have stored of a client that was deleted while they ran."""
    with database.write() as connection:
        lift_time_limits(connection)
        _remove_all_of(connection, client_id, now)


def _remove_all_of(connection: Connection, client_id: str, now: datetime) -> Removed:
    def delete_of(table: Table) -> Delete:
        return delete(table).where(table.c.client_id == client_id)

    users = set(connection.scalars(delete_of(consents).returning(consents.c.user_id)))
    for table in _BEFORE_FAMILIES:
        connection.execute(delete_of(table))
    ended = connection.execute(update(families).where(*active(client_id, now)).values(ended_at=now)).rowcount
    for table in _AFTER_FAMILIES:
        connection.execute(delete_of(table))
    return Removed(ended, len(users))
