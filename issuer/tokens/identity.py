"""The scopes about the user, and the claims that each releases, OpenID Connect Core sections 5.4 and 11.

Who consents to them is decided in `authorize`; the values of the claims are returned by `userinfo`.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final


class IdentityScope(StrEnum):
    """Scopes about the user: granted by the user alone."""

    OPENID = "openid"
    PROFILE = "profile"
    EMAIL = "email"
    OFFLINE_ACCESS = "offline_access"


IDENTITY_SCOPES: Final = frozenset(scope.value for scope in IdentityScope)

SCOPE_CLAIMS: Final[Mapping[IdentityScope, tuple[str, ...]]] = {
    IdentityScope.OPENID: ("sub",),
    IdentityScope.PROFILE: ("name", "preferred_username", "updated_at"),
    IdentityScope.EMAIL: ("email", "email_verified"),
    IdentityScope.OFFLINE_ACCESS: (),
}
"""The userinfo claims that each scope requests; a user may have no value for some."""

USERINFO_CLAIMS: Final = tuple(name for names in SCOPE_CLAIMS.values() for name in names)


def scopes_of_claims(names: Iterable[str]) -> frozenset[str]:
    """Return the scopes that request these claims, without that of `sub`, which every client gets."""
    wanted = set(names) - {"sub"}
    return frozenset(scope.value for scope, claims in SCOPE_CLAIMS.items() if wanted & set(claims))


def requested_claims(scope: frozenset[str], by_name: tuple[str, ...]) -> frozenset[str]:
    """Return the userinfo claims that `scope` and the `claims` parameter request, Core sections 5.4 and 5.5."""
    by_scope = (name for each, names in SCOPE_CLAIMS.items() if each in scope for name in names)
    return frozenset(USERINFO_CLAIMS) & {*by_scope, *by_name}
