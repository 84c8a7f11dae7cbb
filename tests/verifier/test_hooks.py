"""Observers of a verifier, its hook and the log, change no result and stop no refresh."""

import asyncio
import io
import logging
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from support.verifier import AUDIENCE, Clock, Forge

from jwks_verifier import AccessToken, Event, JwksCache, Timings, TokenVerifier
from verifier_example import logs
from verifier_example.app import build_verifier
from verifier_example.logs import MAX_QUEUED_RECORDS, logged_in_a_thread
from verifier_example.metrics import Metrics
from verifier_example.settings import Settings


class FetchCounter:
    """Counts successful fetches; `reached` is set at the third."""

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
    """A log handler that raises at every record."""
    handler = Raising()
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError, RecursionError])
@pytest.mark.usefixtures("raising_log")
def test_a_hook_and_a_log_handler_that_raise_reject_no_token_and_stop_no_refresh(
    issuer: Any, forge: Forge, clock: Clock, error: type[BaseException]
) -> None:
    enough = FetchCounter()

    def broken(event: Event, _detail: str) -> None:
        enough.take(event)
        raise error

    async def scenario() -> AccessToken:
        timings = Timings(ttl_floor=0.01, ttl_ceiling=0.02, backoff_first=0.01, backoff_last=0.01)
        async with JwksCache(
            issuer.url, transport=issuer.transport, on_event=broken, timings=timings
        ) as cache:
            access = await TokenVerifier(cache, AUDIENCE, wall=clock.wall).verify(forge.token())
            await enough.reached.wait()
            return access

    assert asyncio.run(asyncio.wait_for(scenario(), 20)).subject == "u1"


def test_cancelling_a_fetch_does_not_stop_the_refreshes(issuer: Any) -> None:
    enough = FetchCounter()

    async def scenario() -> None:
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

    asyncio.run(asyncio.wait_for(scenario(), 20))


@pytest.mark.usefixtures("raising_log")
def test_an_event_is_counted_even_if_the_log_raises() -> None:
    metrics = Metrics()
    verifier = build_verifier(Settings(_env_file=None), metrics)
    verifier.cache.report(Event.FETCH_FAILED, "no route")
    assert b'verifier_fetches_total{outcome="fetch_failed"} 1.0' in metrics.render(verifier.cache)


def test_a_stalled_log_reader_blocks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LAST_SECONDS", 60.0)  # on a busy machine
    reader, writer = os.pipe()
    read = threading.Thread(target=lambda: list(iter(lambda: os.read(reader, 65536), b"")))
    with os.fdopen(writer, "w", buffering=1) as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        handler, logger = logging.StreamHandler(stream), logging.getLogger("uvicorn.access")
        monkeypatch.setattr(logger, "handlers", [handler])
        with logged_in_a_thread():
            for number in range(2 * MAX_QUEUED_RECORDS):  # would wait for ever
                logger.warning("line %s", number)
            read.start()
        assert logger.handlers == [handler]
    read.join()
    os.close(reader)


def test_log_lines_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    logger = logging.getLogger("uvicorn.error")
    monkeypatch.setattr(logger, "handlers", [logging.StreamHandler(stream), Raising()])
    monkeypatch.setattr(logger.handlers[1], "stream", stream, raising=False)
    with logged_in_a_thread():
        for number in range(100):
            logger.warning("line %s", number)
    assert stream.getvalue().splitlines() == [f"line {number}" for number in range(100)]
