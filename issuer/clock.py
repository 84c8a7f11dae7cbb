"""Time: the type of a clock, the clock of the system, and how instants and durations are written.

Nothing else in this package reads the time of the system; everything takes a `Clock`, or `now`.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta


def instant(when: datetime) -> str:
    """Return `when` as people and scripts read it, in UTC, RFC 3339."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def duration(span: timedelta) -> str:
    """Return `span` in the form in which settings are written: `30d`, `24h`, `10m`, `45s`."""
    whole = int(span.total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole and whole % length == 0:
            return f"{whole // length}{unit}"
    return f"{whole}s" if span == timedelta(seconds=whole) else f"{span.total_seconds():g}s"


Clock = Callable[[], datetime]


def system_clock() -> datetime:
    """Return the present; nothing else in this package reads the clock."""
    return datetime.now(UTC)
