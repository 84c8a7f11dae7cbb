"""`issuer keys`: watch, rotate and revoke signing keys."""

import sys
from datetime import datetime
from typing import Annotated

import typer

from issuer.cli.output import CommandError, Json, Row, opened, show
from issuer.keyring import Key, KeyRing
from issuer.policy import Policy, instant
from issuer.wiring import Issuer

app = typer.Typer(help="Watch, rotate and revoke signing keys.", no_args_is_help=True)

# One kid in 64 begins with a dash; it is a kid all the same.
KID_SHOWN = 12
KID = {"ignore_unknown_options": True}


@app.command("list")
def list_keys(*, as_json: Json = False) -> None:
    """Show each key: its phase, since when it signs, and when it leaves the JWKS."""
    with opened() as issuer:
        ring = issuer.rotation.ring()
        _show_ring(issuer, ring, as_json=as_json)


@app.command()
def rotate(*, as_json: Json = False) -> None:
    """Let the standby sign from now on, and publish a new standby.

    Refused (exit 3) until the standby has been published for ISSUER_PUBLISH_LEAD.
    """
    with opened() as issuer:
        ring = issuer.rotation.change(lambda ring, now: ring.promoted(issuer.policy, now))
        kid = ring.current(issuer.clock()).kid
        _show_ring(
            issuer, ring, as_json=as_json, says=f"{kid} signs now; running nodes follow within 2 seconds"
        )


@app.command(context_settings=KID)
def revoke(
    kid: Annotated[str, typer.Argument(help="The kid, or any unique beginning of it.")],
    *,
    reason: Annotated[str, typer.Option(help="Why; kept with the key.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Distrust a key: it leaves the JWKS, never signs again, and its private half is destroyed.

    If it is the current one, the standby signs from now on and a new standby is published, in one step.
    """
    with opened() as issuer:
        key = issuer.rotation.ring().find(kid)
        if not yes:
            _confirm(key)
        ring = issuer.rotation.change(lambda ring, now: ring.revoked(key.kid, reason, issuer.policy, now))
        _show_ring(
            issuer, ring, as_json=as_json, says=_consequences(ring, key, issuer.policy, issuer.clock())
        )


def _confirm(key: Key) -> None:
    if not sys.stdin.isatty():
        raise CommandError("revoking asks for confirmation; give --yes in scripts")
    typed = typer.prompt(f"Type the first 6 characters of {key.kid} to revoke it")
    if typed != key.kid[:6]:
        raise CommandError("that is not how the kid begins; nothing was done")


def _consequences(ring: KeyRing, key: Key, policy: Policy, now: datetime) -> str:
    revoked = ring.find(key.kid)
    current = ring.current(now)
    refused_from = instant(ring.refused_from(revoked, policy) or now)
    outage = (
        (revoked.revoked_at or now) + policy.publish_without_database + policy.max_age + policy.clock_skew
    )
    lines = [
        f"{key.kid} is revoked; {current.kid} signs",
        f"every verifier that honours max-age refuses its tokens from {refused_from} on;",
        f"a node that has lost the database may publish it until {instant(outage)}",
    ]
    ripe_at = ring.ripe_at(current)
    if current.activates_at == revoked.revoked_at and ripe_at > now:
        lines.append(
            f"warning: {current.kid} was published only at {instant(current.published_at)}; a verifier that"
            f" fetched before may refuse its tokens until {instant(ripe_at)}"
        )
    return "\n".join(lines)


def _show_ring(issuer: Issuer, ring: KeyRing, *, as_json: bool, says: str = "") -> None:
    now = issuer.clock()
    described = [describe(key, ring, issuer.policy, now) for key in ring.keys]
    ripe_at = min((ring.ripe_at(key) for key in ring.standbys(now)), default=None)
    show(
        {"version": ring.version, "keys": described, "message": says},
        as_json=as_json,
        rows=[brief(row) for row in described],
        says=says or _hint(ripe_at, now),
    )


def _hint(ripe_at: datetime | None, now: datetime) -> str:
    if ripe_at is None:
        return "there is no standby: no issuer has been running; the next start publishes one"
    return "rotating by hand is allowed " + ("now" if ripe_at <= now else f"from {instant(ripe_at)} on")


def brief(row: Row) -> Row:
    """Return of `row` what fits a terminal of 80 columns; commands take this much of a kid as well."""
    return {
        "phase": row["phase"],
        "kid": str(row["kid"])[:KID_SHOWN],
        "signs from": row["signs_from"],
        "leaves the JWKS": row["leaves_jwks_at"],
    }


def describe(key: Key, ring: KeyRing, policy: Policy, now: datetime) -> Row:
    """Return what an operator wants to know of `key` at `now`; instants are RFC 3339, in UTC."""
    phase = ring.phase(key, now)
    leaves_at = key.revoked_at or ring.leaves_at(key)
    refused_from = ring.refused_from(key, policy)
    return {
        "phase": phase.value,
        "kid": key.kid,
        "alg": key.alg,
        "published_at": instant(key.published_at),
        "may_sign_from": instant(ring.ripe_at(key)),
        "signs_from": instant(key.activates_at) if key.activates_at else "by hand",
        "leaves_jwks_at": instant(leaves_at) if leaves_at else None,
        "revoked_at": instant(key.revoked_at) if key.revoked_at else None,
        "revoked_reason": key.revoked_reason,
        "refused_from": instant(refused_from) if refused_from else None,
    }
