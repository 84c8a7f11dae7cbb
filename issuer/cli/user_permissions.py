"""`issuer users grant`, `revoke-scope`, `revoke-role` and `set`: scopes, roles and attributes of a user."""

from typing import Annotated

import typer

from issuer.accounts.attributes import parse_attributes
from issuer.accounts.roles import require_role_name
from issuer.administration.clients import require_scope
from issuer.administration.permissions import (
    grant_roles,
    grant_scope,
    kept_by_roles,
    revoke_roles,
    revoke_scope,
    set_attributes,
)
from issuer.audit.event import EventAction
from issuer.cli.output import Access, Json, misuse, opened, warn
from issuer.cli.user_view import Roles, Username, find_user, show_user

TakenScope = Annotated[str, typer.Option(help="The scopes to withdraw, separated by spaces.")]


def grant(
    username: Username,
    *,
    scope: Annotated[str | None, typer.Option(help="The scopes to grant, separated by spaces.")] = None,
    only: Annotated[bool, typer.Option("--only", help="Remove every other scope.")] = False,
    role: Roles = None,
    as_json: Json = False,
) -> None:
    """Grant a user more scopes, or with --only exactly these, or roles; tokens already issued keep theirs until they
    expire.
    """  # noqa: D205 - one sentence
    names = _roles(role)
    with misuse():
        wanted = require_scope(scope or "")
    if scope is None and not names:
        raise typer.BadParameter("give --scope or --role")
    if not wanted and scope is not None and not only:
        raise typer.BadParameter("--scope is empty; to remove every scope, add --only")
    if only and scope is None:
        raise typer.BadParameter("--only needs --scope")
    with opened(Access.CHANGE) as issuer:
        user, accounts = find_user(issuer, username), issuer.accounts
        if names:
            event = issuer.event(EventAction.ROLE_GRANTED, user_id=user.id)
            user = grant_roles(accounts.store, accounts.roles, user, names, event)
        if scope is not None:
            event = issuer.event(EventAction.SCOPE_GRANTED, user_id=user.id)
            user = grant_scope(accounts.store, user, wanted, event, only=only)
        show_user(user, as_json=as_json, message="granted")


def withdraw_scope(username: Username, *, scope: TakenScope, as_json: Json = False) -> None:
    """Withdraw scopes of a user; sessions are narrowed at the next refresh."""
    with misuse():
        unwanted = require_scope(scope)
    if not unwanted:
        raise typer.BadParameter("--scope is empty")
    with opened(Access.CHANGE) as issuer:
        user = find_user(issuer, username)
        event = issuer.event(EventAction.SCOPE_REVOKED, user_id=user.id)
        user = revoke_scope(issuer.accounts.store, user, unwanted, event)
        if kept := kept_by_roles(user, unwanted):
            warn(kept)
        show_user(user, as_json=as_json, message="withdrawn")


def withdraw_role(username: Username, *, role: Roles = None, as_json: Json = False) -> None:
    """Take roles from a user; sessions are narrowed at the next refresh."""
    names = _roles(role)
    if not names:
        raise typer.BadParameter("give --role")
    with opened(Access.CHANGE) as issuer:
        user, accounts = find_user(issuer, username), issuer.accounts
        event = issuer.event(EventAction.ROLE_REVOKED, user_id=user.id)
        user = revoke_roles(accounts.store, accounts.roles, user, names, event)
        show_user(user, as_json=as_json, message="withdrawn")


def set_values(
    username: Username,
    attributes: Annotated[
        list[str], typer.Argument(metavar="NAME=VALUE", help="Attributes; an empty value removes one.")
    ],
    *,
    as_json: Json = False,
) -> None:
    """Set attributes of a user, which access tokens may have as claims: see ISSUER_CLAIMS."""
    with misuse():
        changes = parse_attributes(attributes)
    with opened(Access.CHANGE) as issuer:
        user = find_user(issuer, username)
        event = issuer.event(EventAction.ATTRIBUTES_SET, user_id=user.id)
        user = set_attributes(issuer.accounts.store, user, changes, event)
        text = " ".join(f"{name}={value}" for name, value in sorted(user.attributes.items()))
        show_user(user, as_json=as_json, message=text or "no attributes")


def _roles(names: list[str] | None) -> frozenset[str]:
    with misuse():
        return frozenset(map(require_role_name, names or ()))
