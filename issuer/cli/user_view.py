"""Users as commands show them, and how a command finds one by name."""

from typing import Annotated

import typer

from issuer.accounts.user import User
from issuer.cli.output import CommandError, show
from issuer.cli.tables import Row
from issuer.clock import instant
from issuer.oauth import format_scope
from issuer.services import Issuer

HIDDEN = (
    "id",
    "name",
    "email",
    "email_verified",
    "invited_at",
    "updated_at",
    "effective_scope",
    "attributes",
    "signed_in_at",
)
"""Columns of JSON that tables do not have."""
Username = Annotated[str, typer.Argument(help="The username.")]
Roles = Annotated[
    list[str] | None, typer.Option("--role", metavar="NAME", help="The name of a role; repeatable.")
]


def find_user(issuer: Issuer, username: str) -> User:
    """Return the user of that name; raise CommandError."""
    user = issuer.accounts.store.by_username(username)
    if user is None:
        raise CommandError(f"no such user: {username!r}; see: issuer users list")
    return user


def user_row(user: User) -> Row:
    """Return what tables and JSON say about a user."""
    return {
        "id": user.id,
        "username": user.username,
        "name": user.name,
        "email": user.email,
        "email_verified": user.email_verified,
        "scope": format_scope(user.scope),
        "roles": format_scope(user.roles),
        "effective_scope": format_scope(user.effective_scope),
        "attributes": " ".join(f"{name}={value}" for name, value in sorted(user.attributes.items())),
        "invited_at": instant(user.invited_at) if user.invited_at else None,
        "updated_at": instant(user.updated_at) if user.updated_at else None,
        "created_at": instant(user.created_at),
        "signed_in_at": instant(user.signed_in_at) if user.signed_in_at else None,
        "disabled_at": instant(user.disabled_at) if user.disabled_at else None,
    }


def user_document(user: User) -> dict[str, object]:
    """Return what JSON says about a user."""
    return {**user_row(user), "roles": sorted(user.roles), "attributes": dict(user.attributes)}


def show_user(user: User, *, as_json: bool, message: str) -> None:
    """Print a user after a change."""
    text = f"{user.username}: {message}"
    show(user_document(user), as_json=as_json, rows=[user_row(user)], hidden=HIDDEN, message=text)
