"""`issuer users import`: imports users with their password hashes, all of a file or none."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TextIO

import typer

from issuer.accounts.user import USERNAME_LENGTH
from issuer.administration.user_import import RowError, find_conflicts, read_rows
from issuer.audit.event import EventAction
from issuer.cli.output import Access, CommandError, Exit, Json, opened, show
from issuer.cli.terminal import status
from issuer.logs import terminal_safe

ERRORS_SHOWN = 20
STDIN = Path("-")


def import_users(
    file: Annotated[
        Path, typer.Argument(help="CSV in UTF-8: username,password_hash,scope[,id]; - is standard input.")
    ],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the file, and make no account.")] = False,
    as_json: Json = False,
) -> None:
    """Import users from another system with their password hashes: all of them, or none if a line is invalid.

    Hashes are argon2, scrypt, bcrypt, bcrypt_sha256, pbkdf2_sha256 or pbkdf2_sha512 as passlib writes them, and are
    replaced by argon2id at the first log-in. The id, a UUID, becomes the sub of tokens; without it a new one is made.
    Remove the file afterwards.
    """
    with opened(Access.READ if dry_run else Access.MAKE) as issuer, _lines(file) as lines:
        with status("reading the file", as_json=as_json) as progress:
            try:
                rows, errors = read_rows(lines, issuer.accounts.passwords, issuer.clock())
            except UnicodeDecodeError:
                raise CommandError(f"{file} is not UTF-8") from None
            users = "1 user" if len(rows) == 1 else f"{len(rows)} users"
            progress(f"checking {users}")
            errors += find_conflicts(rows, issuer.accounts.store)
            if not errors and not dry_run:
                progress(f"saving {users}")
                imported = [row.user for row in rows]
                events = [issuer.event(EventAction.USER_IMPORTED, user_id=user.id) for user in imported]
                issuer.accounts.store.add_all(imported, events)
        if errors:
            _refuse(sorted(errors, key=lambda error: error.line), as_json=as_json)
        done = "accounts that would be made" if dry_run else "accounts made"
        more = "" if dry_run or file == STDIN else f"; remove {file}"
        show(
            {"imported": 0 if dry_run else len(rows), "users": len(rows), "dry_run": dry_run},
            as_json=as_json,
            message=f"{done}: {len(rows)}{more}",
        )


@contextmanager
def _lines(file: Path) -> Iterator[TextIO]:
    if file == STDIN:
        sys.stdin.reconfigure(encoding="utf-8-sig", errors="strict", newline="")  # type: ignore[union-attr]
        yield sys.stdin
        return
    with file.open(encoding="utf-8-sig", newline="") as lines:
        yield lines


def _refuse(errors: Sequence[RowError], *, as_json: bool) -> None:
    """Print the first errors, or all as JSON, and end the command."""
    message = f"no account was created; errors in the file: {len(errors)}"
    if as_json:
        found = [{"line": error.line, "username": error.username, "wrong": error.reason} for error in errors]
        show({"error": "failed", "message": message, "faults": found}, as_json=True)
        raise typer.Exit(Exit.FAILED)
    for error in errors[:ERRORS_SHOWN]:
        name = terminal_safe(error.username[: USERNAME_LENGTH + 1])
        shown = f", {name!r}" if name else ""
        sys.stderr.write(f"line {error.line}{shown}: {terminal_safe(error.reason)}\n")
    if len(errors) > ERRORS_SHOWN:
        sys.stderr.write(f"and {len(errors) - ERRORS_SHOWN} more\n")
    raise CommandError(message)
