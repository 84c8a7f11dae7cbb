"""`issuer audit`: what happened to the keys, and whether the record of it is whole."""

from typing import Annotated

import typer

from issuer.audit import Link, fault
from issuer.cli.output import CommandError, Json, Row, opened, show
from issuer.cli.ring import KID_SHOWN
from issuer.policy import instant

app = typer.Typer(help="Read the record of all that happened to the keys.", no_args_is_help=True)


@app.command("list")
def list_entries(
    *,
    last: Annotated[int, typer.Option(min=1, help="How many of the newest entries to show.")] = 50,
    as_json: Json = False,
) -> None:
    """Show the newest entries: when, who, what, which key, which version of the ring, and why."""
    with opened() as issuer:
        links, _ = issuer.audit.chain()
        shown = links[-last:]
        show(
            {"entries": [_described(link) for link in shown], "total": len(links)},
            as_json=as_json,
            rows=[_brief(link) for link in shown],
            says="" if shown else "nothing has happened yet",
        )


@app.command()
def verify(
    *,
    noted: Annotated[
        str | None, typer.Option(help="A digest that was noted elsewhere: the audit must still hold it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Find an entry that was changed, removed, added or moved; exit 1 if there is one.

    Who can write the whole database can also forge a whole chain: note the digest elsewhere from time to time.
    """
    with opened() as issuer:
        links, head = issuer.audit.chain()
        problem = fault(links, head)
        if problem is None and noted is not None and noted not in {link.digest for link in links}:
            problem = (
                "no entry has the digest that was noted: the audit was made anew, or an older backup restored"
            )
        if problem is not None:
            raise CommandError(f"the audit is not whole: {problem}")
        show(
            {"entries": head.number, "digest": head.digest},
            as_json=as_json,
            says=f"the audit is whole: {head.number} entries; note this digest elsewhere: {head.digest}",
        )


def _described(link: Link) -> Row:
    entry = link.entry
    return {
        "number": link.number,
        "at": instant(entry.at),
        "actor": entry.actor,
        "action": entry.action,
        "kid": entry.kid,
        "ring_version": entry.ring_version,
        "reason": entry.reason,
        "digest": link.digest,
    }


def _brief(link: Link) -> Row:
    entry = link.entry
    return {
        "at": instant(entry.at),
        "action": entry.action,
        "kid": (entry.kid or "")[:KID_SHOWN],
        "ring": entry.ring_version,
        "actor": entry.actor,
        "reason": entry.reason,
    }
