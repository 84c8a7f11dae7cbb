"""How commands show the key ring: one row for each key, in 80 columns for people and in full for scripts."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import typer

from issuer.cli.output import show, warn
from issuer.cli.tables import Row
from issuer.cli.terminal import short_kid, shorten_kids
from issuer.clock import instant
from issuer.keyring.heartbeat import Acknowledgement, Heartbeat
from issuer.keyring.key import Key
from issuer.keyring.policy import Policy
from issuer.keyring.ring import KeyRing, Phase
from issuer.services import Issuer

REASON_MOST_CHARACTERS = 500
ORDER = (Phase.PREVIOUS, Phase.CURRENT, Phase.STANDBY, Phase.RETIRED, Phase.REVOKED)
"""The order of keys in tables: their life, and last those that no verifier accepts any more."""


def show_ring(
    issuer: Issuer,
    ring: KeyRing,
    *,
    as_json: bool,
    lines: Sequence[str] = (),
    hint: str = "",
    warnings: Sequence[str] = (),
    **more: object,
) -> None:
    """Print the ring, the result of the command, and warnings."""
    now = max(issuer.clock(), ring.changed_at)
    keys = sorted(ring.by_activation, key=lambda key: ORDER.index(ring.phase(key, now)))
    described = [describe(key, ring, issuer.policy, now) for key in keys]
    message = "\n".join(lines)
    show(
        {"version": ring.version, "keys": described, "message": message, "warnings": list(warnings), **more},
        as_json=as_json,
        rows=[brief(row) for row in described],
        message=shorten_kids(message) or hint,
        wrap=True,
    )
    if not as_json:
        for warning in warnings:
            warn(warning)


def require_reason(reason: str) -> None:
    """Raise BadParameter for a reason that is empty or too long."""
    if not reason.strip() or len(reason) > REASON_MOST_CHARACTERS:
        raise typer.BadParameter(f"--reason must say why, in at most {REASON_MOST_CHARACTERS} characters")


def describe(key: Key, ring: KeyRing, policy: Policy, now: datetime) -> Row:
    """Return the state of `key` at `now`; instants are RFC 3339, in UTC."""
    return {
        "phase": ring.phase(key, now).value,
        "kid": key.kid,
        "alg": key.alg,
        "age": _age(now - key.published_at),
        "published_at": instant(key.published_at),
        "may_sign_from": instant(key.may_sign_from),
        "signs_from": instant(key.activates_at) if key.activates_at else "manually",
        "leaves_jwks_at": instant_or_none(key.revoked_at or ring.leaves_at(key)),
        "tokens_alive_until": instant_or_none(_tokens_until(key, ring, policy)),
        "revoked_at": instant_or_none(key.revoked_at),
        "revoked_reason": key.revoked_reason,
        "compromised": key.compromised,
        "imported": key.imported,
    }


def brief(row: Row) -> Row:
    """Return the columns of a row that fit a terminal of 80 columns; a revoked key has no time of signing."""
    is_revoked = row["phase"] == Phase.REVOKED
    return {
        "phase": row["phase"],
        "kid": short_kid(str(row["kid"])),
        "alg": row["alg"],
        "age": None if is_revoked else row["age"],
        "signs from": None if is_revoked else row["signs_from"],
        "leaves JWKS": row["leaves_jwks_at"],
    }


def unripe(ring: KeyRing, now: datetime) -> Iterable[str]:
    """Yield a warning if the current key signs before every verifier knows it."""
    current = ring.current(max(now, ring.changed_at))
    may_sign_from = current.may_sign_from
    if may_sign_from > now:
        yield (
            f"warning: {current.kid} was published only at {instant(current.published_at)}; a verifier that fetched"
            f" the key set before, and does not fetch it again for an unknown kid, may refuse its tokens until"
            f" {instant(may_sign_from)}"
        )


def running(issuer: Issuer, now: datetime) -> list[Heartbeat]:
    """Return the heartbeats of processes that run, or that ended recently without a last heartbeat."""
    beats = Acknowledgement.of(issuer.keys.heartbeats.all(), 0, issuer.policy, now).done
    return sorted(beats, key=lambda beat: beat.name)


def _tokens_until(key: Key, ring: KeyRing, policy: Policy) -> datetime | None:
    """Return when the last token that a superseded key may have signed expires."""
    superseded_at = ring.superseded_at(key)
    if superseded_at is None or key.revoked_at:
        return None
    return superseded_at + key.token_lifetime + key.margin - policy.clock_skew


def instant_or_none(when: datetime | None) -> str | None:
    """Return an instant in RFC 3339, or None."""
    return instant(when) if when else None


def _age(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{max(0, seconds)}s"
