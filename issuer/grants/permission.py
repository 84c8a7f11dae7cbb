"""What goes into a grant and what comes out of it.

The pipeline performs what a grant permits; grants decide and write nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from issuer.clients import Client
from issuer.oauth import InvalidRequest
from issuer.passwords import Passwords
from issuer.store.accounts import AccountStore
from issuer.store.families import FamilyStore
from issuer.tokens import Family, RefreshToken


@dataclass(frozen=True)
class Origin:
    """Where a request came from: a label for a person who looks at the list of sessions."""

    user_agent: str = ""
    address: str = ""


@dataclass(frozen=True)
class TokenRequest:
    """A token request whose client is authenticated and may use the grant."""

    client: Client
    parameters: Mapping[str, str] = field(repr=False)
    scope: frozenset[str] | None
    """None: the client leaves it to us, RFC 6749 section 3.3."""
    now: datetime

    def require(self, name: str) -> str:
        """Return a parameter of the grant; raise InvalidRequest when it is missing."""
        value = self.parameters.get(name)
        if not value:
            raise InvalidRequest(f"the parameter {name} is missing")
        return value


@dataclass(frozen=True)
class NewSession:
    """Start a family of refresh tokens."""


@dataclass(frozen=True)
class Renewal:
    """Use up `token` and hand out its successor; the same one again for a repeat."""

    presented: str = field(repr=False)
    token: RefreshToken
    family: Family
    repeat: bool


@dataclass(frozen=True)
class Permission:
    """What a grant permits at most; the pipeline narrows it to what was asked for."""

    subject: str
    scope: frozenset[str]
    audience: tuple[str, ...]
    """The `aud` of a request that names no resource, and the resources it may name."""
    username: str | None = None
    session: NewSession | Renewal | None = None


@dataclass(frozen=True)
class Means:
    """What grants decide with."""

    accounts: AccountStore
    families: FamilyStore
    passwords: Passwords
    user_audience: tuple[str, ...]
    client_audience: tuple[str, ...]


class Grant(Protocol):
    """A grant: raises OAuthError, or permits."""

    def __call__(self, request: TokenRequest, means: Means) -> Permission:
        """Return what `request` is permitted."""
