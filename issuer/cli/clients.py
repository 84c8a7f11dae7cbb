"""`issuer clients`: creates, lists, disables and enables OAuth clients, and rotates their secrets.

The options of `add` are in `client_options`.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from issuer.administration.clients import (
    ClientOptions,
    new_client,
    renew_secret,
    require_audiences,
    require_client_name,
    require_scope,
    restore_secret,
)
from issuer.audit.event import EventAction
from issuer.cli import client_options as option
from issuer.cli.output import Access, CommandError, Json, misuse, opened, show
from issuer.cli.private_keys import content_of
from issuer.cli.streams import OutputLost, require_output
from issuer.cli.tables import Row
from issuer.cli.terminal import status
from issuer.clients.client import FIRST_PARTY, Client
from issuer.clients.key_sets import read_key_set
from issuer.clients.outgoing_http import is_reachable
from issuer.clients.store import MEMORY
from issuer.clock import duration, instant, system_clock
from issuer.database.errors import StoreError
from issuer.errors import Refused
from issuer.oauth import AuthMethod, format_scope
from issuer.services import Issuer
from issuer.settings.loading import load_settings
from issuer.settings.values import parse_duration
from issuer.strict_json import read_document

app = typer.Typer(help="Manage OAuth clients.", no_args_is_help=True)

NOT_SHOWN = "the secret could not be printed"
ClientId = Annotated[str, typer.Argument(help="The client_id.")]


@app.command()
def add(
    name: option.Name,
    *,
    scope: option.Scope = "",
    audience: option.Audience = None,
    auth: option.Auth = AuthMethod.BASIC,
    jwks: option.Jwks = None,
    jwks_uri: option.JwksURI = None,
    redirect_uri: option.RedirectURIs = None,
    post_logout_redirect_uri: option.PostLogoutRedirectURIs = None,
    backchannel_logout_uri: option.BackchannelLogoutURI = None,
    grant: option.Grants = None,
    trusted: option.Trusted = False,
    no_pkce: option.NoPKCE = False,
    require_par: option.RequirePAR = False,
    id_token_claims: option.IdTokenClaims = "",
    as_json: Json = False,
) -> None:
    """Create a client; its secret is shown only once."""
    options: ClientOptions = {
        "grant_types": frozenset(grant) if grant else None,
        "redirect_uris": redirect_uri or (),
        "post_logout_redirect_uris": post_logout_redirect_uri or (),
        "backchannel_logout_uri": backchannel_logout_uri,
        "is_trusted": trusted,
        "requires_pkce": not no_pkce,
        "requires_par": require_par,
        "id_token_claims": [name.strip() for name in id_token_claims.split(",") if name.strip()],
        "jwks_uri": jwks_uri,
    }
    client, secret = _checked(name, auth, scope, audience or (), jwks, options)
    require_output()
    with opened() as issuer:
        client = replace(client, audiences=issuer.clients.resources.spelled(client.audiences))
        event = issuer.event(EventAction.CLIENT_CREATED, client_id=client.id)
        issuer.clients.store.add(client, event)
        undone = replace(event, action=EventAction.CLIENT_DELETED, reason=NOT_SHOWN)
        undo = partial(issuer.clients.store.remove, client.id, undone)
        with _undone_unless_shown("no client was created", undo):
            _show_secret(client, secret, as_json=as_json)


def _checked(
    name: str,
    auth: AuthMethod,
    scope: str,
    audience: Sequence[str],
    jwks: Path | None,
    options: ClientOptions,
) -> tuple[Client, str | None]:
    """Return a client of these options, and its secret; raise BadParameter before anything is opened."""
    default = load_settings().audience
    with misuse():
        name, granted = require_client_name(name), require_scope(scope)
        audiences = require_audiences(audience, default)
    complete: ClientOptions = {**options, "jwks": _key_set(auth, jwks, options.get("jwks_uri"))}
    with misuse():
        return new_client(name, auth, granted, audiences, system_clock(), **complete)


@app.command("rotate-secret")
def rotate_secret(
    client_id: ClientId,
    *,
    overlap: Annotated[str, typer.Option(help="How long the old secret stays valid; 0: not at all.")] = "24h",
    as_json: Json = False,
) -> None:
    """Create a new secret for a client, shown only once; the old one stays valid for --overlap."""
    span = _span(overlap)
    require_output()
    with opened(Access.CHANGE) as issuer:
        client = _find(issuer, client_id)
        if client.secret_digest is None:
            raise CommandError(f"{client.name} has no secret: it authenticates by {client.auth_method}")
        detail = f"the old one is valid for {duration(span)}"
        event = issuer.event(EventAction.SECRET_ROTATED, client_id=client.id, detail=detail)
        renewed, secret = renew_secret(issuer.clients.store, client, span, issuer.clock(), event)
        undone = replace(event, detail="undone", reason=NOT_SHOWN)
        undo = partial(restore_secret, issuer.clients.store, client, renewed, undone)
        with _undone_unless_shown("the previous secret is still valid", undo):
            _show_secret(renewed, secret, as_json=as_json)
        if not span:
            _wait_for_caches(as_json=as_json)


@contextmanager
def _undone_unless_shown(undone: str, undo: Callable[[], None]) -> Iterator[None]:
    """Undo the creation of a secret if it could not be printed, because it cannot be shown again."""
    try:
        yield
    except BaseException as error:
        try:
            undo()
        except (StoreError, Refused) as failed:
            raise CommandError(
                f"the secret could not be printed, and this could not be undone ({failed}); look at `issuer clients"
                " list`, and get another secret with: issuer clients rotate-secret CLIENT_ID --overlap 0"
            ) from None
        if isinstance(error, OutputLost):
            raise CommandError(f"{error}, so the secret would be lost; {undone}") from None
        raise


def _wait_for_caches(*, as_json: bool) -> None:
    """Wait until no process uses a cached client any more, so that the change is in effect on return."""
    with status("waiting until every process has the change", as_json=as_json):
        time.sleep(MEMORY.total_seconds())


def _show_secret(client: Client, secret: str | None, *, as_json: bool) -> None:
    text = f"client_id      {client.id}"
    if secret:
        text += f"\nclient_secret  {secret}\nThe secret is not shown again."
    if client.old_secret_until:
        text += f" The old one is valid until {instant(client.old_secret_until)}."
    if client.auth_method is AuthMethod.NONE and not client.redirect_uris:
        text += "\nNobody can sign in to it: a client without a secret needs --redirect-uri."
    show({**_document(client), "client_secret": secret}, as_json=as_json, message=text)


def _span(text: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(f"--overlap: {error}") from error


def _key_set(auth: AuthMethod, jwks: Path | None, jwks_uri: str | None) -> str | None:
    """Return the JWKS in the file, if any; raise BadParameter or CommandError for options that contradict."""
    given = [each for each in (jwks, jwks_uri) if each is not None]
    if len(given) != (auth is AuthMethod.PRIVATE_KEY_JWT):
        raise typer.BadParameter(
            "--auth private_key_jwt needs --jwks or --jwks-uri, and nothing else takes them"
        )
    if jwks_uri is not None and not is_reachable(jwks_uri):
        raise typer.BadParameter("--jwks-uri must be an https URL (http on loopback), without a fragment")
    if jwks is None:
        return None
    try:
        document = read_document(content_of(jwks))
        read_key_set(document)
    except (OSError, ValueError) as error:
        raise CommandError(f"the key set in {jwks} cannot be used: {error}") from error
    return json.dumps(document)


@app.command("list")
def list_clients(*, as_json: Json = False) -> None:
    """List all clients, including the built-in one."""
    with opened(Access.READ) as issuer:
        registered, damaged = issuer.clients.store.all()
        every = (FIRST_PARTY, *registered)
        document = {"clients": list(map(_document, every))}
        show(document, as_json=as_json, rows=list(map(_row, every)), damaged=damaged)


@app.command("require-pkce")
def require_pkce(client_id: ClientId, *, as_json: Json = False) -> None:
    """Require PKCE of a client that was created with --no-pkce."""
    with opened(Access.CHANGE) as issuer:
        client = _find(issuer, client_id)
        event = issuer.event(EventAction.CLIENT_CHANGED, client_id=client.id, detail="requires PKCE")
        issuer.clients.store.require_pkce(client.id, event)
        _wait_for_caches(as_json=as_json)
        _show(_find(issuer, client_id), as_json=as_json, message="requires PKCE")


@app.command()
def disable(client_id: ClientId, *, as_json: Json = False) -> None:
    """Refuse a client from now on; access tokens already issued stay valid until they expire."""
    with opened(Access.CHANGE) as issuer:
        client = _find(issuer, client_id)
        event = issuer.event(EventAction.CLIENT_DISABLED, client_id=client.id)
        issuer.clients.store.set_disabled(client.id, issuer.clock(), event)
        _wait_for_caches(as_json=as_json)
        _show(_find(issuer, client_id), as_json=as_json, message="disabled")


@app.command()
def enable(client_id: ClientId, *, as_json: Json = False) -> None:
    """Enable a disabled client again."""
    with opened(Access.CHANGE) as issuer:
        client = _find(issuer, client_id)
        event = issuer.event(EventAction.CLIENT_ENABLED, client_id=client.id)
        issuer.clients.store.set_disabled(client.id, None, event)
        _show(_find(issuer, client_id), as_json=as_json, message="enabled")


def _find(issuer: Issuer, client_id: str) -> Client:
    client = issuer.clients.store.by_id(client_id)
    if client is None:
        raise CommandError(f"no such client: {client_id!r}; see: issuer clients list")
    if client == FIRST_PARTY:
        raise CommandError(f"{client_id} is built in; ISSUER_PASSWORD_LOGIN=off disables its log-in")
    return client


def _document(client: Client) -> dict[str, object]:
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
        "old_secret_until": instant(client.old_secret_until) if client.old_secret_until else None,
        "created_at": instant(client.created_at) if client.created_at else None,
        "disabled_at": instant(client.disabled_at) if client.disabled_at else None,
    }


def _row(client: Client) -> Row:
    """Return what tables say about a client: what operators look for, in 80 columns."""
    unusual = {
        "trusted": client.is_trusted,
        "no-pkce": not client.requires_pkce,
        "require-par": client.requires_par,
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


def _show(client: Client, *, as_json: bool, message: str) -> None:
    show(_document(client), as_json=as_json, rows=[_row(client)], message=f"{client.name}: {message}")
