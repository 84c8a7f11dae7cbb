"""The tombstone: what replaces a key ring that was moved to another database, and holds it for the way back.

When a ring is moved is decided in `maintenance.move`; the tombstone is stored by `store`.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import TypeAdapter, ValidationError

from issuer.clock import instant
from issuer.database.url import BadURL, parse
from issuer.keyring.document import LONGEST_DOCUMENT, read

_INSTANT: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


@dataclass(frozen=True)
class Tombstone:
    """The document in place of a moved ring; no version of this program takes it for a ring."""

    moved_to: str
    moved_at: str
    document: str
    """The ring that was here."""

    @staticmethod
    def row_for(version: int, document: str, moved_to: str, now: datetime) -> Mapping[str, object]:
        """Return the columns that replace those of a ring.

        The version is another one, so that no process that loaded the ring before can save over the tombstone.
        """
        tombstone = Tombstone(moved_to, instant(now), document)
        return {"version": version + 1, "document": _TOMBSTONE.dump_json(tombstone).decode()}

    @staticmethod
    def read(document: object) -> "Tombstone | None":
        """Return the tombstone in a document, or None.

        `moved_to` is shown to operators as a line for their settings, so it must be the URL of a database.
        """
        if not isinstance(document, str) or len(document) > LONGEST_DOCUMENT:
            return None
        with suppress(ValidationError, BadURL):
            tombstone = _TOMBSTONE.validate_json(document)
            parse(tombstone.moved_to)
            if tombstone.moved_to.isprintable() and _INSTANT.fullmatch(tombstone.moved_at):
                return tombstone
        return None

    @property
    def ring_row(self) -> Mapping[str, object]:
        """The columns of the ring that was here; raises Unreadable if it was damaged since."""
        return {"version": read(self.document).version, "document": self.document}


_TOMBSTONE: Final = TypeAdapter(Tombstone)
