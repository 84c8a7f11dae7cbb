"""`issuer clients show`, and what commands on clients share: how one is found, shown, and changed everywhere."""

import json
import time
from datetime import timedelta
from typing import Annotated

import typer

from issuer.administration.client_changes import key_set_text
from issuer.administration.client_sessions import count_sessions
from issuer.cli.output import Access, CommandError, Json, opened, show
from issuer.cli.tables import Row
from issuer.cli.terminal import status
from issuer.clients.client import FIRST_PARTY, Client
from issuer.clients.store import MEMORY
from issuer.clock import instant
from issuer.oauth import format_scope
from issuer.services import Issuer
from issuer.settings.values import parse_duration

ClientId = Annotated[str, typer.Argument(help="The client_id.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would happen, and change nothing.")]


def no_such_client(client_id: str) -> CommandError:
    """Return the error for a client_id that is not registered."""
    return CommandError(f"no such client: {client_id!r}; see: issuer clients list")


def find_client(issuer: Issuer, client_id: str) -> Client:
    """Return a registered client; raise CommandError, also for the built-in one."""
    client = issuer.clients.store.by_id(client_id)
    if client is None:
        raise no_such_client(client_id)
    if client == FIRST_PARTY:
        raise CommandError(f"{client_id} is built in; ISSUER_PASSWORD_LOGIN=off disables its log-in")
    return client


def document_of(client: Client) -> dict[str, object]:
    """Return what JSON says about a client, with the names of RFC 7591 section 2 where there is one."""
    return {
        "client_id": client.id,
        "name": client.name,
        "auth": client.auth_method.value,
        "scope": format_scope(client.scope),
        "audiences": " ".join(client.audiences),
        "jwks_uri": client.jwks_uri,
        "grant_types": sorted(client.grant_types),
        "redirect_uris": client.redirect_uris,
        "post_logout_redirect_uris": client.post_logout_redirect_uris,
        "backchannel_logout_uri": client.backchannel_logout_uri,
        "is_trusted": client.is_trusted,
        "requires_pkce": client.requires_pkce,
        "requires_par": client.requires_par,
        "id_token_claims": client.id_token_claims,
        "has_roles_claim": client.has_roles_claim,
        "old_secret_until": instant(client.old_secret_until) if client.old_secret_until else None,
        "created_at": instant(client.created_at) if client.created_at else None,
        "disabled_at": instant(client.disabled_at) if client.disabled_at else None,
    }


def row_of(client: Client) -> Row:
    """Return what tables say about a client: what operators look for, in 80 columns."""
    unusual = {
        "trusted": client.is_trusted,
        "no-pkce": not client.requires_pkce,
        "require-par": client.requires_par,
        "id-token-claims": bool(client.id_token_claims),
        "roles-claim": client.has_roles_claim,
    }
    return {
        "client_id": client.id,
        "name": client.name,
        "grants": " ".join(sorted(client.grant_types)),
        "scope": format_scope(client.scope),
        "audiences": " ".join(client.audiences),
        "jwks_uri": client.jwks_uri,
        "redirect_uris": " ".join(client.redirect_uris),
        "options": " ".join(name for name, is_set in unusual.items() if is_set),
        "old_secret_until": instant(client.old_secret_until) if client.old_secret_until else None,
        "disabled_at": instant(client.disabled_at) if client.disabled_at else None,
    }


def show_client(client: Client, *, as_json: bool, message: str) -> None:
    """Print one client, and what was done to it."""
    show(document_of(client), as_json=as_json, rows=[row_of(client)], message=f"{client.name}: {message}")


def holding_more(sessions: int, ended_by: str) -> str:
    """Return what commands say about sessions that hold more than a changed client may have."""
    return f"sessions that hold more: {sessions}; each gets less from its next refresh on, and {ended_by} ends them"


def wait_for_caches(*, as_json: bool) -> None:
    """Wait until no process uses a cached client any more, so that the change is in effect on return."""
    with status("waiting until every process has the change", as_json=as_json):
        time.sleep(MEMORY.total_seconds())


def span_of(text: str) -> timedelta:
    """Return the duration in --overlap; raise BadParameter."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(f"--overlap: {error}") from error


def show_one(client_id: ClientId, *, as_json: Json = False) -> None:
    """Show everything about one client, with its sessions and the users who consented to it."""
    with opened(Access.READ) as issuer:
        client = issuer.clients.store.by_id(client_id)
        if client is None:
            raise no_such_client(client_id)
        now = issuer.clock()
        counts = {
            "active_sessions": count_sessions(issuer.database, client.id, now),
            "users_consented": issuer.authorize.consents.count_users(client.id),
        }
        document = document_of(client)
        jwks = json.loads(client.jwks) if client.jwks else None
        show(
            {**document, "jwks": jwks, **counts},
            as_json=as_json,
            members={**_texts({**document, "jwks": key_set_text(client.jwks)}), **counts},
        )


def _texts(document: dict[str, object]) -> Row:
    """Return the members of a document as people read them."""

    def text(value: object) -> str:
        if isinstance(value, bool):
            return "yes" if value else "no"
        return " ".join(value) if isinstance(value, list | tuple) else str(value or "")

    return {name: text(value) for name, value in document.items()}
