"""What happened to each key between two versions of the key ring, as entries of the audit log.

The hash chain of the entries is left to `audit`.
"""

from collections.abc import Iterator
from datetime import datetime

from issuer.audit.chain import Action, Entry
from issuer.keyring.key import Key
from issuer.keyring.ring import KeyRing


def transitions(before: KeyRing | None, after: KeyRing, actor: str, reason: str | None) -> list[Entry]:
    """Return what happened to each key since `before`, in the order of time.

    A scheduled activation has its own instant and no reason; `reason` is that of an operator's change.
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
        is_manual = old is None or old.activates_at != key.activates_at
        why = reason if is_manual else None
        yield Entry(key.activates_at, actor, Action.ACTIVATED, key.kid, after.version, why)


def _is_new(activates_at: datetime, old: Key | None, before: KeyRing | None) -> bool:
    if before is None or old is None or old.activates_at != activates_at:
        return True
    return activates_at > before.changed_at
