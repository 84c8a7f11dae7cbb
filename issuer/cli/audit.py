"""`issuer audit`: verifies the audit log of keys, and prints its head; what lists both logs is in `audit_search`."""

import re
from collections.abc import Sequence
from typing import Annotated

import typer

from issuer.audit.chain import EMPTY, Link, integrity_error
from issuer.cli import audit_search, audit_sessions
from issuer.cli.output import Access, CommandError, Json, opened, show
from issuer.errors import NothingToDo

NOTED = re.compile(r"(?:([0-9]{1,10})\s+)?([0-9a-f]{64})", re.ASCII)
Noted = Annotated[
    str | None,
    typer.Option(
        help="What `issuer audit head` printed, or its digest alone; fail unless the log still has that entry."
    ),
]

app = typer.Typer(
    help="Read what happened to keys, accounts and clients.",
    no_args_is_help=True,
)


app.command("list")(audit_search.list_entries)
app.command("export")(audit_search.export)
app.command("sessions")(audit_sessions.sessions)


@app.command()
def verify(
    *,
    noted: Noted = None,
    as_json: Json = False,
) -> None:
    """Check that no entry about keys was changed, added or moved, none removed within the chain; exit 1 otherwise.

    An attacker who can write the database can also remove the newest entries, or replace the whole chain. That is
    detected up to the entry that was recorded with the private keys (in ring.json or the PKCS#11 token) at the latest
    change of the key ring. To cover later entries, and with ISSUER_KEYS=database all of them, keep what `issuer audit
    head` prints elsewhere and pass it as --noted. Events of accounts and clients are not in the chain.
    """
    matched = NOTED.fullmatch(noted.strip()) if noted is not None else None
    if noted is not None and not matched:
        raise typer.BadParameter(
            "--noted takes what `issuer audit head` prints, number and digest, or the digest alone: 64 digits and"
            " letters a to f"
        )
    with opened(Access.READ) as issuer:
        links, head = issuer.keys.audit.chain()
        problem = integrity_error(links, head)
        if problem is None and matched:
            problem = _noted_error(links, matched[1], matched[2])
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


@app.command()
def head(*, as_json: Json = False) -> None:
    """Print number and digest of the newest entry about keys, to be kept elsewhere.

    Whoever can write the database can replace the entries after the last one that was noted elsewhere, and nobody
    can tell: note the head where they cannot write, and pass it to `issuer audit verify --noted` later.
    """
    with opened(Access.READ) as issuer:
        newest = issuer.keys.audit.head()
        if newest == EMPTY:
            raise NothingToDo("the audit log has no entries yet")
        document = {"number": newest.number, "digest": newest.digest}
        show(document, as_json=as_json, message=f"{newest.number} {newest.digest}")


def _noted_error(links: Sequence[Link], number: str | None, digest: str) -> str | None:
    """Return that the log has no entry with a noted digest, and its number if that was noted as well."""
    noted = (link for link in links if link.digest == digest)
    if any(number is None or link.number == int(number) for link in noted):
        return None
    return "no entry has the noted digest: the audit log was replaced, or an older backup was restored"
