"""`issuer clients`: make, list, disable and enable OAuth clients."""

from typing import Annotated

import typer

from issuer.administration import register_client
from issuer.cli.output import CommandError, Json, Row, opened, show
from issuer.clients import FIRST_PARTY, Client
from issuer.oauth import AuthMethod, format_scope, parse_scope
from issuer.policy import instant
from issuer.wiring import Issuer

app = typer.Typer(help="Manage OAuth clients: machines and applications.", no_args_is_help=True)

ClientId = Annotated[str, typer.Argument(help="The client_id.")]


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="A name for people.")],
    *,
    scope: Annotated[str, typer.Option(help="What to grant, separated by spaces.")] = "",
    audience: Annotated[
        list[str] | None, typer.Option(help="A resource it may ask tokens for; repeatable.")
    ] = None,
    auth: Annotated[AuthMethod, typer.Option(help="How it authenticates.")] = AuthMethod.BASIC,
    as_json: Json = False,
) -> None:
    """Make a client; its secret is printed this once."""
    if not name.strip():
        raise CommandError("a client needs a name")
    with opened() as issuer:
        client, secret = register_client(
            issuer.clients, name, auth, parse_scope(scope), tuple(audience or ()), issuer.clock()
        )
        document = {**_row(client), "client_secret": secret}
        told = f"client_id      {client.id}"
        if secret:
            told += f"\nclient_secret  {secret}\nThe secret is not shown again."
        show(document, as_json=as_json, says=told)


@app.command("list")
def list_clients(*, as_json: Json = False) -> None:
    """Show all clients, the built-in one included."""
    with opened() as issuer:
        rows = [_row(client) for client in (FIRST_PARTY, *issuer.clients.all())]
        show({"clients": rows}, as_json=as_json, rows=[_brief(row) for row in rows])


@app.command()
def disable(client_id: ClientId, *, as_json: Json = False) -> None:
    """Refuse a client from now on; access tokens already out live until they expire."""
    with opened() as issuer:
        client = _find(issuer, client_id)
        issuer.clients.set_disabled(client.id, issuer.clock())
        _show(_find(issuer, client_id), as_json=as_json, says="disabled")


@app.command()
def enable(client_id: ClientId, *, as_json: Json = False) -> None:
    """Let a disabled client ask for tokens again."""
    with opened() as issuer:
        issuer.clients.set_disabled(_find(issuer, client_id).id, None)
        _show(_find(issuer, client_id), as_json=as_json, says="enabled")


def _find(issuer: Issuer, client_id: str) -> Client:
    client = issuer.clients.by_id(client_id)
    if client is None:
        raise CommandError(f"there is no client {client_id!r}; see: issuer clients list")
    if client == FIRST_PARTY:
        raise CommandError(f"{client_id} is built in; ISSUER_PASSWORD_LOGIN=off switches its log-in off")
    return client


def _row(client: Client) -> Row:
    return {
        "client_id": client.id,
        "name": client.name,
        "auth": client.auth_method.value,
        "scope": format_scope(client.scope),
        "audiences": " ".join(client.audiences),
        "created_at": instant(client.created_at) if client.created_at else None,
        "disabled_at": instant(client.disabled_at) if client.disabled_at else None,
    }


def _show(client: Client, *, as_json: bool, says: str) -> None:
    show(dict(_row(client)), as_json=as_json, rows=[_brief(_row(client))], says=f"{client.name}: {says}")


def _brief(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in {"auth", "created_at"}}
