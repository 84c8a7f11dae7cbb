"""`issuer move`: moves everything into another database, including private keys in files."""

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from issuer.cli.output import CommandError, Json, operator, require_existing, show, warn
from issuer.cli.private_keys import line_of
from issuer.cli.terminal import error_console, is_animated
from issuer.clock import system_clock
from issuer.database.database import Database
from issuer.database.errors import DatabaseUnavailable
from issuer.fixes import assignment
from issuer.maintenance import copy
from issuer.maintenance.move import Contents, Move, Place, undo_move
from issuer.settings.loading import load_settings
from issuer.settings.settings import Settings
from issuer.signers import pem_storage_for, signer_for

URL = "URL of the new database"


def move(
    *,
    to_file: Annotated[
        Path | None,
        typer.Option(help="A file with the URL of the new database; asked for on a terminal without it."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check that the move is possible, and change nothing.")
    ] = False,
    back: Annotated[
        bool,
        typer.Option(
            "--back", help="Use the old database again; only before anything was issued from the new one."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Move everything into another, empty database: all tables, and private keys that are in files.

    Stop all nodes first. The copy is one transaction, which is counted and verified before it is committed. Private
    keys keep their passphrase; those in a PKCS#11 token stay there. Afterwards the old database refuses to start.
    """
    if back and (dry_run or to_file is not None):
        raise typer.BadParameter("--back takes neither --dry-run nor --to-file")
    settings = load_settings()
    with closing(Database(settings.database_url.get_secret_value())) as old:
        require_existing(settings, upgraded=False)
        if back:
            _go_back(old, as_json=as_json)
            return
        with closing(_new_database(to_file)) as new:
            planned = _planned(settings, old, new)
            contents = planned.preview()
            if not dry_run:
                with _progress(contents, as_json=as_json) as progress:
                    contents = planned.perform(progress)
            _show(contents, old, new, settings, dry_run=dry_run, as_json=as_json)


def _planned(settings: Settings, old: Database, new: Database) -> Move:
    in_token = settings.keys == "pkcs11"
    after = settings if in_token else settings.model_copy(update={"keys": "database"})
    return Move(
        Place(old, signer_for(settings, old)),
        Place(new, signer_for(after, new)),
        None if in_token else pem_storage_for(settings, old),
        settings.policy(),
        system_clock,
        operator(),
    )


def _new_database(file: Path | None) -> Database:
    """Return the database whose URL is in a file, or is typed without echo because it may contain a password."""
    if file is None and not sys.stdin.isatty():
        raise CommandError("no terminal to ask for the URL of the new database; give --to-file")
    url = line_of(file) if file else str(typer.prompt(URL, hide_input=True, err=True))
    try:
        return Database(url)
    except DatabaseUnavailable as error:  # the message names the setting
        raise CommandError(str(error).replace("ISSUER_DATABASE_URL", f"the {URL}")) from None


@contextmanager
def _progress(contents: Contents, *, as_json: bool) -> Iterator[copy.Progress]:
    """Yield the callback of a move; it draws a progress bar on a terminal."""
    if not is_animated(as_json=as_json):
        yield lambda _table, _rows: None
        return
    with Progress(console=error_console(), transient=True) as drawn:
        task = drawn.add_task("rows", total=sum(contents.rows.values()))
        yield lambda table, rows: drawn.update(task, description=table, advance=rows)


def _show(
    contents: Contents, old: Database, new: Database, settings: Settings, *, dry_run: bool, as_json: bool
) -> None:
    keys = [f"the directory {settings.key_directory}"] if settings.key_directory else []
    url = str(new).replace(":***@", ":PASSWORD@")
    assignments = [
        assignment("ISSUER_DATABASE_URL", url),
        *(["ISSUER_KEYS=database"] if settings.keys != "pkcs11" else []),
    ]
    moved = f"{sum(contents.rows.values())} rows and {contents.private_keys} private keys"
    lines = [
        f"moved to {new}: {moved}; row counts match, the audit log verifies, every published key signs",
        "set this for every node, in .env or the environment; replace PASSWORD, and add the options of the new URL:",
        *assignments,
        f"{old} refuses to start from now on; to undo this before the new one is used: issuer move --back",
        f"once everything works, delete {' and '.join([str(old), *keys])}",
    ]
    document = {
        "moved": not dry_run,
        "from": str(old),
        "to": str(new),
        "rows": dict(contents.rows),
        "private_keys": contents.private_keys,
        "settings": assignments,
    }
    lines = [f"{moved} would be moved to {new}; nothing was changed"] if dry_run else lines
    show(
        document,
        as_json=as_json,
        rows=[{"table": name, "rows": count} for name, count in contents.rows.items() if count],
        message="\n".join(lines),
    )
    if contents.audit_fault:
        warn(f"the audit log was not intact before the move either: {contents.audit_fault}")


def _go_back(old: Database, *, as_json: bool) -> None:
    to = undo_move(old, operator(), system_clock())
    show(
        {"from": to, "to": str(old)},
        as_json=as_json,
        message=f"{old} may be used again, with the settings from before; what was written to {to} is not here:"
        " start nothing there, and destroy it",
    )
