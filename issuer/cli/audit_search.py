"""`issuer audit list` and `export`: both audit logs in one order, for people and for a SIEM."""

import json
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Annotated

import typer

from issuer.audit.chain import Action, Entry, Link
from issuer.audit.event import Event, EventAction, Recorded
from issuer.audit.event_search import Filters, Found, Position
from issuer.cli.audit_sessions import summed
from issuer.cli.moments import moment
from issuer.cli.output import Access, Exit, Json, opened, show
from issuer.cli.tables import Row
from issuer.cli.terminal import complain, short_kid
from issuer.clock import instant, system_clock
from issuer.database.errors import DatabaseDamaged
from issuer.services import Issuer

ACTIONS = frozenset({*map(str, Action), *map(str, EventAction)})
POSITION = re.compile(r"([0-9]{1,18}):([0-9]{1,18})", re.ASCII)

User = Annotated[str | None, typer.Option(help="Only events of this account: its username, or its id.")]
ClientId = Annotated[str | None, typer.Option(metavar="CLIENT_ID", help="Only events of this client.")]
Since = Annotated[
    str | None,
    typer.Option(metavar="WHEN", help="Only from then on: 2026-01-31, an instant, or 24h for a day ago."),
]
Until = Annotated[str | None, typer.Option(metavar="WHEN", help="Only before then.")]
OfAction = Annotated[
    str | None, typer.Option("--action", metavar="ACTION", help="Only this action, as the list shows it.")
]
Last = Annotated[
    int, typer.Option(min=1, max=1_000_000, metavar="NUMBER", help="How many of the newest entries to show.")
]


def list_entries(
    *,
    user: User = None,
    client: ClientId = None,
    since: Since = None,
    until: Until = None,
    action: OfAction = None,
    last: Last = 50,
    as_json: Json = False,
) -> None:
    """Show the newest entries of both logs: what happened to keys, and to accounts and clients; the newest last.

    With --user or --client only the second is searched, as keys belong to all. Accounts are named by their ids, and
    on a terminal by username as well, as long as they exist. What people do is counted by hour. Used refresh tokens
    that were presented again are listed separately: issuer audit sessions.
    """
    filters = _filters(client, since, until, action)
    with opened(Access.READ) as issuer:
        filters = replace(filters, user_id=_user_id(issuer, user))
        found, damaged = issuer.events.search.newest(filters, last)
        sums, damaged_sums = issuer.tokens.session_events.newest(last) if filters == Filters() else ([], [])
        lines = [] if found else ["no entries yet" if filters == Filters() else "no such entries"]
        if sums:
            lines.append(
                "used refresh tokens were presented again; to see how often and whose: issuer audit sessions"
            )
        names = _names(issuer, found) if _is_terminal() else {}
        show(
            {
                "entries": [_described(each) for each in found],
                "total": issuer.events.search.count_links(),
                "sessions": [summed(each) for each in sums],
            },
            as_json=as_json,
            rows=[_brief(each, names) for each in found],
            message="\n".join(lines),
            damaged=[*damaged, *damaged_sums],
        )


def export(
    *,
    after: Annotated[
        str, typer.Option(metavar="POSITION", help="Go on after this position: that of the last line before.")
    ] = "0:0",
    as_json: Json = False,
) -> None:
    """Print both logs as JSON lines, oldest first, for a SIEM; each has the position to go on from.

    A line of what people do is a sum by hour: it is printed again with another count, the same `since` and a new
    number, if more happens in that hour. A damaged row is left out, reported on standard error, and makes the exit
    code 1. Without --json, other errors are text on standard error as well.
    """
    del as_json  # the lines are JSON in any case; `commands.run` looks for it when it prints an error
    matched = POSITION.fullmatch(after.strip())
    if not matched:
        raise typer.BadParameter("--after takes the `position` of an exported line, such as 12:345")
    damaged: list[DatabaseDamaged] = []

    def report(error: DatabaseDamaged) -> None:
        damaged.append(error)
        complain("failed", str(error))

    start = Position(int(matched[1]), int(matched[2]))
    with opened(Access.READ) as issuer:
        for position, found in issuer.events.search.all_after(start, report):
            line = {**_described(found), "position": f"{position.key}:{position.account}"}
            sys.stdout.write(json.dumps(line, separators=(",", ":")) + "\n")
        sys.stdout.flush()
    if damaged:
        raise typer.Exit(Exit.FAILED)


def _user_id(issuer: Issuer, text: str | None) -> str | None:
    """Return the id of an account that is named by id or username; it may be deleted.

    An id comes first: users choose their names.
    """
    if text is None or issuer.accounts.store.by_id(text):
        return text
    with suppress(DatabaseDamaged):
        found = issuer.accounts.store.by_username(text)
        return found.id if found else text
    return text


def _filters(client: str | None, since: str | None, until: str | None, action: str | None) -> Filters:
    """Return what options ask for; raise BadParameter."""
    if action is not None and action not in ACTIONS:
        raise typer.BadParameter(f"--action is none of: {', '.join(sorted(ACTIONS))}")
    now = system_clock()
    span = moment("--since", since, now), moment("--until", until, now)
    return Filters(None, client, action, *span)


def _is_terminal() -> bool:
    """Whether people read the output: what scripts store has no names of people."""
    return sys.stdout.isatty()


def _names(issuer: Issuer, found: list[Found]) -> dict[str, str]:
    """Return the usernames of the accounts in `found` that exist, by id."""
    ids = {each.event.user_id for each in found if isinstance(each, Recorded) and each.event.user_id}
    return issuer.accounts.store.names(ids)


def _described(found: Found) -> dict[str, str | int | None]:
    """Return what JSON says about an entry: the same members for both logs."""
    about: Entry | Event = found.entry if isinstance(found, Link) else found.event
    return {
        "at": instant(about.at),
        "log": "keys" if isinstance(found, Link) else "accounts",
        "number": found.number,
        "since": instant(about.at if isinstance(found, Link) else found.since),
        "count": 1 if isinstance(found, Link) else found.count,
        "actor": about.actor,
        "action": about.action,
        "user": None if isinstance(about, Entry) else about.user_id,
        "client": None if isinstance(about, Entry) else about.client_id,
        "detail": None if isinstance(about, Entry) else about.detail,
        "kid": about.kid if isinstance(about, Entry) else None,
        "ring_version": about.ring_version if isinstance(about, Entry) else None,
        "reason": about.reason,
        "digest": found.digest if isinstance(found, Link) else None,
    }


def _brief(found: Found, names: Mapping[str, str]) -> Row:
    """Return what tables say: the subject is not repeated as the actor, and a single event has no count."""
    row = _described(found)
    is_own = isinstance(found, Recorded) and found.event.is_own
    return {
        "at": row["at"],
        "action": row["action"],
        "kid": short_kid(str(row["kid"] or "")),
        "ring": row["ring_version"],
        "user": row["user"],
        "username": names.get(str(row["user"])),
        "client": row["client"],
        "count": row["count"] if row["count"] != 1 else None,
        "actor": str(row["actor"]).partition(" ")[0] if is_own else row["actor"],
        "detail": row["detail"],
        "reason": row["reason"],
    }
