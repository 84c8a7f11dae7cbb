"""The audit: what happened to each key, when and by whom, as a chain in which no link can be changed unnoticed.

Keeping it is the store's work; pure functions tell what is to be recorded and whether a chain is whole.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from issuer.keyring.key import Key
from issuer.keyring.ring import KeyRing


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
    REPLAYED = "refresh token replayed"
    """Written by earlier releases only; what happens to sessions is summed apart, see `SessionEvent`."""


class SessionEvent(StrEnum):
    """What may happen to a session that an operator should know; summed by user, and not in the chain.

    Whoever has an account can cause any number of them: in the chain they would bury the events of keys.
    """

    REPLAYED = "refresh token replayed"
    """A used token came after its grace, and ended its session."""
    ELSEWHERE = "refresh token repeated from another address"
    """A used token came within its grace from another address, and ended its session."""
    REPEATED = "refresh token repeated"
    """A used token came within its grace, and was given its successor again."""
    REPEAT_REFUSED = "refresh token repeat refused"
    """A used token came within its grace for the third time or more."""


@dataclass(frozen=True)
class SessionEvents:
    """How often one event happened to the sessions of one user since `first_at`, and the latest of them."""

    user_id: str
    event: str
    count: int
    first_at: datetime
    last_at: datetime
    session: str
    client_id: str


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


def transitions(before: KeyRing | None, after: KeyRing, actor: str, reason: str | None) -> list[Entry]:
    """Return what happened to each key since `before`, in the order of time.

    A turn that came by itself bears its own instant; `reason` belongs to what an operator did.
    """
    old = {key.kid: key for key in before.keys} if before else {}
    events = [
        event for key in after.keys for event in _events(key, old.get(key.kid), before, after, actor, reason)
    ]
    remaining = {key.kid for key in after.keys}
    events += [
        Entry(after.changed_at, actor, Action.RETIRED, kid, after.version) for kid in old.keys() - remaining
    ]
    return sorted(events, key=lambda event: event.at)


def _events(
    key: Key, old: Key | None, before: KeyRing | None, after: KeyRing, actor: str, reason: str | None
) -> Iterator[Entry]:
    now = after.changed_at
    if old is None:
        action = Action.IMPORTED if key.imported else Action.PUBLISHED
        yield Entry(now, actor, action, key.kid, after.version, reason if key.imported else None)
    if key.revoked_at and (
        old is None or (old.revoked_at, old.compromised) != (key.revoked_at, key.compromised)
    ):
        why = f"compromised: {key.revoked_reason}" if key.compromised else key.revoked_reason
        yield Entry(now, actor, Action.REVOKED, key.kid, after.version, why)
    if key.activates_at and key.activated_by(now) and _is_new(key.activates_at, old, before):
        by_hand = old is None or old.activates_at != key.activates_at
        why = reason if by_hand else None
        yield Entry(key.activates_at, actor, Action.ACTIVATED, key.kid, after.version, why)


def _is_new(activates_at: datetime, old: Key | None, before: KeyRing | None) -> bool:
    if before is None or old is None or old.activates_at != activates_at:
        return True
    return activates_at > before.changed_at
