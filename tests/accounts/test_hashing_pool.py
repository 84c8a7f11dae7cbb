"""The hashing pool: a bounded queue in which networks take turns, so that none delays another."""

import asyncio
import os
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from issuer.accounts.hashing_pool import (
    NICENESS_ADDED,
    NICENESS_MOST,
    QUEUE_LIMIT,
    RETRY_WITHIN_SECONDS,
    FairQueue,
    HashingPool,
    Job,
    Place,
    QueueFull,
)
from issuer.oauth import Unavailable
from issuer.throttling.limits import networks_of

STORM = networks_of("203.0.113.1")
OTHERS = [networks_of(f"198.51.100.{number}") for number in range(49)]


class Held:
    """A pool whose threads are blocked until `release`; records the order of jobs, and the rejected ones."""

    def __init__(self, threads: int = 1) -> None:
        self.pool = HashingPool(threads)
        self.gate = threading.Event()
        self.ran: list[Place] = []
        self.turned_away: Counter[Place] = Counter()
        self._tasks: list[asyncio.Task[None]] = []

    async def ask(self, place: Place, times: int = 1) -> None:
        """Queue jobs of a subnet, and record the rejected ones."""
        self._tasks += [asyncio.create_task(self._ask(place)) for _ in range(times)]
        await asyncio.sleep(0)

    async def _ask(self, place: Place) -> None:
        def job() -> None:
            self.gate.wait(30)
            self.ran.append(place)

        try:
            await self.pool.run(place, job)
        except QueueFull:
            self.turned_away[place] += 1

    async def release(self) -> None:
        self.gate.set()
        await asyncio.gather(*self._tasks)
        self.pool.close()


def held(story: Callable[[Held], Awaitable[None]]) -> Held:
    async def play() -> Held:
        made = Held()
        await story(made)
        await made.release()
        return made

    return asyncio.run(play())


def test_the_pool_rejects_jobs_while_its_queue_is_full_and_recovers() -> None:
    async def flood() -> None:
        pool = HashingPool(threads=1)
        gate = threading.Event()
        waiting = [asyncio.create_task(pool.run(STORM, gate.wait)) for _ in range(QUEUE_LIMIT + 1)]
        await asyncio.sleep(0)
        seconds = set()
        for _ in range(200):
            with pytest.raises(Unavailable) as refusal:
                await pool.run(STORM, gate.wait)
            assert refusal.value.retry_after
            seconds.add(refusal.value.retry_after.total_seconds())
        assert seconds == set(range(1, RETRY_WITHIN_SECONDS + 1))  # they do not all come back at once
        gate.set()
        assert all(await asyncio.gather(*waiting))
        assert await pool.run(STORM, str, 1) == "1"
        pool.close()

    asyncio.run(flood())


def test_many_log_ins_from_one_address_refuse_no_other_address() -> None:
    async def story(made: Held) -> None:
        await made.ask(STORM, 80)
        for other in OTHERS:
            await made.ask(other)
            await made.ask(STORM, 3)

    made = held(story)
    assert set(made.turned_away) == {STORM}
    assert Counter(made.ran)[STORM] + made.turned_away[STORM] == 80 + 3 * 49
    assert set(OTHERS) <= set(made.ran)


def test_another_address_is_next_in_the_queue_after_many_log_ins_of_one() -> None:
    async def story(made: Held) -> None:
        await made.ask(STORM, 50)
        await made.ask(OTHERS[0], 2)

    ran = held(story).ran
    assert [place for place in ran if place == OTHERS[0]] == [OTHERS[0]] * 2
    assert max(number for number, place in enumerate(ran) if place == OTHERS[0]) <= 5


def test_the_sites_of_an_ipv6_network_share_one_allowance() -> None:
    subnets = [networks_of(f"2001:db8:1:{number:x}::1") for number in range(100)]

    async def story(made: Held) -> None:
        for each in subnets:
            await made.ask(each)
        for other in OTHERS:
            await made.ask(other)

    made = held(story)
    assert set(made.turned_away) <= set(subnets)
    assert set(OTHERS) <= set(made.ran)
    # Each other is no further behind than one job of the network for each of its own turns.
    assert Counter(place in subnets for place in made.ran[:60])[True] <= 31


def test_sites_within_an_ipv6_network_are_served_in_turn() -> None:
    greedy, modest = networks_of("2001:db8:1:1::1"), networks_of("2001:db8:1:2::1")

    async def story(made: Held) -> None:
        await made.ask(greedy, 100)
        await made.ask(modest)

    made = held(story)
    assert set(made.turned_away) == {greedy}
    assert modest in made.ran[:4]


def test_many_log_ins_to_one_account_refuse_no_other_account_at_the_same_address() -> None:
    async def story(made: Held) -> None:
        await made.ask((*STORM, "alice"), 80)
        for number in range(49):
            await made.ask((*STORM, f"user {number}"))

    made = held(story)
    assert set(made.turned_away) == {(*STORM, "alice")}
    assert {(*STORM, f"user {number}") for number in range(49)} <= set(made.ran)


def test_the_last_job_is_refused_when_all_places_have_equally_many() -> None:
    places = [networks_of(f"192.0.2.{number}") for number in range(QUEUE_LIMIT + 2)]

    async def story(made: Held) -> None:
        for each in places:
            await made.ask(each)

    assert held(story).turned_away == Counter([places[-1]])


def test_a_client_that_disconnects_in_the_queue_takes_no_thread() -> None:
    async def story(made: Held) -> None:
        await made.ask(OTHERS[0])
        await made.ask(OTHERS[1])
        hung_up = asyncio.create_task(made.pool.run(STORM, made.ran.append, STORM))
        await asyncio.sleep(0)
        hung_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hung_up

    assert STORM not in held(story).ran


def test_an_error_of_a_job_is_raised_to_its_caller_and_the_thread_continues() -> None:
    async def story() -> None:
        pool = HashingPool(threads=1)
        with pytest.raises(ZeroDivisionError):
            await pool.run(STORM, divmod, 1, 0)
        assert await pool.run(STORM, divmod, 1, 1) == (1, 0)
        pool.close()

    asyncio.run(story())


def test_a_metric_that_raises_changes_nothing() -> None:
    async def story() -> str:
        pool = HashingPool(threads=1)

        def fail(_jobs: int) -> None:
            raise OSError("no space left")

        pool.changed = fail
        try:
            return await pool.run(STORM, str, 1)
        finally:
            pool.close()

    assert asyncio.run(story()) == "1"


ADDRESSES = st.sampled_from(
    ["192.0.2.1", "192.0.2.2", "2001:db8:1:1::", "2001:db8:1:2::", "2001:db8:2:1::", ""]
)


@given(st.lists(st.one_of(ADDRESSES, st.sampled_from(["next", "shed"]))))
def test_each_job_runs_once_and_jobs_of_a_site_keep_their_order(steps: list[str]) -> None:
    turns, queued = FairQueue(), dict[str, list[Job]]()
    for step in steps:
        if step not in {"next", "shed"}:
            job = Job(bool)
            turns.put(job, networks_of(step))
            queued.setdefault(step, []).append(job)
        elif not turns.size:
            with pytest.raises((IndexError, KeyError)):
                getattr(turns, step)()
        else:
            job = getattr(turns, step)()
            subnet = next(subnet for subnet, jobs in queued.items() if job in jobs)
            assert queued[subnet].pop(0 if step == "next" else -1) is job
        assert turns.size == sum(map(len, queued.values()))


@given(st.lists(ADDRESSES, min_size=1))
def test_every_waiting_network_is_served_between_two_jobs_of_one_network(addresses: list[str]) -> None:
    turns, waiting = FairQueue(), Counter[str]()
    job_of = {}
    for address in addresses:
        job = Job(bool)
        job_of[id(job)] = (job, networks_of(address)[0])
        turns.put(job, networks_of(address))
        waiting[networks_of(address)[0]] += 1
    since = Counter[str]()
    while turns.size:
        served = job_of[id(turns.next())][1]
        assert all(since[other] <= len(waiting) for other in waiting)
        since.update(other for other in waiting if waiting[other] and other != served)
        since[served] = 0
        waiting[served] -= 1


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own")
def test_hashing_threads_have_the_lowest_priority_in_the_process() -> None:
    async def niceness() -> int:
        pool = HashingPool(threads=1)
        try:
            return await pool.run(STORM, lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        finally:
            pool.close()

    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert asyncio.run(niceness()) == min(NICENESS_MOST, own + NICENESS_ADDED)
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own
