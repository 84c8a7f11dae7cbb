"""`issuer clients delete`: deletes a client after a confirmation.

What belongs to a client is deleted by `administration.client_deletion`.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from issuer.administration.client_deletion import (
    Removed,
    disable_for_deletion,
    remove_client,
    remove_in_batches,
    remove_leftovers,
)
from issuer.administration.client_sessions import count_sessions
from issuer.audit.event import EventAction
from issuer.cli.client_view import ClientId, DryRun, find_client, no_such_client, wait_for_caches
from issuer.cli.output import Access, CommandError, Json, opened, show
from issuer.cli.terminal import status
from issuer.clients.client import Client
from issuer.clock import instant
from issuer.services import Issuer

CONFIRMED_BY = 6

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


def delete(client_id: ClientId, *, yes: Yes = False, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Delete a client, end its sessions, and forget what users allowed it; its client_id is never used again.

    Access tokens already issued stay valid until they expire. If it is interrupted, the client is disabled: run it
    again.
    """
    with opened(Access.READ if dry_run else Access.CHANGE) as issuer:
        client = find_client(issuer, client_id)
        if not yes and not dry_run:
            confirm(
                f"Type the first {CONFIRMED_BY} characters of the client_id to delete {client.name}",
                client.id,
            )
        removed = _counted(issuer, client) if dry_run else _delete(issuer, client, as_json=as_json)
        until = instant(issuer.clock() + issuer.policy.token_lifetime)
        done = "would be deleted" if dry_run else "deleted"
        counts = f"sessions ended: {removed.sessions}, users whose consent is deleted: {removed.users}"
        lines = [
            f"{client.name}: {done}; {counts}",
            f"access tokens already issued stay valid until {until}",
        ]
        show(
            {
                "client_id": client.id,
                "name": client.name,
                "deleted": not dry_run,
                "sessions_ended": removed.sessions,
                "users_consented": removed.users,
                "access_tokens_until": until,
            },
            as_json=as_json,
            message="\n".join(lines),
        )


def _counted(issuer: Issuer, client: Client) -> Removed:
    """Return what a deletion would remove. A deletion does not count before: that takes about as long."""
    sessions = count_sessions(issuer.database, client.id, issuer.clock())
    return Removed(sessions, issuer.authorize.consents.count_users(client.id))


def _delete(issuer: Issuer, client: Client, *, as_json: bool) -> Removed:
    disabled = issuer.event(EventAction.CLIENT_DISABLED, client_id=client.id, detail="to be deleted")
    with _registered(client):
        disable_for_deletion(issuer.database, client.id, disabled)
    wait_for_caches(as_json=as_json)
    with status("ending the sessions", as_json=as_json) as show_status:
        removed = remove_in_batches(
            issuer.database,
            client.id,
            issuer.clock(),
            lambda what, done, total: show_status(f"{what}: {done} of {total}"),
        )
        event = issuer.event(EventAction.CLIENT_DELETED, client_id=client.id)
        with _registered(client):
            removed = remove_client(issuer.database, client.id, issuer.clock(), event, removed)
        remove_leftovers(issuer.database, client.id, issuer.clock())
    return removed


@contextmanager
def _registered(client: Client) -> Iterator[None]:
    """Raise CommandError if another command has deleted the client meanwhile."""
    try:
        yield
    except LookupError:
        raise no_such_client(client.id) from None


def confirm(question: str, expected: str) -> None:
    """Ask for the beginning of a text that the operator must have read; raise CommandError for another answer."""
    if not sys.stdin.isatty():
        raise CommandError("deleting asks for confirmation; give --yes in scripts")
    if typer.prompt(question, err=True) != expected[:CONFIRMED_BY]:
        raise CommandError("that is something else; nothing was changed")
