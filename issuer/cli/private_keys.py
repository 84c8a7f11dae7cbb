"""`issuer keys import|rewrap|verify`: commands on private keys; none of them prints one."""

import stat
import sys
from pathlib import Path
from typing import Annotated

import typer

from issuer.audit.chain import Action, Entry
from issuer.cli.output import Access, CommandError, Json, opened, show, warn
from issuer.cli.ring_view import show_ring
from issuer.cli.tables import Row
from issuer.cli.terminal import short_kid, status
from issuer.clock import instant
from issuer.errors import KeyUnavailable, NothingToDo
from issuer.keyring.key import Key
from issuer.keyring.ring import PUBLISHED, Phase
from issuer.services import Issuer
from issuer.settings.loading import load_settings
from issuer.settings.passphrase import (
    LEAST_CHARACTERS,
    BadPassphrase,
    is_short,
    read_passphrase,
    require_usable,
)
from issuer.signing.algorithms import ALGORITHMS, PrivateKey
from issuer.signing.key_import import PassphraseNeeded, algorithm_for, read_private_key
from issuer.signing.self_test import prove

NEW = "New passphrase"
OPEN_TO_OTHERS = 0o077
FILE_MOST_BYTES = 64 * 1024


def import_key(
    pem: Annotated[
        Path, typer.Argument(help="A PEM file with one private key: RSA, EC on P-256, or Ed25519.")
    ],
    *,
    current: Annotated[
        bool, typer.Option("--current", help="Create a new key ring in which this key signs immediately.")
    ] = False,
    passphrase_file: Annotated[
        Path | None, typer.Option(help="A file with the passphrase of the PEM.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Import an existing private key as a standby, or with --current as the first key of a new ring.

    Its kid here is its RFC 7638 thumbprint. Weak keys are refused (exit 3).
    """
    key = _read(pem, passphrase_file)
    with opened(Access.MAKE if current else Access.CHANGE) as issuer:
        alg = algorithm_for(key, issuer.settings.algorithm)
        public = ALGORITHMS[alg].public_key(key)
        issuer.keys.rotation.require_importable(public, current=current)
        try:
            issuer.keys.signer.import_key(key, alg)
        except KeyUnavailable:
            # It may have been imported concurrently.
            issuer.keys.rotation.require_importable(public, current=current)
            raise
        ring = issuer.keys.rotation.import_key(public, current=current, reason=f"imported from {pem.name}")
        may_sign_from = ring.find(public.kid).may_sign_from
        does = "signs" if current else f"is published, and may sign from {instant(may_sign_from)} on"
        show_ring(issuer, ring, as_json=as_json, lines=[f"{public.kid} {does}"], warnings=_exposed(pem))


def rewrap(
    *,
    new_passphrase_file: Annotated[
        Path | None, typer.Option(help="A file with the new passphrase; asked for on a terminal without it.")
    ] = None,
    same_passphrase: Annotated[
        bool,
        typer.Option(
            "--same-passphrase",
            help="Keep the passphrase: encrypt keys that are unencrypted, or were encrypted by an older version.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Encrypt all private keys with a new passphrase while nodes run; if interrupted, run it again.

    Afterwards set the new one in ISSUER_KEYS_PASSPHRASE_FILE, which running nodes read again, or restart them one by
    one with the new ISSUER_KEYS_PASSPHRASE. Until then they continue to sign, but create no new keys.
    """
    if same_passphrase and new_passphrase_file is not None:
        raise typer.BadParameter("--same-passphrase and --new-passphrase-file contradict each other")
    new = _current_passphrase() if same_passphrase else _new_passphrase(new_passphrase_file)
    with opened(Access.CHANGE) as issuer:
        _record(issuer, "begun")  # the audit entry comes first: without it nothing is changed
        with status("re-encrypting the private keys", as_json=as_json):
            count = issuer.keys.signer.rewrap(new)
        _record(issuer, f"{count} private keys")
        if not count:
            raise NothingToDo("all private keys are already encrypted with that passphrase")
        message = f"{count} private keys re-encrypted"
        if not same_passphrase:
            message += (
                ": give the new passphrase to the nodes now, in ISSUER_KEYS_PASSPHRASE_FILE (they read it again) or"
                " ISSUER_KEYS_PASSPHRASE (restart them one by one)"
            )
        show({"rewrapped": count}, as_json=as_json, message=message)


def verify(*, as_json: Json = False) -> None:
    """Check every private key by signing and verifying with it; exit 1 if one fails."""
    with opened(Access.READ) as issuer:
        ring, now = issuer.keys.rotation.ring(), issuer.clock()
        keys = [key for key in ring.keys if ring.phase(key, now) in PUBLISHED]
        with status("testing the private keys", as_json=as_json):
            rows = [_proven(issuer, key, ring.phase(key, now)) for key in keys]
        strays = issuer.keys.signer.orphans([key.kid for key in keys])
        bad = sum(row["result"] != "ok" for row in rows)
        show(
            {"keys": rows, "strays": strays},
            as_json=as_json,
            rows=[{**row, "kid": short_kid(str(row["kid"]))} for row in rows],
            message=f"{bad} of {len(rows)} private keys failed"
            if bad
            else f"{len(rows)} of {len(rows)} private keys OK",
        )
        if strays and not as_json:
            warn(
                f"these belong to no key of the ring (one is being made, or a crash left it): {', '.join(strays)}"
            )
        if bad:
            raise typer.Exit(1)


def _record(issuer: Issuer, how_far: str) -> None:
    issuer.keys.audit.record(Entry(issuer.clock(), issuer.actor, Action.REWRAPPED, reason=how_far))


def _proven(issuer: Issuer, key: Key, phase: Phase) -> Row:
    try:
        prove(issuer.keys.signer, key)
        result = "ok"
    except KeyUnavailable as error:
        result = str(error)
    return {"phase": phase.value, "kid": key.kid, "alg": key.alg, "result": result}


def _read(pem: Path, passphrase_file: Path | None) -> PrivateKey:
    text = content_of(pem)
    passphrase = line_of(passphrase_file) if passphrase_file else None
    try:
        return read_private_key(text, passphrase)
    except PassphraseNeeded:
        if not sys.stdin.isatty():
            raise CommandError(f"{pem} is encrypted; give --passphrase-file") from None
    return read_private_key(text, typer.prompt("Passphrase of the PEM", hide_input=True, err=True))


def _new_passphrase(file: Path | None) -> str:
    if file is None and not sys.stdin.isatty():
        raise CommandError("no terminal to ask for the passphrase; give --new-passphrase-file")
    try:
        if file is not None:
            new = read_passphrase(file, "--new-passphrase-file")
        else:
            new = str(typer.prompt(NEW, hide_input=True, confirmation_prompt=True, err=True))
        require_usable(new)
    except BadPassphrase as error:
        raise CommandError(str(error)) from None
    if is_short(new):
        warn(
            f"the new passphrase has fewer than {LEAST_CHARACTERS} characters: a stolen copy is easy to decrypt"
        )
    return new


def _current_passphrase() -> str:
    passphrase = load_settings().passphrase()
    if passphrase is None:
        raise CommandError("no passphrase is set: set ISSUER_KEYS_PASSPHRASE_FILE or ISSUER_KEYS_PASSPHRASE")
    return passphrase


def line_of(file: Path) -> str:
    """Return the secret in a file, without its line end; raise CommandError."""
    try:
        return content_of(file).decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise CommandError(f"{file} is not UTF-8") from None


def content_of(file: Path) -> bytes:
    """Return the content of a regular file; raise CommandError if it is too large."""
    require_file(file)
    if file.stat().st_size > FILE_MOST_BYTES:
        raise CommandError(f"the file has more than {FILE_MOST_BYTES} bytes: {file}")
    return file.read_bytes()


def require_file(file: Path) -> None:
    """Raise OSError if the path does not exist, or CommandError if it is not a regular file."""
    if not stat.S_ISREG(file.stat().st_mode):
        raise CommandError(f"not a regular file: {file}")


def _exposed(pem: Path) -> list[str]:
    if pem.stat().st_mode & OPEN_TO_OTHERS:
        return [f"others on this machine may read {pem}: remove it, and consider the key compromised"]
    return [f"{pem} still contains the private key: remove it"]
