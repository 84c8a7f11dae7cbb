"""`issuer keys import|rewrap|verify`: what is done with private keys themselves; none of it prints one."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from issuer.audit import Action, Entry
from issuer.cli.output import CommandError, Json, Row, opened, show
from issuer.cli.ring import show_ring
from issuer.keyring import Key, KeyUnavailable, NoRing, Phase, Refused
from issuer.policy import instant
from issuer.signing.algorithms import PrivateKey
from issuer.signing.imported import PassphraseNeeded, algorithm_for, read_private_key
from issuer.signing.proof import prove
from issuer.wiring import Issuer

OPEN_TO_OTHERS = 0o077
SIGNS_STILL = frozenset({Phase.STANDBY, Phase.CURRENT, Phase.PREVIOUS})


def import_key(
    pem: Annotated[
        Path, typer.Argument(help="A PEM file with one private key: RSA, EC on P-256, or Ed25519.")
    ],
    *,
    current: Annotated[
        bool, typer.Option("--current", help="Found a new key ring, in which this key signs at once.")
    ] = False,
    passphrase_file: Annotated[
        Path | None, typer.Option(help="A file with the passphrase of the PEM.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Take in a private key made elsewhere as a standby, or with --current as the first key of a new ring.

    Its kid here is its RFC 7638 thumbprint. Weak keys are refused (exit 3).
    """
    key = _read(pem, passphrase_file)
    with opened() as issuer:
        alg = algorithm_for(key, issuer.settings.algorithm)
        _require_place(issuer, current=current)
        public = issuer.signer.adopt(key, alg)
        ring = issuer.rotation.take_in(public, current=current, reason=f"imported from {pem.name}")
        ripe_at = ring.ripe_at(ring.find(public.kid))
        does = "signs" if current else f"is published, and may sign from {instant(ripe_at)} on"
        show_ring(issuer, ring, as_json=as_json, says=[f"{public.kid} {does}"], warnings=_exposed(pem))


def rewrap(
    *,
    new_passphrase_file: Annotated[
        Path | None, typer.Option(help="A file with the new passphrase; asked for on a terminal without it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Encrypt all private keys under a new passphrase, while nodes run; interrupted, run it again.

    Afterwards put the new one in ISSUER_KEYS_PASSPHRASE_FILE, which running nodes read again, or restart them one by
    one with another ISSUER_KEYS_PASSPHRASE. Until then they sign on, and make no new keys.
    """
    new = _new_passphrase(new_passphrase_file)
    with opened() as issuer:
        count = issuer.signer.rewrap(new)
        issuer.audit.record(
            Entry(issuer.clock(), issuer.actor, Action.REWRAPPED, reason=f"{count} private keys")
        )
        show(
            {"rewrapped": count},
            as_json=as_json,
            says=f"{count} private keys are under the new passphrase: give it to the nodes now, in"
            " ISSUER_KEYS_PASSPHRASE_FILE (they read it again) or ISSUER_KEYS_PASSPHRASE (restart them one by one)",
        )


def verify(*, as_json: Json = False) -> None:
    """Check every private key by signing and verifying with it; exit 1 if one fails."""
    with opened() as issuer:
        ring, now = issuer.rotation.ring(), issuer.clock()
        keys = [key for key in ring.keys if ring.phase(key, now) in SIGNS_STILL]
        rows = [_proven(issuer, key, ring.phase(key, now)) for key in keys]
        strays = issuer.signer.strays([key.kid for key in keys])
        bad = sum(row["result"] != "ok" for row in rows)
        show(
            {"keys": rows, "strays": strays},
            as_json=as_json,
            rows=[{**row, "kid": str(row["kid"])[:12]} for row in rows],
            says=f"{bad} of {len(rows)} private keys cannot be used"
            if bad
            else f"all {len(rows)} private keys sign",
        )
        if strays and not as_json:
            sys.stderr.write(
                "warning: these belong to no key of the ring (one is being made, or a crash left it):"
                f" {', '.join(strays)}\n"
            )
        if bad:
            raise typer.Exit(1)


def _proven(issuer: Issuer, key: Key, phase: Phase) -> Row:
    try:
        prove(issuer.signer, key)
        result = "ok"
    except KeyUnavailable as error:
        result = str(error)
    return {"phase": phase.value, "kid": key.kid, "alg": key.alg, "result": result}


def _require_place(issuer: Issuer, *, current: bool) -> None:
    """Refuse before anything is made what `take_in` would refuse after."""
    try:
        issuer.rotation.ring()
    except NoRing:
        if not current:
            raise
        return
    if current:
        raise Refused(
            "there is a key ring already: import the key without --current, and it becomes a standby"
        )


def _read(pem: Path, passphrase_file: Path | None) -> PrivateKey:
    text = pem.read_bytes()
    passphrase = _line(passphrase_file) if passphrase_file else None
    try:
        return read_private_key(text, passphrase)
    except PassphraseNeeded:
        if not sys.stdin.isatty():
            raise CommandError(f"{pem} is encrypted; give --passphrase-file") from None
    return read_private_key(text, typer.prompt("Passphrase of the PEM", hide_input=True))


def _new_passphrase(file: Path | None) -> str:
    if file is None and not sys.stdin.isatty():
        raise CommandError("no terminal to ask for the passphrase; give --new-passphrase-file")
    new = _line(file) if file else typer.prompt("New passphrase", hide_input=True, confirmation_prompt=True)
    if not new:
        raise CommandError("the new passphrase is empty")
    return str(new)


def _line(file: Path) -> str:
    return file.read_text("utf-8").rstrip("\r\n")


def _exposed(pem: Path) -> list[str]:
    if pem.stat().st_mode & OPEN_TO_OTHERS:
        return [f"others on this machine may read {pem}: remove it, and think about who has seen it"]
    return [f"{pem} still holds the private key: remove it"]
