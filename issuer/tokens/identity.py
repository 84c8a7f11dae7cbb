"""The scopes about the user, and the claims that each releases, OpenID Connect Core sections 5.4 and 11.

Who consents to them is decided in `authorize`. The claims are returned by `userinfo`, and by `id_tokens` to clients
that are registered so.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

from issuer.accounts.user import User


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
RELEASED_CLAIMS: Final = tuple(name for name in USERINFO_CLAIMS if name != "sub")
"""The claims that a user releases by consent; every client gets `sub`."""


def scopes_of_claims(names: Iterable[str]) -> frozenset[str]:
    """Return the scopes that request these claims, without that of `sub`, which every client gets."""
    wanted = set(names) & set(RELEASED_CLAIMS)
    return frozenset(scope.value for scope, claims in SCOPE_CLAIMS.items() if wanted & set(claims))


def requested_claims(scope: frozenset[str], by_name: tuple[str, ...]) -> frozenset[str]:
    """Return the userinfo claims that `scope` and the `claims` parameter request, Core sections 5.4 and 5.5."""
    by_scope = (name for each, names in SCOPE_CLAIMS.items() if each in scope for name in names)
    return frozenset(USERINFO_CLAIMS) & {*by_scope, *by_name}


def known_claims(user: User) -> dict[str, str | bool | int]:
    """Return the claims of Core section 5.1 that are known of a user."""
    optional = {"name": user.name, "email": user.email}
    verified = {"email_verified": user.email_verified} if user.email else {}
    return {
        "sub": user.id,
        "preferred_username": user.username,
        **{name: value for name, value in optional.items() if value},
        **verified,
        "updated_at": int((user.updated_at or user.created_at).timestamp()),
    }


def released_claims(
    user: User, scope: frozenset[str], by_name: tuple[str, ...] = ()
) -> dict[str, str | bool | int]:
    """Return the known claims that `scope` and the `claims` parameter request: at least `sub`, and none is empty."""
    requested = requested_claims(scope, by_name)
    return {name: value for name, value in known_claims(user).items() if name in requested}
