"""Checks that a ring can have been saved by this program: no repeated keys, instants and numbers within range.

The form of the document is checked in `document`, each public key in `signing.public_key`.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from issuer.keyring.ring import KeyRing

FIRST_INSTANT: Final = datetime(1970, 1, 1, tzinfo=UTC)
LAST_INSTANT: Final = datetime(6000, 1, 1, tzinfo=UTC)
LONGEST_SPAN: Final = timedelta(days=200 * 365)
"""Twenty times the longest setting; sums of a few such durations and instants stay within the calendar."""
MOST_VERSIONS: Final = 2_000_000_000
"""Below the limit of a PostgreSQL column, after which no revocation could be saved."""
MOST_KEYS: Final = 10_000


def invalid_reason(ring: KeyRing) -> str | None:
    """Return why this cannot be a ring that was ever saved, or None."""
    kids = [key.kid for key in ring.keys]
    instants = [
        when for key in ring.keys for when in (key.published_at, key.activates_at, key.revoked_at) if when
    ]
    if all(key.revoked_at for key in ring.keys):
        return "it has no key that is trusted"
    if len(kids) != len(set(kids)):
        return "it has a key twice"
    if any(when.tzinfo is None for when in (ring.changed_at, *instants)):
        return "an instant has no time zone"
    return _excess(ring, (ring.changed_at, *instants))


def _excess(ring: KeyRing, instants: Iterable[datetime]) -> str | None:
    """Return which number is out of range, as it could overflow or retire keys at once, or None."""
    spans = [
        ring.lead,
        *(span for key in ring.keys for span in (key.token_lifetime, key.margin, key.lead)),
    ]
    if not all(FIRST_INSTANT <= when <= LAST_INSTANT for when in instants):
        return f"an instant is before {FIRST_INSTANT:%Y} or after {LAST_INSTANT:%Y}"
    if not all(timedelta(0) <= span <= LONGEST_SPAN for span in spans):
        return "a duration is negative or too long"
    if not 0 <= ring.version <= MOST_VERSIONS:
        return "its version is negative, or higher than any that was saved"
    if len(ring.keys) > MOST_KEYS:
        return f"it has {len(ring.keys)} keys, more than {MOST_KEYS}"
    return None
