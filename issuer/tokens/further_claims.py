"""Further claims of access tokens: attributes of users by name, or what a function of the operator returns.

ISSUER_CLAIMS says which. Names and values of attributes are checked by `accounts.attributes`, when they are set; what
the function returns is checked here, at each token.
"""

import importlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Protocol

import structlog

from issuer.accounts.attributes import require_claim_name
from issuer.accounts.user import User
from issuer.blocking import require_blocking_allowed
from issuer.clients.client import Client
from issuer.oauth import OAuthError, ServerError

CLAIMS_MOST_BYTES: Final = 2048
"""Of the JSON of all claims of a function: common servers accept tokens of up to 8 KiB."""
SLOW_SECONDS: Final = 1.0
REPORT_SECONDS: Final = 60.0

log = structlog.get_logger("issuer.tokens")

Claims = Mapping[str, Any]


class BadClaimsFunction(ValueError):
    """The function cannot be used; the message says why."""


@dataclass(frozen=True)
class ClaimsUser:
    """What the function gets of a user."""

    id: str
    username: str
    roles: frozenset[str]
    attributes: Mapping[str, str]


@dataclass(frozen=True)
class ClaimsClient:
    """What the function gets of a client."""

    id: str
    name: str


@dataclass(frozen=True)
class ClaimsRequest:
    """The argument of the function: for whom an access token is issued, and with which scope."""

    user: ClaimsUser | None
    """None: a client that acts for itself."""
    client: ClaimsClient
    scope: frozenset[str]


class FurtherClaims(Protocol):
    """Returns the further claims of an access token."""

    @property
    def may_block(self) -> bool:
        """Whether a call may take long."""

    def __call__(self, user: User | None, client: Client, scope: frozenset[str]) -> Claims:
        """Return claims by name, as JSON values; raise ServerError if that fails, after logging why."""


class ClaimsOfAttributes:
    """The attributes of these names, for users who have them."""

    may_block = False

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def __call__(self, user: User | None, client: Client, scope: frozenset[str]) -> Claims:  # noqa: ARG002
        """Return the attributes."""
        found = user.attributes if user else {}
        return {name: found[name] for name in self._names if name in found}


class ClaimsOfFunction:
    """What a function of the operator returns."""

    may_block = True

    def __init__(
        self,
        function: Callable[[ClaimsRequest], object],
        seconds: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._function = function
        self._seconds = seconds
        self._reported_at: float | None = None

    def __call__(self, user: User | None, client: Client, scope: frozenset[str]) -> Claims:
        """Return the checked result of the function, never on the event loop: it may take its time."""
        require_blocking_allowed()
        began = self._seconds()
        try:
            return _checked(self._function(_request(user, client, scope)))
        except (Exception, SystemExit) as error:
            log.exception("the function in ISSUER_CLAIMS failed; no token was issued", client=client.id)
            raise ServerError from error
        finally:
            self._report(began, self._seconds(), client)

    def _report(self, began: float, ended: float, client: Client) -> None:
        """Log a slow call, at most once a minute; one that never returns cannot be ended, and is not logged."""
        is_due = self._reported_at is None or ended - self._reported_at >= REPORT_SECONDS
        if ended - began > SLOW_SECONDS and is_due:
            self._reported_at = ended
            log.warning(
                "the function in ISSUER_CLAIMS is slow", client=client.id, seconds=round(ended - began, 1)
            )


def further_claims(source: tuple[str, ...]) -> FurtherClaims:
    """Return what the value of ISSUER_CLAIMS means; raise BadClaimsFunction."""
    if len(source) == 1 and ":" in source[0]:
        return ClaimsOfFunction(_imported(*source[0].split(":", 1)))
    return ClaimsOfAttributes(source)


def _imported(module: str, name: str) -> Callable[[ClaimsRequest], object]:
    try:
        found = importlib.import_module(module)
    except Exception as error:
        raise BadClaimsFunction(f"cannot import {module}: {type(error).__name__}: {error}") from error
    function = getattr(found, name, None)
    if not callable(function):
        raise BadClaimsFunction(f"the module {module} has no function {name}")
    return function  # type: ignore[no-any-return] # checked at each call


def _request(user: User | None, client: Client, scope: frozenset[str]) -> ClaimsRequest:
    of_user = (
        ClaimsUser(user.id, user.username, user.roles, MappingProxyType(dict(user.attributes)))
        if user
        else None
    )
    return ClaimsRequest(of_user, ClaimsClient(client.id, client.name), scope)


def _checked(result: object) -> Claims:
    """Return a copy of the claims as plain JSON values; raise ValueError or TypeError for any other result."""
    if not isinstance(result, Mapping):
        raise TypeError(f"it returned {type(result).__name__}, not a mapping of claims")
    for name in result:
        if not isinstance(name, str):
            raise TypeError("the name of a claim is not a string")
        try:
            require_claim_name(name)
        except OAuthError as error:
            raise ValueError(error.description) from None
    text = json.dumps(dict(result), allow_nan=False)
    if len(text) > CLAIMS_MOST_BYTES:
        raise ValueError(f"its claims have {len(text)} bytes, more than {CLAIMS_MOST_BYTES}")
    copy: Claims = json.loads(text)
    return copy
