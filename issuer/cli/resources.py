"""`issuer resources`: registers the services that tokens are for, lists and removes them."""

from typing import Annotated

import typer

from issuer.administration.clients import require_scope
from issuer.audit.event import EventAction
from issuer.cli.output import Access, CommandError, Json, misuse, opened, show
from issuer.cli.streams import require_output
from issuer.cli.tables import Row
from issuer.clients.resources import Resource
from issuer.clock import instant
from issuer.oauth import format_scope
from issuer.urls import BadURL, default_resource

app = typer.Typer(help="Manage resources: the services that tokens are for.", no_args_is_help=True)

URI = Annotated[str, typer.Argument(metavar="URL", help="Its URL, as its tokens name it in `aud`.")]


@app.command()
def add(
    url: URI,
    *,
    scope: Annotated[
        str, typer.Option(help="The scopes that its tokens may have, separated by spaces. Default: any.")
    ] = "",
    is_open: Annotated[
        bool, typer.Option("--open", help="Let every client request tokens for it (RFC 8707).")
    ] = False,
    as_json: Json = False,
) -> None:
    """Register a resource."""
    with misuse():
        granted = require_scope(scope)
    try:
        uri = default_resource(url)
    except BadURL as error:
        raise typer.BadParameter(f"{url!r} {error}") from error
    require_output()
    with opened() as issuer:
        resource = Resource(uri, issuer.clock(), granted, is_open)
        added = issuer.event(EventAction.RESOURCE_ADDED, detail=_detail(resource))
        issuer.clients.resources.add(resource, added)
        show(_document(resource), as_json=as_json, rows=[_row(resource)])


@app.command("list")
def list_resources(*, as_json: Json = False) -> None:
    """List all resources."""
    with opened(Access.READ) as issuer:
        found, damaged = issuer.clients.resources.all()
        document = {"resources": list(map(_document, found))}
        none = "" if found or damaged else "no resources; clients request tokens for their own audiences"
        show(document, as_json=as_json, rows=list(map(_row, found)), message=none, damaged=damaged)


@app.command()
def remove(url: URI, *, as_json: Json = False) -> None:
    """Remove a resource. Clients that have it as an audience keep it; sessions of others lose it at a refresh."""
    with opened(Access.CHANGE) as issuer:
        if not issuer.clients.resources.remove(url, issuer.event(EventAction.RESOURCE_REMOVED)):
            raise CommandError(f"no such resource: {url!r}; see: issuer resources list")
        show({"resource": url}, as_json=as_json, message=f"{url}: removed")


def _detail(resource: Resource) -> str:
    """Return what the event says about a new resource."""
    limit = [f"scope: {format_scope(resource.scope)}"] if resource.scope else []
    return "; ".join([resource.uri, *limit, *(["open"] if resource.is_open else [])])


def _document(resource: Resource) -> dict[str, object]:
    return {
        "resource": resource.uri,
        "scope": format_scope(resource.scope),
        "is_open": resource.is_open,
        "created_at": instant(resource.created_at),
    }


def _row(resource: Resource) -> Row:
    return {
        "resource": resource.uri,
        "scope": format_scope(resource.scope) or "any",
        "requested by": "every client" if resource.is_open else "clients with this audience",
    }
