"""A browser session: who is signed in, since when, and how the user was authenticated.

Sessions are stored by `store`.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Acr(StrEnum):
    """The authentication context classes of this issuer, OpenID Connect Core section 2."""

    PASSWORD = "1"  # noqa: S105 - a level


class Amr(StrEnum):
    """Authentication methods, RFC 8176 section 2."""

    PASSWORD = "pwd"  # noqa: S105 - the name of a method


@dataclass(frozen=True)
class BrowserSession:
    """A user who is signed in at the issuer with one browser."""

    id: str
    user_id: str
    auth_time: datetime
    """When the user was authenticated last."""
    chosen_at: datetime
    """When the user last chose to go on with this account."""
    acr: str
    amr: tuple[str, ...]
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    """The absolute end; it also ends when it is not used for a while, unless it `is_remembered`."""
    is_remembered: bool = False
    """Whether the user chose to stay signed in on this device."""
    ended_at: datetime | None = None
    user_agent: str = ""
    address: str = ""


@dataclass(frozen=True)
class SignIn:
    """What tokens keep of a browser session: how the user was authenticated, and with what they end."""

    browser_session: str | None
    """The session that refresh tokens end with; None: they outlive it (`offline_access`)."""
    sid: str
    auth_time: datetime
    acr: str
    amr: tuple[str, ...]
    expires_at: datetime | None = None
    """The latest end of refresh tokens that end with the session."""
    userinfo_claims: tuple[str, ...] = ()
    """Claims that were requested from the userinfo endpoint by name, OpenID Connect Core section 5.5."""
