"""Owns that what only observes a verifier, its hook and the log, changes no verdict and stops no refresh."""

import asyncio
import io
import logging
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from verifier_example import logs
from verifier_example.app import build_verifier
from verifier_example.logs import RECORDS_MOST, written_aside
from verifier_example.metrics import Metrics
from verifier_example.settings import Settings
from verifier_example.verifier import AccessToken, Event, JwksCache, Timings, TokenVerifier

AUDIENCE = "https://api.test"


class Enough:
    """Takes note of fetches until there were three."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._fetches = 0

    def take(self, event: Event) -> None:
        self._fetches += event in {Event.FETCHED, Event.NOT_MODIFIED}
        if self._fetches == 3:
            self.reached.set()


class Raising(logging.Handler):
    def emit(self, _record: logging.LogRecord) -> None:
        raise RuntimeError("a handler of the service's own")


@pytest.fixture
def raising_log() -> Iterator[None]:
    """A log that raises into whoever logs."""
    handler = Raising()
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError, RecursionError])
@pytest.mark.usefixtures("raising_log")
def test_a_hook_and_a_log_that_raise_refuse_nothing_and_stop_no_refresh(
    issuer: Any, forge: Any, clock: Any, error: type[BaseException]
) -> None:
    enough = Enough()

    def broken(event: Event, _detail: str) -> None:
        enough.take(event)
        raise error

    async def story() -> AccessToken:
        timings = Timings(ttl_floor=0.01, ttl_ceiling=0.02, backoff_first=0.01, backoff_last=0.01)
        async with JwksCache(
            issuer.url, transport=issuer.transport, on_event=broken, timings=timings
        ) as cache:
            access = await TokenVerifier(cache, AUDIENCE, wall=clock.wall).verify(forge.token())
            await enough.reached.wait()
            return access

    assert asyncio.run(asyncio.wait_for(story(), 20)).subject == "u1"


def test_a_caller_who_cancels_the_fetch_that_it_waits_for_does_not_end_the_refreshing(issuer: Any) -> None:
    enough = Enough()

    async def story() -> None:
        timings = Timings(ttl_floor=0.01, ttl_ceiling=0.02, backoff_first=0.01, backoff_last=0.01)
        cache = JwksCache(
            issuer.url,
            transport=issuer.transport,
            timings=timings,
            on_event=lambda event, _: enough.take(event),
        )
        async with cache:
            cache.refresh().cancel()  # as `asyncio.wait_for(cache.refresh(), …)` does
            await enough.reached.wait()
        assert cache._timer is None or cache._timer.cancelled()

    asyncio.run(asyncio.wait_for(story(), 20))


@pytest.mark.usefixtures("raising_log")
def test_an_event_is_counted_though_the_log_raises() -> None:
    metrics = Metrics()
    verifier = build_verifier(Settings(_env_file=None), metrics)
    verifier.cache.tell(Event.FETCH_FAILED, "no route")
    assert b'verifier_fetches_total{outcome="fetch_failed"} 1.0' in metrics.render(verifier.cache)


def test_a_log_whose_reader_has_stopped_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LAST_SECONDS", 60.0)  # on a busy machine
    reader, writer = os.pipe()
    read = threading.Thread(target=lambda: list(iter(lambda: os.read(reader, 65536), b"")))
    with os.fdopen(writer, "w", buffering=1) as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        handler, logger = logging.StreamHandler(stream), logging.getLogger("uvicorn.access")
        monkeypatch.setattr(logger, "handlers", [handler])
        with written_aside():
            for number in range(2 * RECORDS_MOST):  # would wait for ever
                logger.warning("line %s", number)
            read.start()
        assert logger.handlers == [handler]
    read.join()
    os.close(reader)


def test_a_log_that_is_read_keeps_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    logger = logging.getLogger("uvicorn.error")
    monkeypatch.setattr(logger, "handlers", [logging.StreamHandler(stream), Raising()])
    monkeypatch.setattr(logger.handlers[1], "stream", stream, raising=False)
    with written_aside():
        for number in range(100):
            logger.warning("line %s", number)
    assert stream.getvalue().splitlines() == [f"line {number}" for number in range(100)]
