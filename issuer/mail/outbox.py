"""The table of mails that are due: who is sent what. No text is stored, and no link: they are made when it is sent.

So no secret is in the table. What is sent is decided in `administration.mail_delivery`.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, Connection, ForeignKey, Select, String, Table, Text, func, insert, select
from sqlalchemy.exc import IntegrityError

from issuer.database.database import Database, metadata
from issuer.database.types import Member
from issuer.database.work_queue import Job, WorkQueue, due_row, queue_columns

WAITS = (timedelta(minutes=2), timedelta(minutes=5), timedelta(minutes=20))
"""Between one attempt and the next; each is longer than a round takes, so that no mail is sent twice."""
ATTEMPTS_MOST = len(WAITS) + 1
DUE_MOST = 10_000
"""Rows of the table: beyond that nothing is added, until some are sent."""
NOTICES_MOST = 5_000
"""Beyond so many rows no notice is added: the rest is for mails that a person waits for."""


class MailKind(StrEnum):
    """What a mail is about; each has a template."""

    RESET_REQUEST = "reset request"
    """Not a mail yet: somebody typed a name or an address, for which accounts are looked up in the background."""
    RESET = "reset"
    INVITATION = "invitation"
    CONFIRM_ADDRESS = "confirm address"
    PASSWORD_CHANGED = "password changed"  # noqa: S105 - a kind of mail
    ADDRESS_CHANGED = "address changed"
    NEW_DEVICE = "new device"


OF_ACCOUNT_MOST = 20
"""Rows of one account: while no mail can be sent, one person must not use up the places of all notices."""

NOTICES = {MailKind.PASSWORD_CHANGED, MailKind.ADDRESS_CHANGED, MailKind.NEW_DEVICE}
"""Mails that nobody waits for."""


mails = Table(
    "mails",
    metadata,
    *queue_columns(),
    Column("kind", Member(MailKind), nullable=False),
    Column("user_id", String(36), ForeignKey("users.id"), index=True),
    Column("recipient", Text, nullable=False),
    Column("details", Text, nullable=False),
)


@dataclass(frozen=True, kw_only=True)
class Mail(Job):
    """A mail that is due."""

    kind: MailKind
    user_id: str | None
    recipient: str = field(repr=False)
    """An address; of a request, what was typed."""
    details: str = field(repr=False)
    """What its template names besides, as a JSON object."""

    def values(self) -> dict[str, Any]:
        """Return the details."""
        return dict(json.loads(self.details))


class Outbox(WorkQueue[Mail]):
    """Stores which mails are due."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, mails, WAITS, Mail)

    def add(
        self,
        kind: MailKind,
        user_id: str | None,
        recipient: str,
        now: datetime,
        details: Mapping[str, str | int] | None = None,
    ) -> bool:
        """Store that a mail is due; return False, and store nothing, if too many are due, or of this account."""
        row = {
            **due_row(now),
            "kind": kind,
            "user_id": user_id,
            "recipient": recipient,
            "details": json.dumps(details or {}),
        }
        most = NOTICES_MOST if kind in NOTICES else DUE_MOST
        limits = [(select(mails.c.id), most)]
        if user_id is not None:
            limits.append((select(mails.c.id).where(mails.c.user_id == user_id), OF_ACCOUNT_MOST))
        # The account may be deleted meanwhile: then nobody is left to be told.
        with suppress(IntegrityError), self._database.write() as connection:
            if any(_has(connection, due, most) for due, most in limits):
                return False
            connection.execute(insert(mails).values(row))
        return True


def _has(connection: Connection, rows: Select[tuple[str]], count: int) -> bool:
    """Return whether a statement has so many rows, without reading more."""
    found = select(func.count()).select_from(rows.limit(count).subquery())
    return (connection.scalar(found) or 0) >= count
