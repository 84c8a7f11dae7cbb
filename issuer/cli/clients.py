"""`issuer clients`: creates, lists, disables and enables OAuth clients, and rotates their secrets.

The options of `add` are in `client_options`; other commands are in siblings: `client_view`, `client_set`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
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
from issuer.cli import client_delete, client_set, client_view
from issuer.cli import client_options as option
from issuer.cli.client_delete import Yes
from issuer.cli.client_file import FILE_OPTIONS, refuse, register_file, require_only
from issuer.cli.client_keys import key_set_of
from issuer.cli.client_view import (
    ClientId,
    DryRun,
    document_of,
    find_client,
    row_of,
    show_client,
    span_of,
    wait_for_caches,
)
from issuer.cli.output import Access, CommandError, Json, misuse, opened, show
from issuer.cli.streams import OutputLost, require_output
from issuer.clients.client import FIRST_PARTY, Client
from issuer.clients.store import Filters
from issuer.clock import duration, instant, system_clock
from issuer.database.errors import StoreError
from issuer.errors import Refused
from issuer.oauth import AuthMethod, GrantType
from issuer.settings.loading import load_settings

app = typer.Typer(help="Manage OAuth clients.", no_args_is_help=True)

MOST = 1_000_000
NOT_SHOWN = "the secret could not be printed"


@app.command()
def add(
    context: typer.Context,
    name: option.Name = None,
    *,
    file: option.From = None,
    prune: option.Prune = False,
    overlap: option.Overlap = "24h",
    yes: Yes = False,
    dry_run: DryRun = False,
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
    roles_claim: option.RolesClaim = False,
    as_json: Json = False,
) -> None:
    """Create a client, whose secret is shown only once, or with --from all clients of a file."""
    if file is not None:
        require_only(context, FILE_OPTIONS)
        register_file(file, overlap, prune=prune, yes=yes, dry_run=dry_run, as_json=as_json)
        return
    options: ClientOptions = {
        **_uris(redirect_uri, post_logout_redirect_uri, backchannel_logout_uri),
        **_others(jwks_uri, grant, id_token_claims),
        **_flags(trusted=trusted, no_pkce=no_pkce, require_par=require_par),
        "has_roles_claim": roles_claim,
    }
    client, secret = _checked(_name(context, name), auth, scope, audience or (), jwks, options)
    _add(client, secret, as_json=as_json)


def _name(context: typer.Context, name: str | None) -> str:
    """Return the name of one client; raise BadParameter without one, or with an option for files."""
    if name is None:
        raise typer.BadParameter("give the name of a client, or --from with a file of clients")
    refuse(context, FILE_OPTIONS - {"as_json"}, "needs --from")
    return name


def _others(jwks_uri: str | None, grant: Sequence[GrantType] | None, claims: str) -> ClientOptions:
    return {
        "jwks_uri": jwks_uri,
        "grant_types": frozenset(grant) if grant else None,
        "id_token_claims": [name.strip() for name in claims.split(",") if name.strip()],
    }


def _flags(*, trusted: bool, no_pkce: bool, require_par: bool) -> ClientOptions:
    return {"is_trusted": trusted, "requires_pkce": not no_pkce, "requires_par": require_par}


def _uris(
    redirect: Sequence[str] | None, post_logout: Sequence[str] | None, backchannel: str | None
) -> ClientOptions:
    return {
        "redirect_uris": redirect or (),
        "post_logout_redirect_uris": post_logout or (),
        "backchannel_logout_uri": backchannel,
    }


def _add(client: Client, secret: str | None, *, as_json: bool) -> None:
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
    complete: ClientOptions = {**options, "jwks": key_set_of(auth, jwks, options.get("jwks_uri"))}
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
    span = span_of(overlap)
    require_output()
    with opened(Access.CHANGE) as issuer:
        client = find_client(issuer, client_id)
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
            wait_for_caches(as_json=as_json)


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


def _show_secret(client: Client, secret: str | None, *, as_json: bool) -> None:
    text = f"client_id      {client.id}"
    if secret:
        text += f"\nclient_secret  {secret}\nThe secret is not shown again."
    if client.old_secret_until:
        text += f" The old one is valid until {instant(client.old_secret_until)}."
    if client.auth_method is AuthMethod.NONE and not client.redirect_uris:
        text += "\nNobody can sign in to it: a client without a secret needs --redirect-uri."
    show({**document_of(client), "client_secret": secret}, as_json=as_json, message=text)


@app.command("list")
def list_clients(
    *,
    like: Annotated[
        str, typer.Option(metavar="TEXT", help="Only clients with this text in their name or client_id.")
    ] = "",
    disabled: Annotated[bool, typer.Option("--disabled", help="Only disabled clients.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=MOST, metavar="N", help="The most clients to list.")] = 100,
    after: Annotated[
        str | None,
        typer.Option(metavar="CLIENT_ID", help="Continue after this client, the last of the page before."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List clients, the oldest first; the first page begins with the built-in one."""
    with opened(Access.READ) as issuer:
        try:
            page = issuer.clients.store.page(Filters(like, disabled), after, limit)
        except LookupError:
            raise CommandError(f"no such client: {after!r}; give the last client_id of a page") from None
        listed = [*_built_in(like, disabled=disabled, after=after), *page.clients]
        more = f"there are more: --after {page.next_after}" if page.next_after else ""
        show(
            {"clients": list(map(document_of, listed)), "next_after": page.next_after},
            as_json=as_json,
            rows=list(map(row_of, listed)),
            message=more if listed else "no such clients",
            damaged=page.damaged,
        )


def _built_in(like: str, *, disabled: bool, after: str | None) -> tuple[Client, ...]:
    texts = (FIRST_PARTY.name, FIRST_PARTY.id)
    is_listed = after is None and not disabled and any(like.lower() in text for text in texts)
    return (FIRST_PARTY,) if is_listed else ()


@app.command("require-pkce")
def require_pkce(client_id: ClientId, *, as_json: Json = False) -> None:
    """Require PKCE of a client that was created with --no-pkce."""
    with opened(Access.CHANGE) as issuer:
        client = find_client(issuer, client_id)
        event = issuer.event(EventAction.CLIENT_CHANGED, client_id=client.id, detail="requires PKCE")
        issuer.clients.store.require_pkce(client.id, event)
        wait_for_caches(as_json=as_json)
        show_client(find_client(issuer, client_id), as_json=as_json, message="requires PKCE")


@app.command()
def disable(client_id: ClientId, *, as_json: Json = False) -> None:
    """Refuse a client from now on; access tokens already issued stay valid until they expire."""
    with opened(Access.CHANGE) as issuer:
        client = find_client(issuer, client_id)
        event = issuer.event(EventAction.CLIENT_DISABLED, client_id=client.id)
        issuer.clients.store.set_disabled(client.id, issuer.clock(), event)
        wait_for_caches(as_json=as_json)
        show_client(find_client(issuer, client_id), as_json=as_json, message="disabled")


@app.command()
def enable(client_id: ClientId, *, as_json: Json = False) -> None:
    """Enable a disabled client again."""
    with opened(Access.CHANGE) as issuer:
        client = find_client(issuer, client_id)
        event = issuer.event(EventAction.CLIENT_ENABLED, client_id=client.id)
        issuer.clients.store.set_disabled(client.id, None, event)
        show_client(find_client(issuer, client_id), as_json=as_json, message="enabled")


app.command("show")(client_view.show_one)
app.command("set")(client_set.set_client)
app.command("delete")(client_delete.delete)
