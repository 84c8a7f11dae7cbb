"""`issuer keys revoke`: distrust a key, wait for the nodes, and tell from when every verifier refuses it."""

import sys
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

import typer

from issuer.administration import end_all_sessions
from issuer.cli.output import CommandError, Json, opened
from issuer.cli.ring import show_ring, unripe
from issuer.keyring import Key
from issuer.nodes import refused_from, silent, waited_for
from issuer.policy import instant
from issuer.wiring import Issuer

POLL_SECONDS = 0.2
CONFIRMED_BY = 6


def revoke(
    kid: Annotated[str, typer.Argument(help="The kid, or any unique beginning of it.")],
    *,
    reason: Annotated[str, typer.Option(help="Why; kept with the key and in the audit.")],
    compromised: Annotated[
        bool, typer.Option("--compromised", help="Somebody else may have the private half.")
    ] = False,
    end_sessions: Annotated[
        bool, typer.Option("--end-sessions", help="Also end all refresh families: everybody logs in again.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Even if no private key that is left opens here.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Distrust a key: it leaves the JWKS, never signs again, and its private half is destroyed.

    If it is the current one, the standby signs from now on and a new standby is published, in one step. Waits until
    every running node has taken it up, and tells from when every verifier refuses the key.
    """
    with opened() as issuer:
        key = issuer.rotation.ring().find(kid)
        if not yes and key.revoked_at is None:
            _confirm(key)
        ring = issuer.rotation.change(
            lambda ring, now: ring.revoked(key.kid, reason, issuer.policy, now, compromised=compromised),
            blindly=force,
        )
        ended = _end_sessions(issuer, reason) if end_sessions else None
        acknowledged = _await_nodes(issuer, ring.version)
        now = issuer.clock()
        refused = refused_from(issuer.heartbeats.all(), ring.version, issuer.policy, now)
        living = issuer.families.count_living(now)
        lines = [
            f"{key.kid} is revoked; {ring.current(now).kid} signs",
            _private_half(issuer, key),
            f"running processes that have taken it up: {acknowledged}",
            f"every verifier that honours max-age refuses its tokens from {instant(refused)} on",
            *_silent(issuer, ring.version, now),
            *unripe(ring, now),
            *_forgeries(key, compromised=compromised, until=refused),
            _sessions(ended, living),
        ]
        show_ring(
            issuer,
            ring,
            as_json=as_json,
            says=lines,
            refused_from=instant(refused),
            acknowledged=acknowledged,
            refresh_families=living,
        )


def _confirm(key: Key) -> None:
    if not sys.stdin.isatty():
        raise CommandError("revoking asks for confirmation; give --yes in scripts")
    typed = typer.prompt(f"Type the first {CONFIRMED_BY} characters of {key.kid} to revoke it")
    if typed != key.kid[:CONFIRMED_BY]:
        raise CommandError("that is not how the kid begins; nothing was done")


def _await_nodes(issuer: Issuer, version: int) -> int:
    """Wait until each running process has acknowledged `version` or signs no more; return how many have."""
    told = 0
    while missing := waited_for(issuer.heartbeats.all(), version, issuer.policy, issuer.clock()):
        if sys.stderr.isatty() and len(missing) != told:
            sys.stderr.write(f"waiting for {', '.join(beat.name for beat in missing)}\n")
            told = len(missing)
        time.sleep(POLL_SECONDS)
    return sum(beat.version >= version for beat in issuer.heartbeats.all())


def _private_half(issuer: Issuer, key: Key) -> str:
    failure = issuer.rotation.undestroyed.get(key.kid)
    return f"warning: {failure}" if failure else "its private half is destroyed"


def _silent(issuer: Issuer, version: int, now: datetime) -> Iterator[str]:
    for beat in silent(issuer.heartbeats.all(), version, issuer.policy, now):
        yield (
            f"warning: {beat.name} has not answered since {instant(beat.refreshed_at)}: stop it; if it runs, cut off"
            f" from the database, what it serves may hold the key until"
            f" {instant(beat.published_until(issuer.policy))}"
        )


def _forgeries(key: Key, *, compromised: bool, until: datetime) -> Iterator[str]:
    if compromised:
        yield (
            f"until {instant(until)} whoever has the private half can make tokens that are accepted: look for the kid"
            f" {key.kid} in the logs of your services"
        )


def _end_sessions(issuer: Issuer, reason: str) -> int:
    return end_all_sessions(issuer.families, issuer.audit, issuer.actor, reason, issuer.clock())


def _sessions(ended: int | None, living: int) -> str:
    if ended is None:
        return f"refresh families that live on, as no key signs them: {living} (--end-sessions ends them)"
    return f"refresh families that were ended: {ended}; everybody logs in again"
