"""The log: why a token was refused and why keys are missing, in words and not too often.

What is refused is decided in `verifier`, `claims` and `fastapi`, when keys are fetched in `cache`. Nothing here
raises, not even if a handler of the log does: what is logged never changes what is done.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime

from .errors import InvalidToken, Reason
from .events import Event, Report, State

BURST, SECONDS_PER_WARNING = 5, 60
"""Warnings of one reason at once, and how long it takes until there may be another one."""

MOST_CHARACTERS = 200
KID_CHARACTERS = 8

logger = logging.getLogger("jwks_verifier")  # also if the folder is copied under another name
# An observer is not awaited, so with CancelledError no task was cancelled.
_whatever_is_raised = (Exception, asyncio.CancelledError)

_WORDS = {
    Reason.MALFORMED: "it is not three segments of base64url with strict JSON, or it is too long",
    Reason.HEADER: "its header lacks the typ at+jwt, an accepted alg or a kid, or has a forbidden parameter",
    Reason.UNKNOWN_KEY: "its key is not published",
    Reason.SIGNATURE: "its signature does not match",
    Reason.CLAIMS: "a claim is missing or has a wrong form",
    Reason.ISSUER: "iss is another issuer",
    Reason.AUDIENCE: "aud is another service",
    Reason.NOT_YET_VALID: "it is not valid yet",
    Reason.EXPIRED: "it is expired",
    Reason.UNEXPECTED: "a library raised an exception",
}
_CONSEQUENCES = {
    State.EMPTY: "no token can be verified",
    State.FRESH: "the cached keys are still used",
    State.STALE: "the cached keys are past their lifetime and still used for a while",
    State.EXPIRED: "the cached keys are too old, no token can be verified",
}


def shown(text: str, most: int = MOST_CHARACTERS) -> str:
    """Return a text in one line of ASCII, cut after so many characters."""
    return text[:most].encode("unicode_escape").decode() + "…" * (len(text) > most)


def shown_kid(kid: str) -> str:
    """Return the first characters of a kid."""
    return shown(kid, KID_CHARACTERS)


def shown_list(texts: Iterable[str]) -> str:
    """Return one text, or several in brackets."""
    listed = list(texts)
    return shown(listed[0] if len(listed) == 1 else f"[{', '.join(listed)}]")


def shown_instant(seconds: float) -> str:
    """Return seconds since 1970 as an instant of RFC 3339."""
    return f"{datetime.fromtimestamp(int(seconds), UTC):%Y-%m-%dT%H:%M:%SZ}"


def guarded(on_event: Report) -> Report:
    """Return `on_event`, with exceptions that are logged and have no other effect."""

    def report(event: Event, detail: str) -> None:
        try:
            on_event(event, detail)
        except _whatever_is_raised:
            with suppress(*_whatever_is_raised):
                logger.exception("on_event failed")

    return report


class RefusalLog:
    """Warns of refused tokens; of each reason BURST times, then once in SECONDS_PER_WARNING."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._refilled: dict[str, float] = {}  # reason -> when the next warning but BURST would be allowed
        self._suppressed: dict[str, int] = {}

    def refused(self, refusal: InvalidToken) -> None:
        """Log why a token is invalid."""
        self.warn(refusal.reason, refusal.detail or _WORDS[refusal.reason])

    def warn(self, reason: str, words: str) -> None:
        """Log the words, unless there are too many warnings of this reason; `reason` is one of a few."""
        with suppress(*_whatever_is_raised):
            now = self._monotonic()
            refilled = max(now, self._refilled.get(reason, now)) + SECONDS_PER_WARNING
            if refilled > now + BURST * SECONDS_PER_WARNING:
                self._suppressed[reason] = self._suppressed.get(reason, 0) + 1
                return
            self._refilled[reason] = refilled
            more = self._suppressed.pop(reason, 0)
            since = f" ({more} more for this reason since the last such line)" if more else ""
            logger.warning("token refused: %s%s", words, since)


class OutageLog:
    """Warns that keys cannot be fetched, once for each state of the keys."""

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer
        self._error = "no answer yet"
        self._logged: State | None = None

    def failed(self, state: State, error: str | None = None) -> None:
        """Log a failed fetch, or without an error that keys are missing since."""
        self._error = error or self._error
        if state is not self._logged:
            self._logged = state
            with suppress(*_whatever_is_raised):
                text = "the keys of %s cannot be fetched: %s; %s"
                logger.warning(text, self._issuer, self._error, _CONSEQUENCES[state])

    def fetched(self) -> None:
        """Log the end of an outage."""
        if self._logged is not None:
            self._logged = None
            with suppress(*_whatever_is_raised):
                logger.info("the keys of %s can be fetched again", self._issuer)
