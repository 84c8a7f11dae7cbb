"""The tasks of a process for as long as it lives: they keep the key ring in view, warn operators, and let rows go.

What a refresh does is told in `keeping`.
"""

import asyncio
from datetime import datetime, timedelta

import anyio
import anyio.to_thread
import structlog

from issuer.nodes import View
from issuer.policy import REFRESH_INTERVAL
from issuer.refusal import KeyRingError
from issuer.store.database import StoreError
from issuer.store.pruning import prune
from issuer.web.figures import Figures
from issuer.web.metrics import watch
from issuer.wiring import Issuer

log = structlog.get_logger("issuer.rotation")

REPEAT = timedelta(minutes=1)
"""How often a trouble that lasts is logged again."""
PRUNE_EVERY = timedelta(minutes=1)
BETWEEN_BATCHES = timedelta(milliseconds=200)
"""Between two batches others may write."""


async def keep(issuer: Issuer, figures: Figures) -> None:
    """Refresh the view every second, and watch from beside: a refresh that hangs must not hang its alarm."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_refresh(issuer, figures))
        tasks.create_task(_watch(issuer, figures))
        tasks.create_task(_prune(issuer))


async def _refresh(issuer: Issuer, figures: Figures) -> None:
    own_thread = anyio.CapacityLimiter(1)  # requests that wait for the database must not hold it up
    seen = issuer.node.view
    while True:
        await asyncio.sleep(REFRESH_INTERVAL.total_seconds())
        try:
            view = await anyio.to_thread.run_sync(issuer.node.refresh, limiter=own_thread)
            _log_changes(seen, view)
            seen = view
        except (KeyRingError, StoreError):
            figures.refresh_failures.inc()  # the node's warnings tell why
        except Exception:
            figures.refresh_failures.inc()
            log.exception("the key ring could not be refreshed")


async def _watch(issuer: Issuer, figures: Figures) -> None:
    alarm = _Alarm()
    while True:
        await asyncio.sleep(REFRESH_INTERVAL.total_seconds())
        try:
            watch(issuer, figures)
            alarm.sound(issuer.node.warnings(), issuer.clock())
        except Exception:
            log.exception("the key ring could not be watched")


async def _prune(issuer: Issuer) -> None:
    """Let what means nothing any more go, a little at a time; one thread of its own, and never in a hurry."""
    own_thread = anyio.CapacityLimiter(1)
    gone = 0
    while True:
        await asyncio.sleep((BETWEEN_BATCHES if gone else PRUNE_EVERY).total_seconds())
        gone = 0
        try:
            gone = await anyio.to_thread.run_sync(prune, issuer.database, issuer.clock(), limiter=own_thread)
        except StoreError as error:
            log.warning("old rows cannot be removed", reason=str(error))
        except Exception:
            log.exception("old rows could not be removed")


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
            log.info("the key ring is well again")
        self._warnings = warnings


def _log_changes(before: View, after: View) -> None:
    """Log each change of the ring and each change of the key that signs."""
    if after.ring.version != before.ring.version:
        log.info("key ring changed", version=after.ring.version, kids=[key.kid for key in after.ring.keys])
    signed, signs = (view.ring.current(view.refreshed_at) for view in (before, after))
    if signs.kid != signed.kid:
        log.info("another key signs", kid=signs.kid, before=signed.kid)
