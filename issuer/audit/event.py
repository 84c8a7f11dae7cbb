"""Events of accounts and clients: what happened, to whom, by whom and why.

They are stored by `events`; what happens to keys is recorded in `chain`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

UNKNOWN = "unknown"
"""The actor of a failed sign-in: whoever did not know the password."""
ISSUER = "issuer"
"""The actor of what no request asked for, such as the end of a session whose token was stolen."""
SUM_INTERVAL = timedelta(hours=1)
"""Events that people can cause at will are counted in one row for this time."""


class EventAction(StrEnum):
    """What happened to an account, a client or a resource."""

    USER_CREATED = "user created"
    USER_IMPORTED = "user imported"
    SIGNED_IN = "signed in"
    SIGN_IN_FAILED = "sign-in failed"
    PASSWORD_CHANGED = "password changed"  # noqa: S105 - a name
    RESET_LINK_MADE = "reset link made"
    PROFILE_CHANGED = "profile changed"
    SCOPE_GRANTED = "scope granted"
    SCOPE_REVOKED = "scope revoked"
    ROLE_GRANTED = "role granted"
    ROLE_REVOKED = "role revoked"
    ROLE_SET = "role set"
    ROLE_DELETED = "role deleted"
    ATTRIBUTES_SET = "attributes set"
    LIMITS_CLEARED = "limits cleared"
    USER_DISABLED = "user disabled"
    USER_ENABLED = "user enabled"
    USER_DELETED = "user deleted"
    CLIENT_CREATED = "client created"
    CLIENT_CHANGED = "client changed"
    CLIENT_DISABLED = "client disabled"
    CLIENT_ENABLED = "client enabled"
    CLIENT_DELETED = "client deleted"
    SECRET_CREATED = "secret created"  # noqa: S105 - a name
    SECRET_ROTATED = "secret rotated"  # noqa: S105 - a name
    SECRET_REMOVED = "secret removed"  # noqa: S105 - a name
    RESOURCE_ADDED = "resource added"
    RESOURCE_REMOVED = "resource removed"
    CONSENT_GIVEN = "consent given"
    CONSENT_WITHDRAWN = "consent withdrawn"
    SESSION_ENDED = "session ended"


@dataclass(frozen=True)
class Event:
    """One event. It names accounts and clients by their ids only: names are personal, and ids are never reused."""

    at: datetime
    actor: str
    """The operator or process as in the audit log of keys, `by_user`, `by_client`, `UNKNOWN` or `ISSUER`."""
    action: str
    """An `EventAction`, or any text in a row that was tampered with."""
    user_id: str | None = None
    client_id: str | None = None
    detail: str | None = None
    """What exactly, such as the scope that an account has now; never a secret or a name of a person."""
    reason: str | None = None

    @property
    def is_summed(self) -> bool:
        """Whether people can cause any number of such events: they are counted by hour instead of stored one by one.

        Those are all that operators do not cause. So the number of rows is bounded by the number of accounts, clients
        and hours, whatever an attacker with an account does.
        """
        return self.is_own or self.actor in {UNKNOWN, ISSUER}

    @property
    def is_own(self) -> bool:
        """Whether the account or the client itself is the actor."""
        users = self.user_id is not None and self.actor == by_user(self.user_id)
        return users or (self.client_id is not None and self.actor == by_client(self.client_id))


@dataclass(frozen=True)
class Recorded:
    """An event as it is stored."""

    number: int
    """The position in the log. The row of a sum gets a new one each time that it counts another event."""
    count: int
    """How many events the row stands for; `event` is the latest."""
    since: datetime
    """When the first of them was."""
    event: Event


def by_user(user_id: str) -> str:
    """Return the actor of what a user does."""
    return f"user {user_id}"


def by_client(client_id: str) -> str:
    """Return the actor of what a client does."""
    return f"client {client_id}"
