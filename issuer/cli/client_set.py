"""`issuer clients set`: changes a client, and shows what has changed.

Which changes are accepted is decided in `administration.client_changes`.
"""

from collections import ChainMap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from issuer.administration.client_changes import (
    ClientChanges,
    Difference,
    accepted,
    change_client,
    changed,
    differences,
    narrows,
    void_codes_without_consent,
)
from issuer.administration.client_sessions import count_exceeding, end_exceeding
from issuer.administration.clients import require_audiences, require_scope
from issuer.audit.event import EventAction
from issuer.cli import client_options as option
from issuer.cli.client_keys import read_jwks, require_jwks_uri
from issuer.cli.client_view import (
    ClientId,
    DryRun,
    document_of,
    find_client,
    holding_more,
    no_such_client,
    wait_for_caches,
)
from issuer.cli.output import Access, Json, misuse, opened, show
from issuer.clients.client import Client
from issuer.errors import NothingToDo
from issuer.oauth import GrantType
from issuer.services import Issuer
from issuer.settings.loading import load_settings


def set_client(
    client_id: ClientId,
    *,
    name: option.NewName = None,
    scope: option.NewScope = None,
    add_scope: option.AddScope = "",
    remove_scope: option.RemoveScope = "",
    audience: option.Audience = None,
    jwks: option.Jwks = None,
    jwks_uri: option.JwksURI = None,
    redirect_uri: option.RedirectURIs = None,
    post_logout_redirect_uri: option.PostLogoutRedirectURIs = None,
    backchannel_logout_uri: option.BackchannelLogoutURI = None,
    grant: option.NewGrants = None,
    trusted: option.NewTrusted = None,
    pkce: option.NewPKCE = None,
    require_par: option.NewRequirePAR = None,
    id_token_claims: option.NewIdTokenClaims = None,
    roles_claim: option.NewRolesClaim = None,
    end_sessions: option.EndSessions = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Change a client: an option that is given replaces the whole value, and "" removes it.

    What is taken away is refused from now on: at the next refresh of each session, and to codes not yet redeemed.
    Access tokens already issued keep what they have until they expire.
    """
    if jwks is not None and jwks_uri is not None:
        raise typer.BadParameter("give --jwks or --jwks-uri, not both")
    changes = _changes(
        _plain(name, audience, jwks_uri, grant, id_token_claims),
        _scopes(scope, add_scope, remove_scope),
        _uris(redirect_uri, post_logout_redirect_uri, backchannel_logout_uri),
        _flags(trusted=trusted, pkce=pkce, require_par=require_par, roles_claim=roles_claim),
    )
    _set(client_id, changes, jwks, end_sessions=end_sessions, dry_run=dry_run, as_json=as_json)


Values = dict[str, Any]
"""Some fields of `ClientChanges`."""


def _changes(*parts: Values) -> ClientChanges:
    with misuse():
        return accepted(ClientChanges(**dict(ChainMap(*parts))))


def _plain(
    name: str | None,
    audience: Sequence[str] | None,
    jwks_uri: str | None,
    grant: Sequence[GrantType] | None,
    claims: str | None,
) -> Values:
    if jwks_uri is not None:
        require_jwks_uri(jwks_uri)
    names = None if claims is None else [name.strip() for name in claims.split(",")]
    audiences = _values(audience)
    if audiences is not None:
        with misuse():
            audiences = require_audiences(audiences, load_settings().audience)
    return {
        "name": name,
        "audiences": audiences,
        "jwks_uri": jwks_uri,
        "grant_types": frozenset(grant) if grant else None,
        "id_token_claims": None if names is None else tuple(filter(None, names)),
    }


def _scopes(scope: str | None, added: str, removed: str) -> Values:
    if scope is not None and (added or removed):
        raise typer.BadParameter("--scope replaces all scopes; leave out --add-scope and --remove-scope")
    with misuse():
        return {
            "scope": None if scope is None else require_scope(scope),
            "added_scope": require_scope(added),
            "removed_scope": require_scope(removed),
        }


def _uris(
    redirect: Sequence[str] | None, post_logout: Sequence[str] | None, backchannel: str | None
) -> Values:
    return {
        "redirect_uris": _values(redirect),
        "post_logout_redirect_uris": _values(post_logout),
        "backchannel_logout_uri": backchannel,
    }


def _flags(
    *, trusted: bool | None, pkce: bool | None, require_par: bool | None, roles_claim: bool | None
) -> Values:
    return {
        "is_trusted": trusted,
        "requires_pkce": pkce,
        "requires_par": require_par,
        "has_roles_claim": roles_claim,
    }


def _values(texts: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the values of a repeatable option; none for a single empty one, None if it was not given."""
    if texts is None:
        return None
    return () if list(texts) == [""] else tuple(texts)


def _set(
    client_id: str,
    changes: ClientChanges,
    jwks: Path | None,
    *,
    end_sessions: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Change a client; raise BadParameter for no change at all, NothingToDo if it is as wanted."""
    if changes == ClientChanges() and jwks is None and not end_sessions:
        raise typer.BadParameter("nothing to change; give one of the options")
    if jwks is not None:
        changes = replace(changes, jwks=read_jwks(jwks))
    with opened(Access.READ if dry_run else Access.CHANGE) as issuer:
        client = find_client(issuer, client_id)
        if changes.audiences:
            changes = replace(changes, audiences=issuer.clients.resources.spelled(changes.audiences))
        before, after = _changed(issuer, client, changes, dry_run=dry_run, as_json=as_json)
        found = differences(before, after)
        ended = _ended(issuer, before, after, dry_run=dry_run) if end_sessions else None
        if not found and not ended:
            raise NothingToDo(f"{client.name} is as wanted already; nothing was changed")
        exceeding = 0
        if not end_sessions and narrows(before, after):
            now = issuer.clock()
            exceeding = count_exceeding(issuer.database, after, before, issuer.clients.entitlements, now)
        rows = [vars(each) for each in found]
        outcome = {"changes": rows, "sessions_ended": ended, "sessions_holding_more": exceeding}
        show(
            {**document_of(after), **outcome, "dry_run": dry_run},
            as_json=as_json,
            rows=rows,
            message=_report(after, found, ended, exceeding, dry_run=dry_run),
        )


def _changed(
    issuer: Issuer, client: Client, changes: ClientChanges, *, dry_run: bool, as_json: bool
) -> tuple[Client, Client]:
    """Change a client, unless it is a dry run, and return it before and after."""
    if dry_run:
        return client, changed(client, changes)
    try:
        event = issuer.event(EventAction.CLIENT_CHANGED, client_id=client.id)
        before, after = change_client(issuer.database, client.id, changes, event.at, event)
    except LookupError:
        raise no_such_client(client.id) from None
    if before != after:
        wait_for_caches(as_json=as_json)
    if before.is_trusted and not after.is_trusted:
        void_codes_without_consent(issuer.database, after.id)
    return before, after


def _ended(issuer: Issuer, before: Client, after: Client, *, dry_run: bool) -> int:
    """End the sessions that hold more than the client may have; return how many, also if it is a dry run."""
    entitlements, now = issuer.clients.entitlements, issuer.clock()
    if dry_run:
        return count_exceeding(issuer.database, after, before, entitlements, now)
    event = issuer.event(EventAction.SESSION_ENDED, client_id=after.id)
    return end_exceeding(issuer.database, after, before, entitlements, now, event)


def _report(
    client: Client, found: Sequence[Difference], ended: int | None, exceeding: int, *, dry_run: bool
) -> str:
    lines = [f"{client.name}: {'would change' if dry_run else 'changed'}"] if found else []
    if ended is not None:
        lines.append(f"sessions {'that would be ended' if dry_run else 'ended'}: {ended}")
    if exceeding:
        lines.append(holding_more(exceeding, "--end-sessions"))
    return "\n".join(lines)
