"""`issuer keys revoke`: revokes a key, waits for the nodes, and reports from when every verifier refuses it."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Annotated

import typer

from issuer.administration.sessions import end_all_sessions
from issuer.cli.output import Access, CommandError, Json, opened
from issuer.cli.ring_view import require_reason, show_ring, unripe
from issuer.cli.terminal import SHORTENED, short_kid, status
from issuer.clock import instant
from issuer.errors import NothingToDo, Refused
from issuer.keyring.heartbeat import Acknowledgement
from issuer.keyring.key import Key
from issuer.keyring.ring import KeyRing
from issuer.services import Issuer

POLL_SECONDS = 0.2
CONFIRMED_BY = 6

Kid = Annotated[str, typer.Argument(help="The kid, or any unique beginning of it.")]
Reason = Annotated[str, typer.Option(help="The reason, kept with the key and in the audit log.")]
Compromised = Annotated[bool, typer.Option("--compromised", help="The private key may be known to others.")]
EndSessions = Annotated[
    bool, typer.Option("--end-sessions", help="Also end all sessions: all users must log in again.")
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Proceed even if none of the remaining private keys can be opened here."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


def revoke(
    kid: Kid,
    *,
    reason: Reason,
    compromised: Compromised = False,
    end_sessions: EndSessions = False,
    force: Force = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Revoke a key: it leaves the JWKS, never signs again, and its private key is removed.

    If it is the current one, the standby signs from now on and a new standby is published, in one step. Waits until
    every running node has picked up the change, and prints from when every verifier refuses the key.
    """
    require_reason(reason)
    prefix = _without_mark(kid)
    with opened(Access.CHANGE) as issuer:
        key = issuer.keys.rotation.ring().find(prefix)
        if not yes and key.revoked_at is None:
            _confirm(key)
        with status("revoking the key", as_json=as_json) as progress:
            ring, already = _revoked(issuer, key, reason, compromised=compromised, force=force)
            ended = _end_sessions(issuer, reason) if end_sessions else None
            acknowledgement = _await_nodes(issuer, ring.version, progress)
        refused_from = instant(acknowledgement.refused_from)
        if already and ended is None:
            raise NothingToDo(
                f"{already}; every verifier that honours max-age refuses it from {refused_from} on"
            )
        show_ring(
            issuer,
            ring,
            as_json=as_json,
            lines=_report(issuer, ring, ring.find(key.kid), acknowledgement, ended),
            refused_from=refused_from,
            acknowledged=len(acknowledgement.done),
            refresh_families=issuer.tokens.families.count_active(issuer.clock()),
        )


def _without_mark(kid: str) -> str:
    """Return a kid as copied from a table, where a long one is shortened and marked."""
    prefix = kid.removesuffix(SHORTENED)
    if not prefix:
        raise typer.BadParameter("the kid is empty")
    return prefix


def _revoked(
    issuer: Issuer, key: Key, reason: str, *, compromised: bool, force: bool
) -> tuple[KeyRing, NothingToDo | None]:
    """Revoke the key; return the ring, and the error to raise if it was revoked before."""
    try:
        ring = issuer.keys.rotation.change(
            lambda ring, now: ring.revoked(key.kid, reason, issuer.policy, now, compromised=compromised),
            emergency=True,
            skip_open_check=force,
        )
    except NothingToDo as already:
        issuer.keys.rotation.sync_private_keys()  # perhaps it was interrupted
        return issuer.keys.rotation.ring(), already
    return ring, None


def _report(
    issuer: Issuer, ring: KeyRing, key: Key, acknowledgement: Acknowledgement, ended: int | None
) -> list[str]:
    now = issuer.clock()
    refused_from, done = instant(acknowledgement.refused_from), len(acknowledgement.done)
    return [
        f"{key.kid} is revoked; {ring.current(now).kid} signs",
        _removal(issuer, key),
        f"picked up by {done} of {done + len(acknowledgement.silent)} processes",
        f"every verifier that honours max-age refuses its tokens from {refused_from} on",
        *(
            [f"warning: {issuer.keys.rotation.generation_error}"]
            if issuer.keys.rotation.generation_error
            else []
        ),
        *_silent(acknowledgement),
        *unripe(ring, now),
        *_rollback_hint(issuer, ring, now),
        *_forgery_warning(key, refused_from),
        _sessions(ended, issuer.tokens.families.count_active(now)),
    ]


def _confirm(key: Key) -> None:
    if not sys.stdin.isatty():
        raise CommandError("revoking asks for confirmation; give --yes in scripts")
    typed = typer.prompt(
        f"Type the first {CONFIRMED_BY} characters of {short_kid(key.kid)} to revoke it", err=True
    )
    if typed != key.kid[:CONFIRMED_BY]:
        raise CommandError("the kid begins differently; nothing was changed")


def _await_nodes(issuer: Issuer, version: int, progress: Callable[[str], None]) -> Acknowledgement:
    """Wait until each running process has acknowledged `version` or has stopped signing."""
    while True:
        acknowledgement = Acknowledgement.of(
            issuer.keys.heartbeats.all(), version, issuer.policy, issuer.clock()
        )
        waiting = acknowledgement.waiting
        if not waiting:
            return acknowledgement
        names = ", ".join(beat.name for beat in waiting)
        progress(f"it is revoked; waiting for {names} to load the key ring")
        time.sleep(POLL_SECONDS)


def _removal(issuer: Issuer, key: Key) -> str:
    if failure := issuer.keys.rotation.private_keys.destruction_errors.get(key.kid):
        return f"warning: {failure}"
    if not issuer.keys.rotation.private_keys.destroyed.get(key.kid):
        return "no private key was found here: a node has removed it already, or it is kept elsewhere"
    settings = issuer.settings
    if settings.keys == "pkcs11":
        return "its private key is removed from the token; backups of the token may still hold it"
    is_encrypted = settings.passphrase()
    copies = "copies that open with the passphrase of their time" if is_encrypted else "unencrypted copies"
    if settings.keys == "database":
        return (
            f"its private key is removed from the database; {copies} may remain in the write-ahead log, in replicas"
            " and in backups"
        )
    return (
        f"its private key file is removed; {copies} may remain in backups and in deleted blocks of the disk"
    )


def _silent(acknowledgement: Acknowledgement) -> Iterator[str]:
    for beat in acknowledgement.silent:
        yield (
            f"warning: {beat.name} has not answered since {instant(beat.refreshed_at)}: stop it; if it runs, cut off"
            f" from the database, what it serves may hold the key until {instant(beat.served_until)}"
        )


def _rollback_hint(issuer: Issuer, ring: KeyRing, now: datetime) -> Iterator[str]:
    """Yield a hint to roll back, if not every verifier may know the current key yet."""
    if ring.current(now).may_sign_from > now:
        with suppress(Refused):
            older = ring.rolled_back(issuer.policy, now).current(now)
            yield f"every verifier knows {older.kid}, which can sign instead: issuer keys rollback"


def _forgery_warning(key: Key, refused_from: str) -> Iterator[str]:
    if key.compromised:
        yield (
            f"until {refused_from} anyone with the private key can forge tokens that verifiers accept: search the log"
            f" of each service for the kid '{key.kid}'"
        )


def _end_sessions(issuer: Issuer, reason: str) -> int:
    return end_all_sessions(issuer.tokens.families, issuer.keys.audit, issuer.actor, reason, issuer.clock())


def _sessions(ended: int | None, living: int) -> str:
    if ended is None:
        stay = "1 session stays" if living == 1 else f"{living} sessions stay"
        return f"{stay} valid: refresh tokens are not signed by this key (--end-sessions ends them)"
    return f"{ended} session{'s' * (ended != 1)} ended: all users must log in again"
