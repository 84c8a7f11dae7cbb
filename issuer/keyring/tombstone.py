"""The tombstone of a key ring that was moved to another database: what `issuer move` stores in the place of the ring.

When it is set and removed is decided in `maintenance.move`; `store` reads and writes the row.
"""

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import TypeAdapter, ValidationError

from issuer.clock import instant
from issuer.database.url import BadURL, parse

LONGEST_DOCUMENT: Final = 16 * 1024 * 1024
"""In characters or bytes; the document of a ring of a thousand keys has less than a tenth of it."""
_INSTANT: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


@dataclass(frozen=True)
class Tombstone:
    """Where a ring was moved, and the ring itself; no version of this program reads it as a ring."""

    moved_to: str
    moved_at: str
    document: str
    """The document of the ring."""

    @classmethod
    def of(cls, document: str, to: str, now: datetime) -> "Tombstone":
        """Return the tombstone of the ring in `document`, which is moved to the database `to`."""
        return cls(to, instant(now), document)

    def written(self) -> str:
        """Return the document that is stored in the place of the ring."""
        return _TOMBSTONE.dump_json(self).decode()

    @classmethod
    def read(cls, document: object) -> "Tombstone | None":
        """Return the tombstone in a document, or None.

        The URL is shown to operators as a line for their settings: it must be one of a database, and printable.
        """
        if not isinstance(document, str) or len(document) > LONGEST_DOCUMENT:
            return None
        with suppress(ValidationError, BadURL):
            tombstone = _TOMBSTONE.validate_json(document)
            parse(tombstone.moved_to)
            if tombstone.moved_to.isprintable() and _INSTANT.fullmatch(tombstone.moved_at):
                return tombstone
        return None


_TOMBSTONE = TypeAdapter(Tombstone)
