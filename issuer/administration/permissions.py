"""What operators let users do: own scopes and roles granted and withdrawn, and attributes for claims.

Changes take effect with the next token; refresh narrows sessions that hold more: see `grants.refresh_token`.
"""

from collections.abc import Callable, Collection, Mapping

from issuer.accounts import attributes
from issuer.accounts.roles import ROLES_MOST, NoSuchRole, RoleStore
from issuer.accounts.store import AccountStore
from issuer.accounts.user import User
from issuer.administration.clients import require_short
from issuer.errors import NothingToDo, Refused
from issuer.oauth import InvalidRequest, format_scope

Change = Callable[[User], Mapping[str, object]]
"""Returns the columns to store for a user as stored."""


class NoSuchUser(InvalidRequest):
    """The account was deleted meanwhile."""

    def __init__(self, username: str) -> None:
        super().__init__(f"{username} was deleted meanwhile")


def grant_scope(accounts: AccountStore, user: User, scope: frozenset[str], *, only: bool = False) -> User:
    """Grant further own scopes, or with `only` exactly these; raise InvalidScope if they are too long together."""
    return _changed(
        accounts,
        user,
        lambda stored: {"scope": require_short(scope if only else stored.scope | scope)},
    )


def revoke_scope(accounts: AccountStore, user: User, scope: frozenset[str]) -> User:
    """Withdraw own scopes; raise NothingToDo if the user has none of them."""

    def narrowed(stored: User) -> Mapping[str, object]:
        if not stored.scope & scope:
            raise NothingToDo(f"{user.username} has none of these scopes{_by_roles(stored, scope)}")
        return {"scope": stored.scope - scope}

    return _changed(accounts, user, narrowed)


def kept_by_roles(user: User, scope: frozenset[str]) -> str:
    """Return a warning about withdrawn scopes that the user still has by roles; empty if there are none."""
    kept = format_scope(user.role_scope & scope)
    return f"{user.username} still has {kept} by a role; see: issuer roles list" if kept else ""


def _by_roles(user: User, scope: frozenset[str]) -> str:
    kept = format_scope(user.role_scope & scope)
    return f" of its own, but {kept} by a role; see: issuer users revoke-role" if kept else ""


def grant_roles(accounts: AccountStore, roles: RoleStore, user: User, names: Collection[str]) -> User:
    """Give a user roles; raise NoSuchRole, and give none, if one does not exist, or Refused for too many."""
    found = {name: roles.find(name) for name in names}
    missing = [name for name, role in found.items() if role is None]
    if missing:
        raise NoSuchRole(f"no such role: {', '.join(missing)}; see: issuer roles list")
    if len(user.roles.union(names)) > ROLES_MOST:
        raise Refused(f"a user has at most {ROLES_MOST} roles")
    require_short(user.effective_scope.union(*(role.scope for role in found.values() if role)))
    for name in sorted(names):
        roles.give(user.id, name)
    return _reread(accounts, user)


def revoke_roles(accounts: AccountStore, roles: RoleStore, user: User, names: frozenset[str]) -> User:
    """Take roles from a user; raise NothingToDo if the user has none of them."""
    if not roles.take(user.id, names):
        raise NothingToDo(f"{user.username} has none of these roles")
    return _reread(accounts, user)


def set_attributes(accounts: AccountStore, user: User, changes: Mapping[str, str]) -> User:
    """Set attributes, where an empty text removes one; raise InvalidRequest for too many."""
    return _changed(
        accounts, user, lambda stored: {"attributes": attributes.changed(stored.attributes, changes)}
    )


def _changed(accounts: AccountStore, user: User, change: Change) -> User:
    found = accounts.change(user.id, change)
    if found is None:
        raise NoSuchUser(user.username)
    return found


def _reread(accounts: AccountStore, user: User) -> User:
    found = accounts.by_id(user.id)
    if found is None:
        raise NoSuchUser(user.username)
    return found
