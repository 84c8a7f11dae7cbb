"""Supervision of background tasks: they are restarted, and a process in which that fails is replaced.

Real servers are tested in `servers/test_supervised`.
"""

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest

from issuer.web.operation.supervision import (
    EVENT_LOOP_SECONDS,
    TICK_SECONDS,
    Beat,
    Limits,
    Supervisor,
    Task,
    ThreadCheck,
    Watchdog,
)

LIMITS = Limits(unready=10, unhealthy=30, end=60)
SECOND = timedelta(seconds=1)


class ImmediateCheck:
    """A check that has its result when it is started."""

    def __init__(self, *, says: bool) -> None:
        self.result: bool | None = None
        self.says = says
        self.starts = 0

    def start(self) -> None:
        self.result = self.says
        self.starts += 1


class World:
    """A supervisor whose seconds pass when the test says so."""

    def __init__(self, *tasks: Task, replaceable: bool = True) -> None:
        self.now = 0.0
        self.restarts: list[str] = []
        self.ended_at: list[float] = []
        self.check = ImmediateCheck(says=replaceable)
        self._ticks: asyncio.Queue[None] = asyncio.Queue()
        self.supervisor = Supervisor(
            tasks,
            LIMITS,
            restarted=self.restarts.append,
            can_be_replaced=self.check,
            end=lambda: self.ended_at.append(self.now),
            sleep=self._sleep,
            monotonic=lambda: self.now,
        )

    async def _sleep(self, _seconds: float) -> None:
        await self._ticks.get()

    async def after(self, seconds: int, *, at_once: bool = False) -> Supervisor:
        """Let time pass, second by second, or in one jump."""
        for passed in [seconds] if at_once else [1] * seconds:
            self.now += passed
            self._ticks.put_nowait(None)
            for _ in range(10):
                await asyncio.sleep(0)
        return self.supervisor


async def hangs(_beat: Beat) -> None:
    await asyncio.Event().wait()


async def beats(beat: Beat) -> None:
    while True:
        beat()
        await asyncio.sleep(0)


async def fails(_beat: Beat) -> None:
    raise RuntimeError("a defect")


async def returns(_beat: Beat) -> None:
    return


async def cancels_itself(_beat: Beat) -> None:
    raise asyncio.CancelledError


def run(world: World, *steps: tuple[int, Callable[[World], None]], at_once: bool = False) -> None:
    """Supervise, and look at the world after each so many seconds."""

    async def scenario() -> None:
        supervising = asyncio.create_task(world.supervisor.run())
        await asyncio.sleep(0)
        for seconds, look in steps:
            await world.after(seconds, at_once=at_once)
            look(world)
        supervising.cancel()
        await asyncio.wait({supervising})

    asyncio.run(scenario())


@pytest.mark.parametrize("ends", [fails, returns, cancels_itself])
def test_a_task_that_ends_is_started_again_with_longer_and_longer_pauses(ends: Callable[..., object]) -> None:
    world = World(Task("one", ends, SECOND), Task("other", beats, SECOND))  # type: ignore[arg-type]

    def restarted(times: int) -> Callable[[World], None]:
        def look(world: World) -> None:
            assert world.restarts == ["one"] * times

        return look

    run(world, (2, restarted(1)), (3, restarted(2)), (5, restarted(3)), (9, restarted(4)))


def test_a_task_with_a_heartbeat_after_a_restart_is_healthy() -> None:
    lives = iter([fails, beats])

    async def recovers(beat: Beat) -> None:
        await next(lives)(beat)

    world = World(Task("one", recovers, SECOND))

    def look(world: World) -> None:
        assert world.restarts == ["one"]
        assert world.supervisor.unready is world.supervisor.unhealthy is None
        assert world.supervisor.overdue == {"one": 0.0}
        assert world.ended_at == []

    run(world, (100, look))


@pytest.mark.parametrize("runs", [hangs, fails])
def test_a_task_that_cannot_be_kept_running_makes_the_process_unready_then_unhealthy_and_ends_it_once(
    runs: Callable[..., object],
) -> None:
    world = World(Task("one", runs, SECOND), Task("other", beats, SECOND))  # type: ignore[arg-type]

    def is_well(world: World) -> None:
        assert world.supervisor.unready is None

    def is_unready(world: World) -> None:
        assert world.supervisor.unready == "no heartbeat from the background task one"
        assert world.supervisor.unhealthy is None

    def is_unhealthy(world: World) -> None:
        assert world.supervisor.unhealthy == world.supervisor.unready
        assert world.ended_at == []

    def has_ended(world: World) -> None:
        assert len(world.ended_at) == 1
        assert world.supervisor.has_ended

    run(world, (10, is_well), (2, is_unready), (25, is_unhealthy), (40, has_ended))


def test_a_process_that_nothing_could_replace_keeps_running_unready() -> None:
    world = World(Task("one", hangs, SECOND), replaceable=False)

    def look(world: World) -> None:
        assert world.supervisor.unready
        assert world.supervisor.unhealthy is None
        assert world.ended_at == []
        assert world.check.starts > 10  # the check is repeated
        world.check.says = True

    def has_ended(world: World) -> None:
        assert len(world.ended_at) == 1

    run(world, (200, look), (20, has_ended))


def test_a_process_that_was_stopped_and_resumed_is_not_held_for_silent() -> None:
    world = World(Task("one", beats, SECOND))

    def look(world: World) -> None:
        assert world.supervisor.unready is None
        assert world.ended_at == []

    run(world, (3600, look), (3600, look), at_once=True)


def test_tasks_end_with_their_supervisor() -> None:
    ended = []

    async def waits(_beat: Beat) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    run(World(Task("one", waits, SECOND)), (3, lambda _: None))
    assert ended == [True]


def test_the_counter_of_restarts_may_fail() -> None:
    world = World(Task("one", returns, SECOND))

    def fail(_name: str) -> None:
        raise RuntimeError

    world.supervisor._restarted = fail

    def look(world: World) -> None:
        assert not world.supervisor.has_ended

    run(world, (20, look))


def test_a_check_that_hangs_has_no_result_and_is_started_once_at_a_time() -> None:
    begun, free = [], threading.Event()

    def check_once() -> bool:
        begun.append(True)
        free.wait(10)
        return True

    check = ThreadCheck(check_once)
    check.start()
    check.start()
    assert check.result is None
    free.set()
    check._thread.join()  # type: ignore[union-attr]
    assert check.result is True
    assert begun == [True]


def test_a_check_that_fails_for_an_unknown_reason_counts_as_true() -> None:
    def check_once() -> bool:
        raise RuntimeError("no more threads")

    check = ThreadCheck(check_once)
    check.start()
    check._thread.join()  # type: ignore[union-attr]
    assert check.result is True


@pytest.mark.parametrize(("step", "is_blocked"), [(1.0, True), (3600.0, False)])
def test_a_blocked_event_loop_ends_its_process_unless_the_whole_process_was_stopped(
    step: float, *, is_blocked: bool
) -> None:
    now, ended = [0.0], []

    def wait(_seconds: float) -> bool:
        now[0] += step
        return now[0] > 2 * EVENT_LOOP_SECONDS * step / TICK_SECONDS if is_blocked else now[0] > 20 * step

    Watchdog(lambda: 7, lambda: ended.append(now[0]), wait, lambda: now[0]).watch()
    assert bool(ended) is is_blocked


def test_an_event_loop_that_makes_progress_does_not_end_its_process() -> None:
    now, ended = [0.0], []

    def wait(_seconds: float) -> bool:
        now[0] += 1
        return now[0] > 10 * EVENT_LOOP_SECONDS

    Watchdog(lambda: int(now[0] / 50), lambda: ended.append(True), wait, lambda: now[0]).watch()
    assert not ended
