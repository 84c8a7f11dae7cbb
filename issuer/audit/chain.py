"""The audit log as a hash chain: its entries, how they are linked, and the verification that none was changed.

Storing it is left to `store`; what is recorded of keys is decided in `keyring.transitions`.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum


class Action(StrEnum):
    """What happened to a key, to all keys or to all sessions, or what a client was not told."""

    PUBLISHED = "published"
    IMPORTED = "imported"
    ACTIVATED = "activated"
    REVOKED = "revoked"
    RETIRED = "retired"
    REWRAPPED = "rewrapped"
    RECOVERED = "recovered"
    MOVED = "moved"
    SESSIONS_ENDED = "sessions ended"
    LOGOUT_UNDELIVERED = "logout not delivered"


@dataclass(frozen=True)
class Entry:
    """One event; `kid` and `ring_version` are None where it is not about one key or one change of the ring."""

    at: datetime
    actor: str
    action: str
    """An `Action`, or any text in an entry that was tampered with."""
    kid: str | None = None
    ring_version: int | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Link:
    """An entry in the chain: `number` counts from 1, `digest` covers the entry and all entries before it."""

    number: int
    digest: str
    entry: Entry


@dataclass(frozen=True)
class Head:
    """The end of the chain, stored separately, so that removed newest links are detected."""

    number: int
    digest: str


EMPTY = Head(0, "")


def chained(head: Head, entry: Entry) -> Link:
    """Return `entry` as the link after `head`; its digest is SHA-256 in hexadecimal digits."""
    facts = [
        entry.at.astimezone(UTC).isoformat(),
        entry.actor,
        entry.action,
        entry.kid,
        entry.ring_version,
        entry.reason,
    ]
    covered = json.dumps([head.number + 1, head.digest, *facts], ensure_ascii=True, separators=(",", ":"))
    return Link(head.number + 1, hashlib.sha256(covered.encode()).hexdigest(), entry)


def integrity_error(links: Iterable[Link], head: Head) -> str | None:
    """Return the first error of a chain, or None: a link was changed, removed, added or moved."""
    end = EMPTY
    for link in links:
        if link.number != end.number + 1:
            return f"entry {end.number + 1} is missing"
        if link != chained(end, link.entry):
            return f"entry {link.number} was changed, or does not belong after entry {end.number}"
        end = Head(link.number, link.digest)
    if end != head:
        return f"the audit log ends with entry {end.number}, but {head.number} were recorded"
    return None
