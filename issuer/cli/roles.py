"""`issuer roles`: named sets of scopes; who has them is set by `issuer users grant --role`."""

import sys
from typing import Annotated

import typer

from issuer.accounts.roles import Role, require_role_name, require_role_scope
from issuer.administration import permissions
from issuer.administration.clients import require_scope
from issuer.audit.event import EventAction
from issuer.cli.output import Access, CommandError, Json, misuse, opened, show
from issuer.cli.tables import Row
from issuer.clock import instant
from issuer.oauth import format_scope

app = typer.Typer(help="Manage roles: named sets of scopes for users.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The name of the role.")]


@app.command("set")
def set_role(
    name: Name,
    scope: Annotated[str, typer.Argument(help="Its scopes, separated by spaces.")],
    *,
    as_json: Json = False,
) -> None:
    """Create a role, or replace its scopes; users who have it get them with the next token.

    Refused if the scope of such a user would become too long.
    """
    with misuse():
        name, wanted = require_role_name(name), require_role_scope(require_scope(scope))
    with opened() as issuer:
        roles = issuer.accounts.roles
        event = issuer.event(EventAction.ROLE_SET, detail=f"{name}, now: {format_scope(wanted)}")
        changed = Role(name, wanted, issuer.clock())
        is_new = permissions.set_role(issuer.database, issuer.accounts.store, roles, changed, event)
        role = roles.find(name)
        if role is None:
            raise CommandError(f"the role {name} was deleted meanwhile")
        row = _row(role, roles.count_users(name))
        show(row, as_json=as_json, rows=[row], message=f"{name}: {'created' if is_new else 'changed'}")


@app.command("list")
def list_roles(*, as_json: Json = False) -> None:
    """List all roles, with how many users have each."""
    with opened(Access.READ) as issuer:
        found, damaged = issuer.accounts.roles.all()
        rows = [_row(role, issuer.accounts.roles.count_users(role.name)) for role in found]
        none = "" if rows or damaged else "no roles yet"
        show({"roles": rows}, as_json=as_json, rows=rows, message=none, damaged=damaged)


@app.command("delete")
def delete_role(
    name: Name,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: Json = False,
) -> None:
    """Delete a role, and take it from all users; their sessions are narrowed at the next refresh."""
    with misuse():
        require_role_name(name)
    with opened(Access.CHANGE) as issuer:
        roles = issuer.accounts.roles
        if roles.find(name) is None:
            raise CommandError(f"no such role: {name!r}; see: issuer roles list")
        users = roles.count_users(name)
        if not yes:
            _confirm(name, users)
        if not roles.delete(name, issuer.event(EventAction.ROLE_DELETED, detail=name)):
            raise CommandError(f"the role {name} was deleted meanwhile")
        text = f"{name}: deleted; {users} user{'s' * (users != 1)} had it"
        show({"role": name, "users": users}, as_json=as_json, message=text)


def _confirm(name: str, users: int) -> None:
    if not sys.stdin.isatty():
        raise CommandError("deleting asks for confirmation; give --yes in scripts")
    typed = typer.prompt(f"{users} users have this role. Type {name} to delete it", err=True)
    if typed != name:
        raise CommandError("that is another name; nothing was deleted")


def _row(role: Role, users: int) -> Row:
    return {
        "role": role.name,
        "scope": format_scope(role.scope),
        "users": users,
        "created_at": instant(role.created_at),
    }
