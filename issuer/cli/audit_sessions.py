"""`issuer audit sessions`: how often used refresh tokens were presented again."""

from contextlib import suppress
from typing import Annotated

import typer

from issuer.cli.output import Access, Json, opened, show
from issuer.cli.tables import Row
from issuer.clock import instant
from issuer.database.errors import DatabaseDamaged
from issuer.services import Issuer
from issuer.tokens.session_events import SessionEvents


def sessions(
    *,
    last: Annotated[
        int, typer.Option(min=1, max=1_000_000, metavar="NUMBER", help="How many of the newest sums to show.")
    ] = 50,
    as_json: Json = False,
) -> None:
    """Show how often used refresh tokens were presented again, summed by user and event, the newest last.

    A sum begins anew after 30 days, and is kept for 90. It is not in the chain of digests. The session is that of the
    latest event.
    """
    with opened(Access.READ) as issuer:
        sums, damaged = issuer.tokens.session_events.newest(last)
        names = {user: _name(issuer, user) for user in {each.user_id for each in sums}}
        show(
            {"sessions": [summed(each) for each in sums]},
            as_json=as_json,
            rows=[_brief_sum(each, names[each.user_id]) for each in sums],
            message="" if sums else "no events in the last 90 days",
            damaged=damaged,
        )


def summed(sums: SessionEvents) -> Row:
    """Return what JSON says about a sum."""
    return {
        "event": sums.event,
        "count": sums.count,
        "user": sums.user_id,
        "client": sums.client_id,
        "session": sums.session,
        "first_at": instant(sums.first_at),
        "last_at": instant(sums.last_at),
    }


def _name(issuer: Issuer, user_id: str) -> str:
    """Return the username, or the id of an account that is gone or damaged."""
    with suppress(DatabaseDamaged):
        user = issuer.accounts.store.by_id(user_id)
        return user.username if user else user_id
    return user_id


def _brief_sum(sums: SessionEvents, username: str) -> Row:
    return {
        "last_at": instant(sums.last_at),
        "since": instant(sums.first_at),
        "count": sums.count,
        "event": sums.event,
        "user": username,
        "client": sums.client_id,
        "session": sums.session,
    }
