"""Registers the clients of a file: all of them or none, in one transaction.

What has to be done is decided in `client_plan`.
"""

import json
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from issuer.administration.client_changes import store_change, summary, void_codes_without_consent
from issuer.administration.client_deletion import remove_leftovers, remove_within
from issuer.administration.client_file import ClientFile
from issuer.administration.client_plan import PlannedClient, Step, new_secrets, planned
from issuer.audit.event import Event, EventAction
from issuer.audit.events import record
from issuer.clients.client import Client
from issuer.clients.resources import Resources
from issuer.clients.store import find_clients, insert_client
from issuer.clock import duration
from issuer.database.database import Database
from issuer.database.engines import lift_time_limits
from issuer.database.errors import DatabaseUnavailable
from issuer.database.rows import batched
from issuer.database.subjects import subjects
from issuer.errors import Refused

_LOCK = 0x69737376  # any constant number, next to that of migrations


@dataclass
class _Written:
    """The file of new secrets, as far as it is written."""

    path: Path | None = None
    is_complete: bool = False
    """Whether all is done but the commit."""


@dataclass(frozen=True)
class ClientSync:
    """Brings registered clients to what a file declares."""

    database: Database
    file: ClientFile
    secrets_file: Path | None
    """Where new secrets are written; it must not exist."""
    now: datetime
    overlap: timedelta
    """How long replaced secrets stay valid."""
    prune: bool
    """Whether registered clients that are not in the file are deleted."""
    actor: str
    """Whom the events name."""

    def preview(self) -> list[PlannedClient]:
        """Return what `perform` would do; raise what it raises."""
        with self.database.snapshot() as connection:
            plan = self._plan(connection, lock=False)
        self._require_new_file(plan)
        return plan

    def perform(self, confirmed: Collection[str] | None = None) -> list[PlannedClient]:
        """Do it, and return what was done; other commands that register files wait.

        Raise BadDocument, OSError, or Refused: also if another client would be deleted than those `confirmed`. Raise
        DatabaseUnavailable, also if it is unknown whether it was done, as the connection was lost at the end: new
        secrets are then kept in another file, which the error names, and the next attempt is a new one.
        """
        with self._removed_unless_stored() as written, self.database.write() as connection:
            if not self.database.is_sqlite:  # which has one writer at a time
                lift_time_limits(connection)
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            plan = self._plan(connection, lock=True)
            deleted = {each.client.id for each in plan if each.step is Step.DELETE}
            if confirmed is not None and not deleted <= set(confirmed):
                raise Refused("other clients were registered meanwhile, and would be deleted; run it again")
            for each in plan:
                self._store(connection, each)
            # Last: whatever fails before that writes no secrets.
            if secrets := list(new_secrets(plan)):
                _write(self._require_new_file(plan), secrets, written)
                written.is_complete = True
        return plan

    def remove_leftovers(self, plan: Sequence[PlannedClient], now: datetime) -> None:
        """Remove what requests have stored meanwhile of clients that were deleted, or are trusted no longer."""
        for each in plan:
            if each.step is Step.DELETE:
                remove_leftovers(self.database, each.client.id, now)
            elif each.before and each.before.is_trusted and not each.client.is_trusted:
                void_codes_without_consent(self.database, each.client.id)

    def _plan(self, connection: Connection, *, lock: bool) -> list[PlannedClient]:
        file = self.file
        ids = {each.client.id for each in file.clients}
        names = {each.client.name for each in file.clients if not each.has_id}
        registered = find_clients(connection, ids, names, every=self.prune, lock=lock)
        used = set[str]()
        for some in batched(sorted(ids - {client.id for client in registered})):
            used.update(connection.scalars(select(subjects.c.id).where(subjects.c.id.in_(some))))
        return planned(file, registered, used, self.now, overlap=self.overlap, prune=self.prune)

    def _store(self, connection: Connection, planned: PlannedClient) -> None:
        match planned.step, planned.before:
            case Step.DELETE, _:
                deleted = self._event(EventAction.CLIENT_DELETED, planned)
                remove_within(connection, planned.client.id, self.now, deleted)
            case Step.CHANGE, Client() as before:
                store_change(connection, before, planned.client, self.now)
                detail = summary(before, planned.client)
                record(connection, self._event(EventAction.CLIENT_CHANGED, planned, detail))
                record(connection, *self._of_secrets(planned, before))
            case _:
                try:
                    insert_client(connection, planned.client)
                    record(connection, self._event(EventAction.CLIENT_CREATED, planned))
                except IntegrityError:
                    raise Refused(f"another client or an account has the id {planned.client.id}") from None

    def _of_secrets(self, planned: PlannedClient, before: Client) -> Iterator[Event]:
        """Yield the event of what a change does to the secrets of a client."""
        after = planned.client
        if before.secret_digest == after.secret_digest:
            if before.old_secret_digest and not after.old_secret_digest:
                yield self._event(EventAction.SECRET_REMOVED, planned, "the old one")
        elif after.secret_digest is None:
            yield self._event(EventAction.SECRET_REMOVED, planned)
        elif before.secret_digest is None:
            yield self._event(EventAction.SECRET_CREATED, planned)
        else:
            detail = f"the old one is valid for {duration(self.overlap)}"
            yield self._event(EventAction.SECRET_ROTATED, planned, detail)

    def _event(self, action: EventAction, planned: PlannedClient, detail: str | None = None) -> Event:
        return Event(self.now, self.actor, action, client_id=planned.client.id, detail=detail)

    @contextmanager
    def _removed_unless_stored(self) -> Iterator[_Written]:
        """Remove the file of new secrets if the block fails: they belong to no client. Keep it if that is unknown."""
        written = _Written()
        try:
            yield written
        except BaseException as error:
            path = written.path
            if path is None:
                raise
            if not (written.is_complete and _may_be_committed(error)):
                path.unlink(missing_ok=True)
                raise
            # Under another name, so that the command can be run again.
            kept = path.rename(path.with_name(f"{path.name}.{self.now:%Y%m%dT%H%M%S%f}"))
            raise DatabaseUnavailable(
                f"{str(error) or 'interrupted'}; whether the clients were registered is unknown, and their new"
                f" secrets are kept in {kept}. Run the command again: if it registers them now, it makes other"
                f" secrets, and {kept.name} can be deleted"
            ) from error

    def _require_new_file(self, plan: Sequence[PlannedClient]) -> Path | None:
        """Return the file for new secrets; raise Refused if it exists, and there are some."""
        path = self.secrets_file
        if path is not None and path.exists() and any(new_secrets(plan)):
            raise Refused(f"{path} exists, and is not overwritten: move it away, then run it again")
        return path


def spelled(file: ClientFile, resources: Resources) -> ClientFile:
    """Return a file with its audiences as the resources are registered."""
    every = tuple(sorted({uri for each in file.clients for uri in each.client.audiences}))
    known = dict(zip(every, resources.spelled(every), strict=True)) if every else {}

    def respelled(client: Client) -> Client:
        return replace(client, audiences=tuple(dict.fromkeys(known[uri] for uri in client.audiences)))

    return replace(file, clients=tuple(replace(each, client=respelled(each.client)) for each in file.clients))


def _may_be_committed(error: BaseException) -> bool:
    """Return whether a transaction may have been committed although its commit raised an error.

    It was not if the database has answered.
    """
    cause = error.__cause__ if isinstance(error, DatabaseUnavailable) else error
    return not isinstance(cause, DBAPIError) or cause.connection_invalidated


def _write(path: Path | None, secrets: Sequence[tuple[Client, str]], written: _Written) -> None:
    """Write secrets to a new file that only this user can read, and note it in `written`; raise OSError."""
    if path is None:
        raise ValueError("no file for new secrets")
    rows = [
        {"client_id": client.id, "name": client.name, "client_secret": secret} for client, secret in secrets
    ]
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
        written.path = path  # before it is complete: the disk may be full
        file.write(json.dumps({"clients": rows}, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
