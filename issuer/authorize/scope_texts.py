"""Scopes in words, for the pages on which users allow them.

Which scopes exist is decided by the clients and users that operators register.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from issuer.tokens.identity import IdentityScope


@dataclass(frozen=True)
class ScopeText:
    """A scope as users read it."""

    scope: str
    text: str | None
    """What it allows, as a sentence without a full stop; None: only its name is known."""


_TEXTS: Mapping[str, str] = {
    IdentityScope.OPENID: "Recognize you when you sign in",
    IdentityScope.PROFILE: "See your username and your name",
    IdentityScope.EMAIL: "See your email address",
    IdentityScope.OFFLINE_ACCESS: "Stay connected after you sign out, until you disconnect it on your account page",
}
"""In the order in which they are shown; those of services are shown before the last one."""
_NAMES = list(_TEXTS)


def in_words(scope: Iterable[str]) -> list[ScopeText]:
    """Return the scopes in the order in which they are shown: identity, those of services by name, offline access."""
    return [ScopeText(each, _TEXTS.get(each)) for each in sorted(scope, key=_place)]


def _place(scope: str) -> tuple[int, str]:
    if scope == IdentityScope.OFFLINE_ACCESS:
        return len(_NAMES) + 1, scope
    return _NAMES.index(scope) if scope in _TEXTS else len(_NAMES), scope
