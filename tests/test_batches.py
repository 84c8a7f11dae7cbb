"""Owns that jobs done together are done as if each were alone, and durable before anybody is told."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from given import same
from sqlalchemy import text

from issuer.oauth import InvalidGrant
from issuer.store.batches import Batches
from issuer.store.database import Database, DatabaseUnavailable

INSERT = text("INSERT INTO devices (device, seen_at) VALUES (:device, '2026-01-01')")


@pytest.fixture(params=["on one core", "with a second"])
def batches(database: Database, request: pytest.FixtureRequest) -> Iterator[Batches]:
    batches = Batches(database)
    if request.param == "with a second":
        batches.finish_beside()
    yield batches
    batches.close()


def devices(url: str) -> set[bytes]:
    """What another process sees."""
    other = Database(url)
    with other.read() as connection:
        found = set(connection.scalars(text("SELECT device FROM devices")))
    other.close()
    return found


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/issuer.db"


def keeping(database: Database, name: bytes) -> Callable[[], bytes]:
    def work() -> bytes:
        with database.write() as connection:
            connection.execute(INSERT, {"device": name})
        return name

    return work


async def all_at_once(batches: Batches, jobs: list[Callable[[], Any]]) -> list[Any]:
    """Ask for all before any is begun."""
    return await asyncio.gather(*(batches.run(job, same) for job in jobs), return_exceptions=True)


def test_jobs_that_wait_at_once_share_a_transaction(
    database: Database, batches: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = []
    together = database.together

    def counted() -> Any:
        commits.append(1)
        return together()

    monkeypatch.setattr(database, "together", counted)
    names = [bytes([number]) for number in range(30)]
    assert asyncio.run(all_at_once(batches, [keeping(database, name) for name in names])) == names
    assert len(commits) == 1


def test_what_follows_a_job_is_done_when_its_change_is_durable_and_others_may_write(
    database: Database, batches: Batches, url: str
) -> None:
    def look(name: bytes) -> set[bytes]:
        keeping(Database(url), b"another process")()
        return devices(url) | {name}

    async def run() -> set[bytes]:
        return await batches.run(keeping(database, b"a"), look)

    assert asyncio.run(run()) == {b"a", b"another process"}


def test_what_a_job_changed_is_there_for_others_before_it_is_told(
    database: Database, batches: Batches, url: str
) -> None:
    async def run() -> None:
        await batches.run(keeping(database, b"a"), same)
        assert devices(url) == {b"a"}

    asyncio.run(run())


def test_a_refused_job_disturbs_no_other_and_what_it_wrote_stays(
    database: Database, batches: Batches, url: str
) -> None:
    def refused() -> None:
        keeping(database, b"counted")()
        raise InvalidGrant("no")

    jobs: list[Callable[[], Any]] = [keeping(database, b"a"), refused, keeping(database, b"b")]
    first, second, third = asyncio.run(all_at_once(batches, jobs))
    assert (first, third) == (b"a", b"b")
    assert isinstance(second, InvalidGrant)
    assert devices(url) == {b"a", b"b", b"counted"}


def test_a_job_that_fails_fails_alone_and_leaves_nothing_behind(
    database: Database, batches: Batches, url: str
) -> None:
    def failing() -> None:
        with database.write() as connection:
            connection.execute(INSERT, {"device": b"half"})
            connection.execute(text("no SQL"))

    jobs: list[Callable[[], Any]] = [keeping(database, b"a"), failing, keeping(database, b"b")]
    first, second, third = asyncio.run(all_at_once(batches, jobs))
    assert (first, third) == (b"a", b"b")
    assert isinstance(second, DatabaseUnavailable)
    assert devices(url) == {b"a", b"b"}


def test_a_job_that_takes_its_change_back_takes_back_nobody_elses(
    database: Database, batches: Batches, url: str
) -> None:
    def undone() -> bool:
        with database.write() as connection:
            connection.execute(INSERT, {"device": b"undone"})
            database.undo(connection)
        return False

    jobs: list[Callable[[], Any]] = [keeping(database, b"a"), undone, keeping(database, b"b")]
    assert asyncio.run(all_at_once(batches, jobs)) == [b"a", False, b"b"]
    assert devices(url) == {b"a", b"b"}


def test_who_goes_away_holds_nobody_up(database: Database, batches: Batches, url: str) -> None:
    async def run() -> None:
        begun, go_on = threading.Event(), threading.Event()

        def slow() -> None:
            begun.set()
            go_on.wait(5)

        gone = asyncio.create_task(batches.run(slow, same))
        await asyncio.to_thread(begun.wait, 5)
        patient = asyncio.create_task(batches.run(keeping(database, b"a"), same))
        gone.cancel()
        go_on.set()
        assert await patient == b"a"
        with pytest.raises(asyncio.CancelledError):
            await gone

    asyncio.run(run())
    assert devices(url) == {b"a"}


def test_after_the_end_nobody_waits_for_ever(database: Database) -> None:
    batches = Batches(database)
    batches.close()
    with pytest.raises(RuntimeError):
        asyncio.run(batches.run(keeping(database, b"a"), same))
