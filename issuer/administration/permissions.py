"""What operators let users do: own scopes and roles granted and withdrawn, and attributes for claims.

Changes take effect with the next token; refresh narrows sessions that hold more: see `grants.refresh_token`. Each is
recorded with what it changed: callers give an event without that.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial

from issuer.accounts import attributes
from issuer.accounts.roles import ROLES_MOST, NoSuchRole, Role, RoleStore
from issuer.accounts.store import AccountStore
from issuer.accounts.user import User
from issuer.administration.clients import SCOPE_MOST_CHARACTERS, require_short
from issuer.administration.users import NoSuchUser, change_user
from issuer.audit.event import Event, EventAction
from issuer.database.database import Database
from issuer.database.engines import lift_time_limits
from issuer.errors import NothingToDo, Refused
from issuer.oauth import format_scope

Recording = Callable[[User, User], Event]
"""Returns the event of a change of a user, before and after."""
NAMED_MOST = 5
"""Users that an error names."""


def grant_scope(
    accounts: AccountStore,
    user: User,
    scope: frozenset[str],
    event: Event | None = None,
    *,
    only: bool = False,
) -> User:
    """Grant further own scopes, or with `only` exactly these.

    Raise InvalidScope if they are too long, together with those of the roles of the user.
    """

    def granted(stored: User) -> Mapping[str, object]:
        wanted = scope if only else stored.scope | scope
        if wanted - stored.scope:
            require_short(wanted | stored.role_scope)
        return {"scope": wanted}

    return change_user(
        accounts,
        user,
        granted,
        _scope_event(event),
    )


def revoke_scope(
    accounts: AccountStore, user: User, scope: frozenset[str], event: Event | None = None
) -> User:
    """Withdraw own scopes; raise NothingToDo if the user has none of them."""

    def narrowed(stored: User) -> Mapping[str, object]:
        if not stored.scope & scope:
            raise NothingToDo(f"{user.username} has none of these scopes{_by_roles(stored, scope)}")
        return {"scope": stored.scope - scope}

    return change_user(accounts, user, narrowed, _scope_event(event))


def _scope_event(event: Event | None) -> Recording | None:
    def recorded(event: Event, before: User, after: User) -> Event:
        action = EventAction.SCOPE_GRANTED if after.scope >= before.scope else EventAction.SCOPE_REVOKED
        return replace(event, action=action, detail=f"now: {format_scope(after.scope)}")

    return partial(recorded, event) if event else None


def kept_by_roles(user: User, scope: frozenset[str]) -> str:
    """Return a warning about withdrawn scopes that the user still has by roles; empty if there are none."""
    kept = format_scope(user.role_scope & scope)
    return f"{user.username} still has {kept} by a role; see: issuer roles list" if kept else ""


def _by_roles(user: User, scope: frozenset[str]) -> str:
    kept = format_scope(user.role_scope & scope)
    return f" of its own, but {kept} by a role; see: issuer users revoke-role" if kept else ""


def set_role(database: Database, accounts: AccountStore, roles: RoleStore, role: Role, event: Event) -> bool:
    """Store a role, in place of one of the same name; return whether it is new.

    Raise Refused, and store nothing, if the scope of a user who has it would become too long.
    """
    with database.together(), database.write() as connection:
        lift_time_limits(connection)  # a million users may have it
        before = roles.find(role.name)
        is_new = roles.set(role, event)
        if before and role.scope - before.scope:
            _require_short_scopes(accounts.with_role(role.name, SCOPE_MOST_CHARACTERS))
    return is_new


def _require_short_scopes(holders: Iterable[User]) -> None:
    names = [
        user.username for user in holders if len(format_scope(user.effective_scope)) > SCOPE_MOST_CHARACTERS
    ]
    if names:
        shown = ", ".join(names[:NAMED_MOST]) + ", …" * (len(names) > NAMED_MOST)
        raise Refused(
            f"{len(names)} of the users who have this role would have a scope of more than {SCOPE_MOST_CHARACTERS}"
            f" characters: {shown}; see: issuer users show {names[0]}"
        )


def grant_roles(
    accounts: AccountStore, roles: RoleStore, user: User, names: Collection[str], event: Event | None = None
) -> User:
    """Give a user roles; raise NoSuchRole, and give none, if one does not exist, or Refused for too many."""
    found = {name: roles.find(name) for name in names}
    missing = [name for name, role in found.items() if role is None]
    if missing:
        raise NoSuchRole(f"no such role: {', '.join(missing)}; see: issuer roles list")
    if len(user.roles.union(names)) > ROLES_MOST:
        raise Refused(f"a user has at most {ROLES_MOST} roles")
    require_short(user.effective_scope.union(*(role.scope for role in found.values() if role)))
    for name in sorted(names):
        roles.give(user.id, name, *([replace(event, detail=name)] if event else []))
    return _reread(accounts, user)


def revoke_roles(
    accounts: AccountStore, roles: RoleStore, user: User, names: frozenset[str], event: Event | None = None
) -> User:
    """Take roles from a user; raise NothingToDo if the user has none of them."""
    if not roles.take(user.id, names, event):
        raise NothingToDo(f"{user.username} has none of these roles")
    return _reread(accounts, user)


def set_attributes(
    accounts: AccountStore, user: User, changes: Mapping[str, str], event: Event | None = None
) -> User:
    """Set attributes, where an empty text removes one; raise InvalidRequest for too many.

    The event names them without their values, which are personal.
    """
    recorded = replace(event, detail=" ".join(sorted(changes))) if event else None
    return change_user(
        accounts,
        user,
        lambda stored: {"attributes": attributes.changed(stored.attributes, changes)},
        (lambda _before, _after: recorded) if recorded else None,
    )


def _reread(accounts: AccountStore, user: User) -> User:
    found = accounts.by_id(user.id)
    if found is None:
        raise NoSuchUser(user.username)
    return found
