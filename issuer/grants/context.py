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
from issuer.oauth import InvalidGrant, InvalidRequest, LoginFailed
from issuer.tokens.family_store import FamilyStore
from issuer.tokens.refresh import Authorization, Family


@dataclass(frozen=True)
class Origin:
    """Where a request came from: a label for who looks at a list of sessions, and what limits count by."""

    user_agent: str = ""
    address: str = ""
    device: str = field(default="", repr=False)
    """The random name that a browser was given and brings back; empty: it brought none."""
    given_device: str = field(default="", repr=False)
    """The name that it is given with the answer to this request, if it brought none."""


@dataclass(frozen=True)
class Form:
    """The parameters of a request, with the Authorization header that may go with them."""

    parameters: Mapping[str, str] = field(repr=False)
    resources: tuple[str, ...] = ()
    """The values of the one parameter that may be repeated, RFC 8707."""
    authorization: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class TokenRequest:
    """A token request whose client is authenticated and may use the grant."""

    client: Client
    parameters: Mapping[str, str] = field(repr=False)
    scope: frozenset[str] | None
    """None: the client leaves it to us, RFC 6749 section 3.3."""
    now: datetime
    origin: Origin = Origin()
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


class UnknownToken(InvalidGrant):
    """The refresh token never was, or not this client's: perhaps a guess."""


class Replayed(InvalidGrant):
    """A used refresh token was presented again, after its grace or from another site: its session ends."""

    def __init__(self, description: str, family: Family, *, elsewhere: bool = False) -> None:
        super().__init__(description)
        self.family = family
        self.elsewhere = elsewhere
        """Whether it came within its grace, from another site."""


class RepeatRefused(InvalidGrant):
    """A used refresh token came within its grace, but has yielded its successor a second time already."""

    def __init__(self) -> None:
        super().__init__("the refresh token was used, and its successor given twice; use the successor")


class AccountChanged(LoginFailed):
    """The account is not as it was when its password was verified; the pipeline asks the grant once more."""


class Grant(Protocol):
    """A grant: raises OAuthError, or authorizes."""

    def __call__(self, request: TokenRequest, means: Means) -> Authorization:
        """Return what `request` is allowed at most."""
