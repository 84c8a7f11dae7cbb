"""What goes into a grant: the request, and what grants decide with.

What comes out is `tokens.Authorization`; grants decide and write nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from issuer.accounts.passwords import Passwords
from issuer.accounts.store import AccountStore
from issuer.clients.client import Client
from issuer.oauth import InvalidRequest
from issuer.throttling.origin import Origin
from issuer.tokens.authorization import Authorization
from issuer.tokens.family_store import FamilyStore


@dataclass(frozen=True)
class TokenRequest:
    """A token request whose client is authenticated and may use the grant."""

    client: Client
    parameters: Mapping[str, str] = field(repr=False)
    scope: frozenset[str] | None
    """None: the client leaves it to us, RFC 6749 section 3.3."""
    now: datetime
    origin: Origin = field(default_factory=Origin)
    may_succeed: bool = True
    """If not, the same work is done, and then refused: too many guesses were made."""

    def require(self, name: str) -> str:
        """Return a parameter of the grant; raise InvalidRequest when it is missing."""
        value = self.parameters.get(name)
        if not value:
            raise InvalidRequest(f"the parameter {name} is missing")
        return value


@dataclass(frozen=True)
class Means:
    """What grants decide with."""

    accounts: AccountStore
    families: FamilyStore
    passwords: Passwords
    user_audience: tuple[str, ...]
    client_audience: tuple[str, ...]
    clock_skew: timedelta
    """By how much the clocks of two nodes may differ."""


class Grant(Protocol):
    """A grant: raises OAuthError, or authorizes."""

    def __call__(self, request: TokenRequest, means: Means) -> Authorization:
        """Return what `request` is allowed at most."""
