"""Time: the type of a clock, the system clock, and the text forms of instants and durations.

No other module reads the system time; they take a `Clock`, or `now`.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta


def instant(when: datetime) -> str:
    """Return `when` in RFC 3339, in UTC."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def duration(span: timedelta) -> str:
    """Return `span` in the form of settings: `30d`, `24h`, `10m`, `45s`."""
    whole = int(span.total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole and whole % length == 0:
            return f"{whole // length}{unit}"
    return f"{whole}s" if span == timedelta(seconds=whole) else f"{span.total_seconds():g}s"


Clock = Callable[[], datetime]


def system_clock() -> datetime:
    """Return the current time."""
    return datetime.now(UTC)
