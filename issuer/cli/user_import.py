"""`issuer users import`: take in users from elsewhere with their passwords, all of a file or none."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TextIO

import typer

from issuer.accounts.user import USERNAME_LENGTH
from issuer.administration.user_import import Fault, clashes, read_arrivals
from issuer.cli.output import Access, CommandError, Exit, Json, opened, show
from issuer.logs import harmless

FAULTS_SHOWN = 20
STDIN = Path("-")


def import_users(
    file: Annotated[
        Path, typer.Argument(help="CSV in UTF-8: username,password_hash,scope[,id]; - is standard input.")
    ],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the file, and make no account.")] = False,
    as_json: Json = False,
) -> None:
    """Make accounts for users from elsewhere, who keep their passwords; all of them, or none if a line is wrong.

    Hashes are argon2, scrypt, bcrypt, bcrypt_sha256, pbkdf2_sha256 or pbkdf2_sha512 as passlib writes them, and are
    replaced by argon2id at the first log-in. The id, a UUID, becomes the sub of tokens; without it a new one is made.
    Remove the file afterwards.
    """
    with opened(Access.READ if dry_run else Access.MAKE) as issuer, _lines(file) as lines:
        try:
            arrivals, faults = read_arrivals(lines, issuer.accounts.passwords, issuer.clock())
        except UnicodeDecodeError:
            raise CommandError(f"{file} is not UTF-8") from None
        faults += clashes(arrivals, issuer.accounts.store)
        if faults:
            _refuse(sorted(faults, key=lambda fault: fault.line), as_json=as_json)
        if not dry_run:
            issuer.accounts.store.add_all([arrival.user for arrival in arrivals])
        done = "accounts that would be made" if dry_run else "accounts made"
        more = "" if dry_run or file == STDIN else f"; remove {file}"
        show(
            {"imported": 0 if dry_run else len(arrivals), "users": len(arrivals), "dry_run": dry_run},
            as_json=as_json,
            says=f"{done}: {len(arrivals)}{more}",
        )


@contextmanager
def _lines(file: Path) -> Iterator[TextIO]:
    if file == STDIN:
        sys.stdin.reconfigure(encoding="utf-8-sig", errors="strict", newline="")  # type: ignore[union-attr]
        yield sys.stdin
        return
    with file.open(encoding="utf-8-sig", newline="") as lines:
        yield lines


def _refuse(faults: Sequence[Fault], *, as_json: bool) -> None:
    """Tell what is wrong, all of it to a script, and end the command."""
    message = f"no account was made; faults in the file: {len(faults)}"
    if as_json:
        found = [{"line": fault.line, "username": fault.username, "wrong": fault.wrong} for fault in faults]
        show({"error": "failed", "message": message, "faults": found}, as_json=True)
        raise typer.Exit(Exit.FAILED)
    for fault in faults[:FAULTS_SHOWN]:
        name = harmless(fault.username[: USERNAME_LENGTH + 1])
        told = f", {name!r}" if name else ""
        sys.stderr.write(f"line {fault.line}{told}: {harmless(fault.wrong)}\n")
    if len(faults) > FAULTS_SHOWN:
        sys.stderr.write(f"and {len(faults) - FAULTS_SHOWN} more\n")
    raise CommandError(message)
