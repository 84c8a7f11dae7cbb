"""Devices in words, as far as their User-Agent header tells."""

from collections.abc import Mapping

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
