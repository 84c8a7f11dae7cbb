"""Options that name an instant: RFC 3339, a date, or a duration before now."""

from datetime import UTC, datetime

import typer

from issuer.settings.values import parse_duration

UNITS = ("s", "m", "h", "d")


def moment(option: str, text: str | None, now: datetime) -> datetime | None:
    """Return the instant that the value of an option names, None without one; raise BadParameter.

    A date is its beginning, and times without a zone are in UTC.
    """
    if text is None:
        return None
    try:
        return now - parse_duration(text) if text[-1:] in UNITS else _instant(text)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{option} takes an instant as 2026-01-31 or 2026-01-31T12:00:00Z, or how long ago it was, as 24h or 7d"
        ) from None


def _instant(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
