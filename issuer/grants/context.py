"""The interface of a grant: the request, and the services that it decides with.

The pipeline does what all grants have in common. What a grant allows is a `tokens.authorization.Authorization`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from typing import Protocol

from issuer.accounts.login import PasswordLogin
from issuer.authorize.redeeming import CodeRedemption
from issuer.clients.client import Client
from issuer.clients.resources import Resources
from issuer.grants.response import UnsignedTokenResponse
from issuer.keyring.key import Key
from issuer.oauth import GrantType, InvalidRequest
from issuer.throttling.origin import Origin
from issuer.tokens.authorization import Authorization
from issuer.tokens.entitlements import Entitlements
from issuer.tokens.family_queries import Found
from issuer.tokens.family_store import FamilyStore
from issuer.tokens.refresh import Grace


@dataclass(frozen=True)
class TokenRequest:
    """A token request whose client is authenticated and may use the grant."""

    client: Client
    parameters: Mapping[str, str] = field(repr=False)
    scope: frozenset[str] | None
    """None: not given, RFC 6749 section 3.3."""
    now: datetime
    origin: Origin = field(default_factory=Origin)
    resources: tuple[str, ...] = ()
    """The values of the parameter `resource`, RFC 8707."""
    found: Found | None = field(default=None, repr=False)
    """The presented refresh token, if it was looked up already: its rotation is then stored by the caller."""

    def require(self, name: str) -> str:
        """Return a parameter of the grant; raise InvalidRequest when it is missing."""
        value = self.parameters.get(name)
        if not value:
            raise InvalidRequest(f"the parameter {name} is missing")
        return value


@dataclass(frozen=True)
class GrantContext:
    """The services and settings that grants decide with."""

    login: PasswordLogin
    families: FamilyStore
    codes: CodeRedemption
    signing_key: Callable[[datetime], Key]
    """Return the key that signs now; raise Unavailable on a node that cannot sign."""
    resources: Resources
    entitlements: Entitlements
    """What clients may still have of what their sessions and codes hold."""
    user_audience: tuple[str, ...]
    client_audience: tuple[str, ...]
    grace: Grace
    """How long a used refresh token may be repeated."""


NO_AUDIENCE = "the client may have tokens for no audience of this sign-in any more; sign in again"


Issue = Callable[[], UnsignedTokenResponse]
"""Starts or renews the session of what was prepared, and returns the response without its signature."""


class Prepare(Protocol):
    """What narrows an authorization to the request, chooses the key and makes the claims, and stores nothing."""

    def __call__(self, authorization: Authorization, key: Key | None = None) -> Issue:
        """Return what issues the tokens; `key` is given if it had to be chosen before.

        It may wait for a function of the operator, so it must not be called within a transaction.
        """


class Workload(Enum):
    """What takes most of the time of a grant; the endpoint chooses the threads for it."""

    SIGNING = auto()
    HASHING = auto()
    """A password is hashed, so the request has a `username` and waits in the queue of the hashing pool."""
    ROTATION = auto()
    """A `refresh_token` is rotated, together with others in one transaction."""


def _nothing(_request: TokenRequest, _context: GrantContext) -> None:
    pass


@dataclass(frozen=True)
class Grant:
    """One grant of the token endpoint."""

    type: GrantType
    execute: Callable[[TokenRequest, GrantContext, Prepare], UnsignedTokenResponse]
    """Prepare and issue tokens for the most that the request is allowed; raise OAuthError to refuse it."""
    check: Callable[[TokenRequest, GrantContext], None] = _nothing
    """Refuse what can be refused without the expensive part of `execute`; change nothing."""
    parameters: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """The form parameters of this grant, each with its JSON schema, for OpenAPI."""
    workload: Workload = Workload.SIGNING
    is_first_party: bool = False
    """Whether only the built-in client may use it, which has no credentials."""
