"""The background tasks of a process: they refresh the key ring, warn operators, and delete expired rows.

What a refresh does is defined in `keyring.node`; that the tasks go on is left to `supervision`.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial

import anyio
import anyio.to_thread
import structlog

from issuer.callbacks import take_failures
from issuer.database.errors import StoreError
from issuer.errors import KeyRingError, StaleView
from issuer.keyring.policy import REFRESH_INTERVAL
from issuer.keyring.view import View
from issuer.logs import is_log_failing, lines_lost
from issuer.maintenance.pruning import prune
from issuer.web.instruments import Figures
from issuer.web.operation.metrics import watch
from issuer.web.operation.supervision import Beat, Limits, Supervisor, Task, ThreadQuestion, end_process
from issuer.wiring import Issuer

log = structlog.get_logger("issuer.rotation")

REPEAT = timedelta(minutes=1)
"""How often a failure that lasts is logged again."""
PRUNE_EVERY = timedelta(minutes=1)
BETWEEN_BATCHES = timedelta(milliseconds=200)
"""Between two batches others may write."""


def supervised(issuer: Issuer, figures: Figures) -> Supervisor:
    """Return what keeps the tasks running; one only watches, so that a refresh that hangs is noticed."""

    def silences() -> Mapping[str, float]:
        return supervisor.silences

    supervisor = Supervisor(
        [
            Task("refresh", partial(_refresh, issuer, figures), REFRESH_INTERVAL),
            Task("watch", partial(_watch, issuer, figures, silences), REFRESH_INTERVAL),
            Task("prune", partial(_prune, issuer), PRUNE_EVERY),
        ],
        Limits.of(issuer.policy),
        restarted=figures.restarted,
        replaceable=ThreadQuestion(partial(_is_replaceable, issuer)),
        end=end_process,
    )
    return supervisor


def _is_replaceable(issuer: Issuer) -> bool:
    """Whether another process could start now, or this one is of no use any more.

    While the database or the private keys are out of reach, none could; this one still publishes the JWKS.
    """
    view = issuer.keys.node.view
    try:
        view.max_age(issuer.policy, issuer.clock())
        issuer.ring_database.ping()
        issuer.keys.signer.sign(view.ring.current(view.refreshed_at).kid, b"another process could sign")
    except StaleView:
        return True
    except (KeyRingError, StoreError):
        return False
    return True


async def _refresh(issuer: Issuer, figures: Figures, beat: Beat) -> None:
    own_thread = anyio.CapacityLimiter(1)  # requests that wait for the database must not hold it up
    seen = issuer.keys.node.view
    while True:
        await asyncio.sleep(REFRESH_INTERVAL.total_seconds())
        try:
            view = await anyio.to_thread.run_sync(issuer.keys.node.refresh, limiter=own_thread)
        except (KeyRingError, StoreError):
            figures.refresh_failed()  # the node's warnings tell why
        except Exception:  # it is no sign of life: this process may be the reason
            figures.refresh_failed()
            log.exception("the key ring could not be refreshed")
            continue
        else:
            _log_changes(seen, view)
            seen = view
        beat()


async def _watch(
    issuer: Issuer, figures: Figures, silences: Callable[[], Mapping[str, float]], beat: Beat
) -> None:
    alarm, losses = _Alarm(), _Losses(figures)
    while True:
        await asyncio.sleep(REFRESH_INTERVAL.total_seconds())
        try:
            watch(issuer, figures)
            for name, seconds in silences().items():
                figures.silent_for(name, seconds)
            losses.report(issuer.clock())
            alarm.sound(issuer.keys.node.warnings(), issuer.clock())
        except Exception:
            log.exception("the key ring could not be watched")
        beat()


async def _prune(issuer: Issuer, beat: Beat) -> None:
    """Delete expired rows in small batches, on one thread of its own, with pauses between batches."""
    own_thread = anyio.CapacityLimiter(1)
    gone = 0
    while True:
        await asyncio.sleep((BETWEEN_BATCHES if gone else PRUNE_EVERY).total_seconds())
        gone = 0
        try:
            gone = await anyio.to_thread.run_sync(prune, issuer.database, issuer.clock(), limiter=own_thread)
        except StoreError as error:
            log.warning("expired rows cannot be removed", reason=str(error))
        except Exception:
            log.exception("expired rows could not be removed")
        beat()


class _Losses:
    """Counts and logs what was lost: lines of the log, and failures of metrics and observers."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        self._counted = self._logged = 0
        self._again_at: datetime | None = None

    def report(self, now: datetime) -> None:
        """Take note of what was lost since; log it when lines can be written again."""
        lost = lines_lost()
        if lost > self._counted:
            self._figures.lines_lost(lost - self._counted)
            self._counted = lost
        if lost > self._logged and not is_log_failing():
            log.warning("log lines were lost: they could not be written", count=lost - self._logged)
            self._logged = lost
        failures = take_failures()
        if failures and (self._again_at is None or now >= self._again_at):
            self._again_at = now + REPEAT
            log.error("metrics or observers failed", kinds=sorted(set(failures)))


class _Alarm:
    """Logs warnings when they change, again while they last, and their end; not each second."""

    def __init__(self) -> None:
        self._warnings: list[str] = []
        self._sounded_at: datetime | None = None

    def sound(self, warnings: list[str], now: datetime) -> None:
        """Log `warnings` if it is time to."""
        # A clock that was set back does not silence it.
        is_due = self._sounded_at is None or abs(now - self._sounded_at) >= REPEAT
        if warnings and (warnings != self._warnings or is_due):
            log.error("the key ring needs attention", warnings=warnings)
            self._sounded_at = now
        elif self._warnings and not warnings:
            log.info("the key ring needs no more attention")
        self._warnings = warnings


def _log_changes(before: View, after: View) -> None:
    """Log each change of the ring and each change of the key that signs."""
    if after.ring.version != before.ring.version:
        log.info("key ring changed", version=after.ring.version, kids=[key.kid for key in after.ring.keys])
    signed, signs = (view.ring.current(view.refreshed_at) for view in (before, after))
    if signs.kid != signed.kid:
        log.info("signing key changed", kid=signs.kid, before=signed.kid)
