"""`issuer keys`: watch, rotate and roll back signing keys; revoking and private keys are sibling modules."""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Annotated

import typer

from issuer.cli import private_keys, recover, revoke, timeline, verifiers
from issuer.cli.output import Access, Json, opened, show
from issuer.cli.ring_view import require_reason, running, show_ring, unripe
from issuer.cli.tables import Row
from issuer.cli.terminal import console, status
from issuer.cli.verifiers import Census
from issuer.clock import instant
from issuer.keyring.heartbeat import Heartbeat
from issuer.keyring.plan import plan
from issuer.keyring.policy import Policy
from issuer.keyring.ring import KeyRing
from issuer.services import Issuer

app = typer.Typer(help="Show, rotate and revoke signing keys.", no_args_is_help=True)

# One kid in 64 begins with a dash; it must not be read as an option.
KID = {"ignore_unknown_options": True}

DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would happen, and change nothing.")]
Force = Annotated[
    bool, typer.Option("--force", help="Proceed even if verifiers may not have the key yet; needs --reason.")
]
Reason = Annotated[str | None, typer.Option(help="The reason, kept in the audit log.")]

Choose = Callable[[KeyRing, Policy, datetime], KeyRing]
"""A rule of the ring that makes another key sign; raises Refused."""


@app.command("list")
def list_keys(*, as_json: Json = False) -> None:
    """Show each key: its phase, since when it signs, and when it leaves the JWKS, as its last token has expired."""
    with opened(Access.READ) as issuer:
        ring = issuer.keys.rotation.ring()
        now = issuer.clock()
        may_sign_from = min((key.may_sign_from for key in ring.standbys(now)), default=None)
        show_ring(issuer, ring, as_json=as_json, hint=_hint(may_sign_from, now))


@app.command("plan")
def show_plan(*, as_json: Json = False) -> None:
    """Show what will happen to each key over the next rotation period, and when."""
    with opened(Access.READ) as issuer:
        ring = issuer.keys.rotation.ring()
        planned = plan(ring, issuer.policy, issuer.clock())
        census = Census.of(issuer, ring)
        steps = "" if planned.steps else "no automatic rotation is due; rotate manually: issuer keys rotate"
        if not as_json:
            timeline.draw(planned, console())
        show(
            {
                "version": ring.version,
                **timeline.document(planned),
                "verifiers": census.document(),
            },
            as_json=as_json,
            rows=timeline.rows(planned),
            message="\n".join(filter(None, [steps, census.words()])),
        )


@app.command()
def rotate(
    *, dry_run: DryRun = False, force: Force = False, reason: Reason = None, as_json: Json = False
) -> None:
    """Let the standby sign from now on, and publish a new standby.

    Refused (exit 3) until the standby has been published for ISSUER_PUBLISH_LEAD.
    """
    why = _why("", reason, force=force)
    choose = partial(KeyRing.promoted, forced=force)
    _perform(choose, why, dry_run=dry_run, as_json=as_json, names_verifiers=True)


@app.command()
def rollback(
    *, dry_run: DryRun = False, force: Force = False, reason: Reason = None, as_json: Json = False
) -> None:
    """Let the previous key sign again, while its private key exists; the key it replaces stays in the JWKS."""
    why = _why("rollback", reason, force=force)
    _perform(partial(KeyRing.rolled_back, forced=force), why, dry_run=dry_run, as_json=as_json)


@app.command()
def nodes(*, as_json: Json = False) -> None:
    """Show each process that serves: which version of the key ring it holds, and when it last read the ring."""
    with opened(Access.READ) as issuer:
        version, now = issuer.keys.rotation.ring().version, issuer.clock()
        rows = [_described(beat, version, issuer, now) for beat in running(issuer, now)]
        show(
            {"version": version, "nodes": rows},
            as_json=as_json,
            rows=rows,
            message=f"the key ring is at version {version}"
            if rows
            else "no issuer is running on this database",
        )


app.command("verifiers")(verifiers.show_verifiers)
app.command("verify")(private_keys.verify)
app.command("revoke", context_settings=KID)(revoke.revoke)
app.command("import")(private_keys.import_key)
app.command("rewrap")(private_keys.rewrap)
app.command("recover")(recover.recover)


def _described(beat: Heartbeat, version: int, issuer: Issuer, now: datetime) -> Row:
    return {
        "node": beat.name,
        "version": beat.version,
        "last_refresh": instant(beat.refreshed_at),
        "state": _state(beat, version, issuer, now),
    }


def _state(beat: Heartbeat, version: int, issuer: Issuer, now: datetime) -> str:
    if now > beat.signs_until + issuer.policy.clock_skew:
        return "not responding, no longer signs"
    return "up to date" if beat.version >= version else f"behind, at version {beat.version} of {version}"


def _hint(may_sign_from: datetime | None, now: datetime) -> str:
    if may_sign_from is None:
        return "there is no standby key: no issuer has been running; the next start publishes one"
    return "manual rotation possible " + (
        "now" if may_sign_from <= now else f"from {instant(may_sign_from)} on"
    )


def _why(what: str, reason: str | None, *, force: bool) -> str | None:
    """Return the reason for the audit log; raise BadParameter if it is needed and missing, or empty."""
    if force and reason is None:
        raise typer.BadParameter("--force needs --reason: it is kept in the audit log")
    if reason is not None:
        require_reason(reason)
    how = " ".join(filter(None, ["forced" if force else "", what]))
    return ": ".join(filter(None, [how, reason])) or None


def _perform(
    choose: Choose, why: str | None, *, dry_run: bool, as_json: bool, names_verifiers: bool = False
) -> None:
    """Let another key sign, or show what that would do; with `names_verifiers` say who knows the next key."""
    with opened(Access.READ if dry_run else Access.CHANGE) as issuer:
        before = issuer.keys.rotation.ring()
        lagging = _lagging_nodes(issuer, before)
        census = Census.of(issuer, before) if names_verifiers else None
        seen = before.current(issuer.clock()).kid

        def move(ring: KeyRing, now: datetime) -> KeyRing:
            ring.require_current(seen, now)  # if two operators rotate at once, the second one is refused
            return choose(ring, issuer.policy, now)

        with status("making a new standby key", as_json=as_json):
            ring = issuer.keys.rotation.preview(move) if dry_run else issuer.keys.rotation.change(move, why)
        does = "would sign" if dry_run else "signs"
        lines = [
            f"{ring.current(ring.changed_at).kid} {does} from now on; running nodes follow within 2 seconds",
            *_retention(ring, seen),
            *unripe(ring, issuer.clock()),
            *filter(None, [census.words("the new key") if census else ""]),
        ]
        show_ring(
            issuer,
            ring,
            as_json=as_json,
            lines=lines,
            warnings=lagging,
            dry_run=dry_run,
            verifiers=census.document() if census else None,
        )


def _retention(ring: KeyRing, kid: str) -> Sequence[str]:
    previous = ring.find(kid)
    leaves_at = ring.leaves_at(previous)
    return (
        [f"{kid} stays in the JWKS until {instant(leaves_at)}, when its last token has expired"]
        if leaves_at
        else []
    )


def _lagging_nodes(issuer: Issuer, ring: KeyRing) -> list[str]:
    """Return a warning for each process that may not have picked up the key that is to sign."""
    now = issuer.clock()
    late = issuer.policy.heartbeat_interval * 2
    return [
        f"{beat.name} last read the key ring at {instant(beat.refreshed_at)}, at version {beat.version} of"
        f" {ring.version}: if it is cut off, it may serve a key set without the newest keys until"
        f" {instant(beat.served_until)}"
        for beat in running(issuer, now)
        if beat.version < ring.version or abs(now - beat.refreshed_at) > late
    ]
