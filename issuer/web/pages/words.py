"""Instants and destinations in words, for pages. Devices are in `throttling.user_agents`."""

from datetime import datetime, timedelta

from issuer.authorize.consent import Destination, Place

_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)


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
