"""Ending sessions of all users at once; a single session is ended by its user or client, in `tokens`."""

from datetime import datetime

from issuer.audit.chain import Action, Entry
from issuer.audit.store import AuditStore
from issuer.tokens.family_store import FamilyStore


def end_all_sessions(families: FamilyStore, audit: AuditStore, actor: str, reason: str, now: datetime) -> int:
    """End every session, record it in the audit log, and return how many there were; all users must log in again."""
    ended = families.end_all(now)
    audit.record(Entry(now, actor, Action.SESSIONS_ENDED, reason=f"{ended} sessions: {reason}"))
    return ended
