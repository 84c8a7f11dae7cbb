"""The background tasks of a process: refresh of the key ring, logging of warnings, deletion of rows, deliveries.

A refresh is defined in `keyring.node`, the delivery of logout notices in `tokens.backchannel_logout`, that of mails
in `administration.mail_delivery`. Restarting the tasks is left to `supervision`.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import anyio
import anyio.to_thread
import structlog

from issuer.callbacks import take_failures
from issuer.clients.outgoing_http import EXCHANGE_SECONDS
from issuer.clock import Clock
from issuer.database.errors import StoreError
from issuer.database.work_queue import Round
from issuer.errors import KeyRingError, StaleView
from issuer.keyring.policy import REFRESH_INTERVAL
from issuer.keyring.view import View
from issuer.logs import dropped_lines, is_log_failing
from issuer.mail.smtp import REPLY_SECONDS, ROUND_SECONDS
from issuer.maintenance.pruning import prune
from issuer.oauth import Unavailable
from issuer.services import Issuer
from issuer.web.instruments import Instruments
from issuer.web.operation.census import flush_census
from issuer.web.operation.metrics import record_process_state
from issuer.web.operation.supervision import Beat, Limits, Supervisor, Task, ThreadCheck, end_process
from issuer.web.well_known.listening import Listeners

log = structlog.get_logger("issuer.rotation")

REPEAT = timedelta(minutes=1)
"""How often a failure is logged while it lasts."""
PRUNE_INTERVAL = timedelta(minutes=1)
LOGOUT_POLL = timedelta(seconds=2)
"""How often logout notices are looked for that other processes queued, or that failed before."""
LOGOUT_INTERVAL = LOGOUT_POLL + timedelta(seconds=EXCHANGE_SECONDS)
MAIL_POLL = timedelta(seconds=2)
MAIL_INTERVAL = MAIL_POLL + timedelta(seconds=ROUND_SECONDS) + 8 * timedelta(seconds=REPLY_SECONDS)
"""A message that is begun at the end of a round has some eight replies to wait for."""
LOOKS: Final = 4
"""How often within a REFRESH_INTERVAL the version of the ring is read while there are listeners.

LISTEN/NOTIFY of PostgreSQL would save three reads of one row by its primary key a second, and need a connection of
its own for each process, which has to be opened again after failures and is not possible through PgBouncer's
transaction mode; and SQLite has nothing like it.
"""
BATCH_PAUSE = timedelta(milliseconds=200)
"""Lets other transactions write between two batches of deletions."""


def build_supervisor(
    issuer: Issuer, instruments: Instruments, logouts_due: asyncio.Event, listeners: Listeners
) -> Supervisor:
    """Return the supervisor of the tasks; `watch` is a task of its own, to report a refresh that hangs.

    `logouts_due` is set when this process has ended browser sessions; `listeners` wait for changes of the JWKS.
    """

    def overdue() -> Mapping[str, float]:
        return supervisor.overdue

    supervisor = Supervisor(
        [
            Task("refresh", partial(_refresh, issuer, instruments, listeners), REFRESH_INTERVAL),
            Task("watch", partial(_watch, issuer, instruments, overdue), REFRESH_INTERVAL),
            Task("prune", partial(_prune, issuer), PRUNE_INTERVAL),
            Task("census", partial(flush_census, issuer), issuer.policy.heartbeat_interval),
            *_delivery_tasks(issuer, instruments, logouts_due),
        ],
        Limits.of(issuer.policy),
        restarted=instruments.task_restarted,
        can_be_replaced=ThreadCheck(partial(_can_be_replaced, issuer)),
        end=end_process,
    )
    return supervisor


def _can_be_replaced(issuer: Issuer) -> bool:
    """Whether a new process could start now, or this one may no longer serve the JWKS.

    While the database or the private keys cannot be reached, none can start, and this one still serves the JWKS.
    """
    view = issuer.keys.node.view
    try:
        view.max_age(issuer.policy, issuer.clock())
        issuer.ring_database.ping()
        issuer.keys.signer.sign(view.ring.current(view.refreshed_at).kid, b"replacement check")
    except StaleView:
        return True
    except (KeyRingError, StoreError):
        return False
    return True


async def _refresh(issuer: Issuer, instruments: Instruments, listeners: Listeners, beat: Beat) -> None:
    # Not from the pool of threads for requests, which may all wait for the database.
    own_thread = anyio.CapacityLimiter(1)
    seen = issuer.keys.node.view
    while True:
        try:
            await _until_refresh(issuer, listeners, own_thread)
            view = await anyio.to_thread.run_sync(issuer.keys.node.refresh, limiter=own_thread)
            listeners.look()
        except (KeyRingError, StoreError):
            instruments.refresh_failed()  # the reason is in the warnings of the node
        except Exception:  # not a heartbeat: the defect may be in this process
            instruments.refresh_failed()
            log.exception("key ring refresh failed")
            continue
        else:
            _log_changes(seen, view)
            seen = view
        beat()


async def _until_refresh(issuer: Issuer, listeners: Listeners, own_thread: anyio.CapacityLimiter) -> None:
    """Return after REFRESH_INTERVAL, or sooner if there are listeners and the ring has changed."""
    for _ in range(LOOKS):
        await asyncio.sleep(REFRESH_INTERVAL.total_seconds() / LOOKS)
        with suppress(StoreError):  # the next refresh reports it
            if len(listeners) and await anyio.to_thread.run_sync(
                issuer.keys.node.sees_change, limiter=own_thread
            ):
                return


async def _watch(
    issuer: Issuer, instruments: Instruments, overdue: Callable[[], Mapping[str, float]], beat: Beat
) -> None:
    warnings, losses = _WarningLog(), _LossReport(instruments)
    while True:
        await asyncio.sleep(REFRESH_INTERVAL.total_seconds())
        try:
            record_process_state(issuer, instruments)
            for name, seconds in overdue().items():
                instruments.task_overdue(name, seconds)
            losses.report(issuer.clock())
            warnings.report(issuer.keys.node.warnings(), issuer.clock())
        except Exception:
            log.exception("monitoring failed")
        beat()


async def _prune(issuer: Issuer, beat: Beat) -> None:
    """Delete expired rows in small batches with pauses between them, on a thread of its own."""
    own_thread = anyio.CapacityLimiter(1)
    deleted = 0
    while True:
        await asyncio.sleep((BATCH_PAUSE if deleted else PRUNE_INTERVAL).total_seconds())
        deleted = 0
        try:
            deleted = await anyio.to_thread.run_sync(
                prune, issuer.database, issuer.clock(), issuer.settings.event_retention, limiter=own_thread
            )
        except StoreError as error:
            log.warning("pruning failed", reason=str(error))
        except Exception:
            log.exception("pruning failed")
        beat()


@dataclass(frozen=True)
class _Deliveries:
    """What is sent in rounds: logout notices, or mails."""

    send: Callable[[datetime], Round]
    count: Callable[[int, int, int], None]
    """Take how many were delivered, failed, and were given up."""
    due: asyncio.Event
    """Set when this process has queued some."""
    poll: timedelta
    delayed: str
    """The event of the log when none can be sent."""


async def _deliver(deliveries: _Deliveries, clock: Clock, beat: Beat) -> None:
    """Send what is due, on a thread of its own: a receiver that does not answer delays no request."""
    own_thread = anyio.CapacityLimiter(1)
    is_full = False
    while True:
        if not is_full:
            with suppress(TimeoutError):
                await asyncio.wait_for(deliveries.due.wait(), deliveries.poll.total_seconds())
        deliveries.due.clear()
        is_full = False
        try:
            sent = await anyio.to_thread.run_sync(deliveries.send, clock(), limiter=own_thread)
            deliveries.count(sent.delivered, sent.failed, sent.given_up)
            is_full = sent.is_full
        except (StoreError, Unavailable) as error:
            log.warning(deliveries.delayed, reason=str(error))
        except Exception:
            log.exception(deliveries.delayed)
        beat()


def _delivery_tasks(issuer: Issuer, instruments: Instruments, logouts_due: asyncio.Event) -> Iterator[Task]:
    """Yield the tasks that send logout notices and, if there is a mail server, mails."""
    backchannel, mail = issuer.sessions.backchannel, issuer.administration.mail_delivery
    logouts = _Deliveries(
        backchannel.deliver_due,
        instruments.logouts_sent,
        logouts_due,
        LOGOUT_POLL,
        "logout notices are delayed",
    )
    yield Task("logout", partial(_deliver, logouts, issuer.clock), LOGOUT_INTERVAL)
    if mail:
        mails = _Deliveries(
            mail.deliver_due, instruments.mails_sent, asyncio.Event(), MAIL_POLL, "mails are delayed"
        )
        yield Task("mail", partial(_deliver, mails, issuer.clock), MAIL_INTERVAL)


class _LossReport:
    """Counts and logs dropped log lines, and logs failures of metrics and observers."""

    def __init__(self, instruments: Instruments) -> None:
        self._instruments = instruments
        self._counted = self._logged = 0
        self._again_at: datetime | None = None

    def report(self, now: datetime) -> None:
        """Count what was lost since the last call; log it once lines can be written again."""
        lost = dropped_lines()
        if lost > self._counted:
            self._instruments.log_lines_dropped(lost - self._counted)
            self._counted = lost
        if lost > self._logged and not is_log_failing():
            log.warning("log lines dropped", count=lost - self._logged)
            self._logged = lost
        failures = take_failures()
        if failures and (self._again_at is None or now >= self._again_at):
            self._again_at = now + REPEAT
            log.error("metrics or observers failed", kinds=sorted(set(failures)))


class _WarningLog:
    """Logs the warnings of the node when they change, once a minute while they last, and when they end."""

    def __init__(self) -> None:
        self._warnings: list[str] = []
        self._logged_at: datetime | None = None

    def report(self, warnings: list[str], now: datetime) -> None:
        """Log `warnings` if they are due."""
        # `abs`: a clock that was set back must not suppress them.
        is_due = self._logged_at is None or abs(now - self._logged_at) >= REPEAT
        if warnings and (warnings != self._warnings or is_due):
            log.error("key ring needs attention", warnings=warnings)
            self._logged_at = now
        elif self._warnings and not warnings:
            log.info("key ring recovered")
        self._warnings = warnings


def _log_changes(before: View, after: View) -> None:
    """Log a change of the ring and a change of the signing key."""
    if after.ring.version != before.ring.version:
        log.info("key ring changed", version=after.ring.version, kids=[key.kid for key in after.ring.keys])
    signed, signs = (view.ring.current(view.refreshed_at) for view in (before, after))
    if signs.kid != signed.kid:
        log.info("signing key changed", kid=signs.kid, previous_kid=signed.kid)
