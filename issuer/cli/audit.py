"""`issuer audit`: lists the audit log and session events, and verifies the log."""

import re
from contextlib import suppress
from typing import Annotated

import typer

from issuer.audit.chain import Link, integrity_error
from issuer.cli.output import Access, CommandError, Json, opened, show
from issuer.cli.tables import Row
from issuer.cli.terminal import short_kid
from issuer.clock import instant
from issuer.database.errors import DatabaseDamaged
from issuer.services import Issuer
from issuer.tokens.session_events import SessionEvents

DIGEST = re.compile(r"[0-9a-f]{64}")
Noted = Annotated[
    str | None,
    typer.Option(help="A digest that was stored elsewhere; fail unless the audit log still has it."),
]

app = typer.Typer(help="Read the audit log: everything that happened to the keys.", no_args_is_help=True)


@app.command("list")
def list_entries(
    *,
    last: Annotated[
        int,
        typer.Option(min=1, max=1_000_000, metavar="NUMBER", help="How many of the newest entries to show."),
    ] = 50,
    as_json: Json = False,
) -> None:
    """Show the newest entries: when, who, what, which key, which version of the ring, and why.

    Events of sessions are listed separately: issuer audit sessions.
    """
    with opened(Access.READ) as issuer:
        links, damaged = issuer.keys.audit.readable()
        shown = links[-last:]
        sums, damaged_sums = issuer.tokens.session_events.newest(last)
        lines = [] if shown else ["no entries yet"]
        if sums:
            lines.append(
                "used refresh tokens were presented again; to see how often and whose: issuer audit sessions"
            )
        show(
            {
                "entries": [_described(link) for link in shown],
                "total": len(links),
                "sessions": [_summed(each) for each in sums],
            },
            as_json=as_json,
            rows=[_brief(link) for link in shown],
            message="\n".join(lines),
            damaged=[*damaged, *damaged_sums],
        )


@app.command()
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
            {"sessions": [_summed(each) for each in sums]},
            as_json=as_json,
            rows=[_brief_sum(each, names[each.user_id]) for each in sums],
            message="" if sums else "no events in the last 90 days",
            damaged=damaged,
        )


@app.command()
def verify(
    *,
    noted: Noted = None,
    as_json: Json = False,
) -> None:
    """Check that no entry was changed, added or moved, and none removed within the chain; exit 1 otherwise.

    An attacker who can write the database can also remove the newest entries, or replace the whole chain. That is
    detected up to the entry that was recorded with the private keys (in ring.json or the PKCS#11 token) at the latest
    change of the key ring. To cover later entries, and with ISSUER_KEYS=database all of them, keep the digest
    elsewhere and pass it as --noted.
    """
    if noted is not None and not DIGEST.fullmatch(noted.strip()):
        raise typer.BadParameter(
            "--noted takes a digest as `issuer audit verify` prints it: 64 digits and letters a to f"
        )
    with opened(Access.READ) as issuer:
        links, head = issuer.keys.audit.chain()
        problem = integrity_error(links, head)
        if problem is None and noted is not None and noted.strip() not in {link.digest for link in links}:
            problem = (
                "no entry has the noted digest: the audit log was replaced, or an older backup was restored"
            )
        problem = problem or issuer.keys.rotation.checkpoint.audit_error()
        if problem is not None:
            raise CommandError(f"the audit log is not intact: {problem}")
        compared = issuer.keys.rotation.checkpoint.audit_number()
        scope = (
            "there is no checkpoint outside the database to compare it with"
            if compared is None
            else f"the first {compared} were compared with the checkpoint with the private keys"
        )
        show(
            {"entries": head.number, "digest": head.digest, "noted_entries": compared},
            as_json=as_json,
            message=f"the audit log is intact: {head.number} entries, {scope}; note this digest elsewhere:"
            f" {head.digest}",
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


def _summed(sums: SessionEvents) -> Row:
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


def _brief(link: Link) -> Row:
    entry = link.entry
    return {
        "at": instant(entry.at),
        "action": entry.action,
        "kid": short_kid(entry.kid or ""),
        "ring": entry.ring_version,
        "actor": entry.actor,
        "reason": entry.reason,
    }
