"""`issuer users delete`: deletes an account with everything personal, after a question."""

import sys
from typing import Annotated

import typer

from issuer.accounts.freed_names import NAME_RESERVED
from issuer.accounts.user import User, canonical_username
from issuer.administration.account_deletion import count_personal, delete_account
from issuer.cli.output import Access, CommandError, Json, opened, show
from issuer.cli.user_view import Username, find_user
from issuer.clock import instant

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


def delete(
    username: Username,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be deleted.")] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Delete an account with all that is stored of the user; it cannot be undone.

    The id stays taken for ever, and the name for 30 days, so that nobody can use it to impersonate the user. Access
    tokens already issued stay valid until they expire; the audit log names the id.
    """
    with opened(Access.READ if dry_run else Access.CHANGE) as issuer:
        user, now = find_user(issuer, username), issuer.clock()
        counts = count_personal(issuer.database, user, now)
        if not dry_run:
            if not yes:
                _confirm(user)
            if not delete_account(issuer.database, user.id, None, issuer.clock(), issuer.actor):
                raise CommandError(f"{user.username} was deleted meanwhile")
        free_from = instant(now + NAME_RESERVED)
        document = {
            "id": user.id,
            "username": user.username,
            "deleted": not dry_run,
            "rows": counts,
            "name_free_from": free_from,
        }
        show(document, as_json=as_json, message="\n".join(_lines(user, counts, free_from, dry_run=dry_run)))


def _lines(user: User, counts: dict[str, int], free_from: str, *, dry_run: bool) -> list[str]:
    done = "would be deleted" if dry_run else "deleted"
    with_it = ", ".join(f"{name}: {number}" for name, number in counts.items() if number)
    return [
        f"{user.username}: {done}" + (f", with {with_it}" if with_it else ""),
        f"the id {user.id} stays taken; the name can be taken from {free_from} on",
    ]


def _confirm(user: User) -> None:
    if not sys.stdin.isatty():
        raise CommandError("deleting asks for confirmation; give --yes in scripts")
    typed = typer.prompt(f"Type {user.username} to delete the account", err=True)
    if canonical_username(typed) != canonical_username(user.username):
        raise CommandError("that is another name; nothing was deleted")
