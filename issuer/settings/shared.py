"""The settings that must be the same at every node of an installation, as nodes send them with their heartbeats.

Comparing them is left to `checks`. Secrets are not among them: of the mail server only whether there is one, as every
page offers mail or none does; nodes may use different servers.
"""

from datetime import timedelta
from urllib.parse import urlsplit

from issuer.clock import duration
from issuer.settings.settings import Settings

_NAMES = (
    "url",
    "audience",
    "algorithm",
    "access_token_lifetime",
    "refresh_token_lifetime",
    "rotation_period",
    "publish_lead",
    "jwks_max_age",
    "standby_keys",
    "outage_limit",
    "node_timeout",
    "clock_skew",
    "registration",
    "password_login",
    "browser_session_lifetime",
    "browser_session_idle",
    "browser_session_remembered",
    "refresh_grace",
    "event_retention",
    "claims",
    "username_claim",
    "public_scopes",
)


MAIL = "ISSUER_SMTP_URL"
SET, NOT_SET = "set", "not set"
"""The values of `MAIL`."""


def shared_settings(settings: Settings) -> dict[str, str]:
    """Return the value of each shared setting, as it would be written in `.env`."""
    return {
        **{f"ISSUER_{name.upper()}": _written(getattr(settings, name)) for name in _NAMES},
        MAIL: SET if settings.mail_server else NOT_SET,
        "ISSUER_MAIL_FROM": settings.sender(urlsplit(settings.url).hostname or "localhost"),
    }


def _written(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(value)
    return duration(value) if isinstance(value, timedelta) else str(value)
