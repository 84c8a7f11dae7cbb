"""Instants, devices and destinations in words, for pages."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from issuer.authorize.consent import Destination, Place

_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
LABEL_MOST_CHARACTERS = 40

_BROWSERS: Mapping[str, str] = {
    "Edg": "Edge",
    "OPR/": "Opera",
    "SamsungBrowser/": "Samsung Internet",
    "Firefox/": "Firefox",
    "FxiOS/": "Firefox",
    "Chrome/": "Chrome",
    "Chromium/": "Chromium",
    "CriOS/": "Chrome",
    "Safari/": "Safari",
}
"""Parts of User-Agent headers; several are in the header of one browser, the first of them counts."""
_SYSTEMS: Mapping[str, str] = {
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Android": "Android",
    "Windows": "Windows",
    "Macintosh": "macOS",
    "CrOS": "ChromeOS",
    "Linux": "Linux",
}


def date_of(at: datetime) -> str:
    """Return the day of an instant, in UTC."""
    return f"{at.day} {at:%B %Y}"


def time_since(at: datetime, now: datetime) -> str:
    """Return how long ago an instant was, in whole hours or days: exact times would tell when an app refreshes."""
    age = now - at
    if age < _HOUR:
        return "less than an hour ago"
    number, unit = (age // _HOUR, "hour") if age < 2 * _DAY else (age // _DAY, "day")
    return f"{number} {unit}{'' if number == 1 else 's'} ago"


def words_for(to: Destination) -> str:
    """Return where the browser goes on to, as a noun."""
    match to.place:
        case Place.LOOPBACK:
            return "a program on this computer"
        case Place.PRIVATE_SCHEME:
            return f"an app on this device that opens {to.name}: addresses"
        case Place.SITE:
            return to.name


def device_of(user_agent: str) -> str:
    """Return a browser and its system as far as its User-Agent header tells; for programs, their name there."""
    browser = _first(_BROWSERS, user_agent)
    system = _first(_SYSTEMS, user_agent)
    if browser and system:
        return f"{browser} on {system}"
    return (
        browser
        or user_agent.partition(" ")[0].partition("/")[0][:LABEL_MOST_CHARACTERS]
        or "An unknown device"
    )


def _first(names: Mapping[str, str], user_agent: str) -> str | None:
    return next((name for part, name in names.items() if part in user_agent), None)
