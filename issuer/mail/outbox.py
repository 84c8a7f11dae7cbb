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

from sqlalchemy import Column, ForeignKey, String, Table, Text, func, insert, select
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
        """Store that a mail is due; return False, and store nothing, if too many are due."""
        row = {
            **due_row(now),
            "kind": kind,
            "user_id": user_id,
            "recipient": recipient,
            "details": json.dumps(details or {}),
        }
        most = NOTICES_MOST if kind in NOTICES else DUE_MOST
        due = select(func.count()).select_from(select(mails.c.id).limit(most).subquery())
        # The account may be deleted meanwhile: then nobody is left to be told.
        with suppress(IntegrityError), self._database.write() as connection:
            if (connection.scalar(due) or 0) >= most:
                return False
            connection.execute(insert(mails).values(row))
        return True
