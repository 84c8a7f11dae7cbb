"""The audit: what happened to each key, when and by whom, as a chain in which no link can be changed unnoticed.

Keeping it is the store's work; pure functions tell what is to be recorded and whether a chain is whole.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum


class Action(StrEnum):
    """What may happen to a key, to all of them, or to sessions."""

    PUBLISHED = "published"
    IMPORTED = "imported"
    ACTIVATED = "activated"
    REVOKED = "revoked"
    RETIRED = "retired"
    REWRAPPED = "rewrapped"
    RECOVERED = "recovered"
    MOVED = "moved"
    SESSIONS_ENDED = "sessions ended"


@dataclass(frozen=True)
class Entry:
    """One event; `kid` and `ring_version` are None where it is not about one key or one change of the ring."""

    at: datetime
    actor: str
    action: str
    """An `Action`; what was read may have been tampered with."""
    kid: str | None = None
    ring_version: int | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Link:
    """An entry in its place: `number` counts from 1, `digest` covers the entry and every one before it."""

    number: int
    digest: str
    entry: Entry


@dataclass(frozen=True)
class Head:
    """Where the chain ends, kept apart from it: without it the newest links could go unnoticed."""

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


def fault(links: Iterable[Link], head: Head) -> str | None:
    """Return the first thing wrong with a chain, or None: a link changed, removed, added or moved."""
    end = EMPTY
    for link in links:
        if link.number != end.number + 1:
            return f"entry {end.number + 1} is missing"
        if link != chained(end, link.entry):
            return f"entry {link.number} was changed, or does not belong after entry {end.number}"
        end = Head(link.number, link.digest)
    if end != head:
        return f"the audit ends with entry {end.number}, but {head.number} were made"
    return None
