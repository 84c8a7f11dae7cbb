"""`issuer users invite`: makes an account whose user chooses the first password with a link."""

from datetime import timedelta
from typing import Annotated

import typer

from issuer.accounts.profile import require_profile
from issuer.accounts.user import require_username
from issuer.administration.clients import require_scope
from issuer.administration.reset_links import LONGEST_LIFETIME
from issuer.cli.output import Json, misuse, opened, show
from issuer.cli.streams import require_output
from issuer.clock import instant
from issuer.settings.values import parse_duration

LEAST_VALID = timedelta(minutes=1)


def invite(
    username: Annotated[str, typer.Argument(help="The username.")],
    *,
    valid: Annotated[str, typer.Option(help="How long the link is valid: 30m, 24h, 7d; at most 28d.")] = "1h",
    scope: Annotated[str, typer.Option(help="The scopes to grant, separated by spaces.")] = "",
    name: Annotated[str | None, typer.Option("--name", help="The full name, for applications.")] = None,
    email: Annotated[str | None, typer.Option(help="The e-mail address, for applications.")] = None,
    as_json: Json = False,
) -> None:
    """Create an account without a password, and print a link with which its user chooses one: valid once.

    For an account that was invited and has no password yet, print another link; the one before is void.
    """
    with misuse():
        lifetime, granted, profile = lifetime_of(valid), require_scope(scope), require_profile(name, email)
        require_username(username)
    require_output()
    with opened() as issuer:
        now, administration = issuer.clock(), issuer.administration
        user = administration.invitations.invite(username, now, granted, profile)
        link = f"{issuer.settings.url}/reset?token={administration.reset_links.token(user, now, lifetime)}"
        row = {"username": user.username, "link": link, "expires_at": instant(now + lifetime)}
        show(row, as_json=as_json, rows=[], message=link)


def lifetime_of(valid: str) -> timedelta:
    """Return how long a link shall be valid; raise ValueError."""
    lifetime = parse_duration(valid)
    if not LEAST_VALID <= lifetime <= LONGEST_LIFETIME:
        raise ValueError(f"--valid: a link is valid for 1m to {LONGEST_LIFETIME.days}d")
    return lifetime
