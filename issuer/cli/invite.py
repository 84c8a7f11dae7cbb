"""`issuer users invite`: makes an account whose user chooses the first password with a link."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Annotated

import typer

from issuer.accounts.freed_names import UsernameReserved
from issuer.accounts.profile import Profile, require_profile
from issuer.accounts.user import require_username
from issuer.administration.clients import require_scope
from issuer.administration.reset_links import LONGEST_LIFETIME
from issuer.cli.output import CommandError, Json, misuse, opened, show
from issuer.cli.streams import require_output
from issuer.clock import instant
from issuer.services import Issuer
from issuer.settings.values import parse_duration

LEAST_VALID = timedelta(minutes=1)


def invite(
    username: Annotated[str, typer.Argument(help="The username.")],
    *,
    valid: Annotated[str, typer.Option(help="How long the link is valid: 30m, 24h, 7d; at most 28d.")] = "1h",
    scope: Annotated[str, typer.Option(help="The scopes to grant, separated by spaces.")] = "",
    name: Annotated[str | None, typer.Option("--name", help="The full name, for applications.")] = None,
    email: Annotated[str | None, typer.Option(help="The e-mail address, for applications.")] = None,
    mail: Annotated[
        bool, typer.Option("--mail", help="Send the link to the e-mail address instead of printing it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Create an account without a password, and print a link with which its user chooses one: valid once.

    For an account that was invited and has no password yet, print another link; the one before is void. With --mail
    the link is sent by a running issuer, and is valid from then.
    """
    with misuse():
        lifetime, granted, profile = lifetime_of(valid), require_scope(scope), require_profile(name, email)
        require_username(username)
    require_output()
    with opened() as issuer:
        now, administration = issuer.clock(), issuer.administration
        if mail:
            _require_mail(issuer, username, profile)
        with _reasons():
            user = administration.invitations.invite(username, now, granted, profile, issuer.actor)
        if mail:
            administration.mails.invite(user, lifetime, now)
            row = {"username": user.username, "email": user.email}
            show(
                row,
                as_json=as_json,
                rows=[],
                message=f"{user.username}: invited; a mail to {user.email} is due",
            )
            return
        link = f"{issuer.settings.url}/reset?token={administration.reset_links.token(user, now, lifetime)}"
        row = {"username": user.username, "link": link, "expires_at": instant(now + lifetime)}
        show(row, as_json=as_json, rows=[], message=link)


@contextmanager
def _reasons() -> Iterator[None]:
    """Raise CommandError for a name that is still reserved: it was that of an account which was deleted."""
    try:
        yield
    except UsernameReserved as error:
        raise CommandError(error.reason) from None


def _require_mail(issuer: Issuer, username: str, profile: Profile) -> None:
    """Raise CommandError if no mail can be sent to this user."""
    if not issuer.administration.mails.is_on:
        raise CommandError("no mail server: set ISSUER_SMTP_URL, or leave out --mail")
    user = issuer.accounts.store.by_username(username)
    if not (user.email if user else profile.email):
        raise CommandError(f"{username} has no e-mail address: give --email, or leave out --mail")


def lifetime_of(valid: str) -> timedelta:
    """Return how long a link shall be valid; raise ValueError."""
    lifetime = parse_duration(valid)
    if not LEAST_VALID <= lifetime <= LONGEST_LIFETIME:
        raise ValueError(f"--valid: a link is valid for 1m to {LONGEST_LIFETIME.days}d")
    return lifetime
