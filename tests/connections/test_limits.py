"""Limits on connections: which one is closed for another, which are counted together, and how many are allowed.

Slow and costly clients of real servers are tested in `servers/test_slow_connections.py` and
`servers/test_many_connections.py`.
"""

import asyncio
import logging
import resource
import socket
import threading
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from support.servers import HOST, eventually

from issuer.connections import Config, Limits
from issuer.connections.ledger import MOST_LEAVING, Cause, Ledger, Phase
from issuer.connections.limits import MOST_CONNECTIONS, RESERVED_DESCRIPTORS


class Loop:
    """The clock of an event loop, moved manually; what is to be called later is called by `advance`."""

    def __init__(self) -> None:
        self.now = 0.0
        self.later: list[Any] = []

    def time(self) -> float:
        return self.now

    def call_later(self, _seconds: float, callback: Any) -> None:
        self.later.append(callback)

    def advance(self, seconds: float) -> None:
        self.now += seconds
        due, self.later = self.later, []
        for callback in due:
            callback()


@dataclass(eq=False)
class Member:
    name: str
    address: str | None = "192.0.2.1"
    phase: Phase = Phase.HEAD
    since: float = 0.0
    closed: list[str] = field(default_factory=list)

    def expire(self, now: float) -> None:
        pass

    def evict(self) -> None:
        self.closed.append(self.name)

    def abort(self) -> None:
        self.closed.append(f"{self.name} at once")


@pytest.fixture
def loop() -> Loop:
    return Loop()


def ledger(loop: Loop, app: object = None, **limits: Any) -> Ledger:
    running: Any = loop
    assert isinstance(running, Loop)
    return Ledger(Limits(**limits), running, app)


def test_a_connection_that_cannot_be_judged_is_logged_once_and_closed(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Member):
        def expire(self, now: float) -> None:
            raise RuntimeError("a defect")

    judged: list[float] = []
    book, broken, sound = ledger(loop), Broken("broken"), Member("sound")
    sound.expire = judged.append  # type: ignore[method-assign, assignment]
    for member in (broken, sound):
        assert book.admit(member) is None
    for _ in range(3):
        loop.advance(1)
    assert broken.closed == ["broken at once"]
    assert judged == [1, 2, 3]
    assert [record.message for record in caplog.records] == ["connection aborted after an internal error"]


def test_connections_without_a_complete_request_are_evicted_first_by_waiting_time(loop: Loop) -> None:
    closed: list[str] = []
    book = ledger(loop, connections=4)
    idle, answered, old, young = (
        Member(name, None, closed=closed) for name in ("idle", "answered", "old", "young")
    )
    for member in (idle, answered, old, young):
        member.since = loop.now
        assert book.admit(member) is None
        loop.advance(1)
    book.move(idle, Phase.IDLE)
    book.move(answered, Phase.ANSWERING)
    for _ in range(3):
        loop.advance(1)
        coming = Member("coming", None, Phase.ANSWERING, since=loop.now)
        assert book.admit(coming) is None
    assert closed == ["old", "young", "idle"]


def test_connections_beyond_the_limit_are_evicted_only_after_a_moment(loop: Loop) -> None:
    closed: list[str] = []
    book = ledger(loop, connections=4)
    for number in range(10):
        assert book.admit(Member(str(number), None, closed=closed)) is None
    assert closed == []
    assert book.is_crowded()
    loop.advance(1)
    assert closed == [str(number) for number in range(6)]
    assert not book.is_crowded()


def test_a_connection_is_refused_if_no_other_one_may_be_evicted(loop: Loop) -> None:
    book = ledger(loop, connections=1)
    answers = [book.admit(Member("busy", None, Phase.ANSWERING)) for _ in range(20)]
    assert answers == [None] * 17 + [Cause.TOO_MANY_CONNECTIONS] * 3


def test_of_connections_closed_for_others_only_the_latest_may_still_deliver_written_data(
    loop: Loop,
) -> None:
    closed: list[str] = []
    book = ledger(loop, connections=1)
    for number in range(MOST_LEAVING + 3):
        loop.advance(1)
        book.admit(Member(str(number), None, Phase.IDLE, closed=closed, since=loop.now))
    assert [each for each in closed if "at once" in each] == ["0 at once", "0 at once", "1 at once"]


def test_a_refused_connection_keeps_its_descriptor_only_for_a_short_time(loop: Loop) -> None:
    closed: list[str] = []
    book = ledger(loop, connections=1)
    for number in range(MOST_LEAVING + 1):
        book.leave(Member(str(number), None, Phase.CLOSING, closed=closed))
    assert closed == ["0 at once"]


def test_without_descriptors_first_those_go_that_were_to_go_and_then_the_longest_waiting(loop: Loop) -> None:
    closed: list[str] = []
    book = ledger(loop)
    leaving, member = Member("leaving", closed=closed), Member("member", closed=closed)
    book.admit(member)
    book.leave(leaving)
    book.free_descriptors()
    assert closed == ["leaving at once"]
    book.remove(leaving)  # as it is lost
    book.free_descriptors()
    assert closed == ["leaving at once", "member"]


def test_one_address_takes_no_room_from_others(loop: Loop) -> None:
    closed: list[str] = []
    book = ledger(loop, connections=100, connections_per_address=2)
    other = Member("other", "198.51.100.1", closed=closed)
    book.admit(other)
    for number in range(5):
        loop.advance(1)
        book.admit(Member(str(number), closed=closed, since=loop.now))
    assert closed == ["0", "1", "2"]


def test_a_removed_connection_is_not_counted(loop: Loop) -> None:
    book = ledger(loop, connections=1, connections_per_address=1)
    for _ in range(50):
        member = Member("one", phase=Phase.ANSWERING)
        assert book.admit(member) is None
        book.remove(member)
        book.remove(member)


def test_a_cause_is_logged_once_a_minute_and_a_hook_that_fails_changes_nothing(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    counted: list[str] = []

    def fail(cause: str) -> None:
        counted.append(cause)
        raise RuntimeError

    app = SimpleNamespace(app=SimpleNamespace(state=SimpleNamespace(connection_refused=fail)))
    book = ledger(loop, app)
    book.admit(Member("one"))
    with caplog.at_level(logging.WARNING, "uvicorn.error"):
        for _ in range(1000):
            book.report(Cause.MALFORMED)
        loop.advance(59)
        assert [record.getMessage().split()[-1] for record in caplog.records] == ["1"]
        loop.advance(2)
    assert [record.getMessage().split()[-1] for record in caplog.records] == ["1", "999"]
    assert counted == ["malformed"] * 1000


def test_addresses_are_counted_by_site_and_those_of_proxies_not_at_all() -> None:
    limits = Limits(proxies=("10.0.0.0/8", "2001:db8:ffff::/48"))
    assert limits.counted_address("192.0.2.1") == "192.0.2.1"
    assert limits.counted_address("::ffff:192.0.2.1") == "192.0.2.1"
    assert limits.counted_address("2001:db8::1") == limits.counted_address("2001:db8::2:3")
    assert limits.counted_address("2001:db8::1") != limits.counted_address("2001:db8:0:1::1")
    assert limits.counted_address("fe80::1%eth0") is not None
    for exempt in ("10.1.2.3", "::ffff:10.1.2.3", "2001:db8:ffff::1", "not an address"):
        assert limits.counted_address(exempt) is None


@pytest.mark.parametrize(
    ("descriptors", "wanted", "allowed"),
    [
        (resource.RLIM_INFINITY, 0, MOST_CONNECTIONS),
        (100_000, 0, MOST_CONNECTIONS),
        (100_000, 50_000, 50_000),
        (1024, 0, 1024 - RESERVED_DESCRIPTORS),
        (1024, 5000, 1024 - RESERVED_DESCRIPTORS),
        (128, 0, 64),
        (20, 0, 10),
    ],
)
def test_file_descriptors_are_left_for_the_database_and_files(
    monkeypatch: pytest.MonkeyPatch, descriptors: int, wanted: int, allowed: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (descriptors, descriptors))
    limits = Limits(connections=wanted)
    assert limits.most_connections == allowed
    assert limits.most_per_address == max(1, allowed // 2)


class Endless:
    """An application whose answer has no end; it notes why connections were closed."""

    def __init__(self) -> None:
        self.causes: list[str] = []
        self.state = SimpleNamespace(connection_refused=self.causes.append)
        self.ended = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while scope["type"] == "http" and not self.causes:
                await send({"type": "http.response.body", "body": b"a" * 65536, "more_body": True})
                await asyncio.sleep(0)
        finally:
            self.ended += 1


@pytest.mark.parametrize("loop_name", ["asyncio", "uvloop"])
def test_a_client_that_takes_nothing_of_an_answer_is_left(loop_name: str) -> None:
    app = Endless()
    config = Config(app, Limits(write_seconds=0.5), lifespan="off", log_config=None, loop=loop_name)
    server = uvicorn.Server(config)
    with socket.create_server((HOST, 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            with socket.create_connection(listener.getsockname(), timeout=120) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                eventually(lambda: app.causes and app.ended, "it is left")
            assert app.causes == [Cause.WRITE_TIMEOUT.value]
        finally:
            server.should_exit = True
            thread.join()
