"""Group commit of refreshes: each ends as if it had been done alone, and is durable before it is answered.

On SQLite and on a real PostgreSQL, with one core and with two.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import text, update
from support.defaults import PASSWORD, Build, MovableClock
from support.group_commits import (
    PATIENCE_SECONDS,
    PEOPLE,
    Work,
    deadlocks,
    grant,
    refreshes_of,
    run_together,
    submit,
    used,
)
from support.postgresql import new_database

from issuer.accounts.registration import register_user
from issuer.database.errors import DatabaseDamaged, DatabaseUnavailable
from issuer.digests import digest
from issuer.grants.response import UnsignedTokenResponse
from issuer.oauth import InvalidGrant
from issuer.services import Issuer
from issuer.settings.settings import Settings
from issuer.throttling.origin import Origin
from issuer.tokens.family_queries import Found
from issuer.tokens.group_commit import MOST, GroupCommit
from issuer.tokens.refresh import RepeatRefused
from issuer.tokens.refresh_rotation import families, refresh_tokens


@pytest.fixture
def clock() -> MovableClock:
    """The real time, as the database server has its own clock."""
    clock = MovableClock()
    clock.now = datetime.now(UTC)
    return clock


@pytest.fixture
def settings(settings: Settings, url: str) -> Settings:
    return settings.model_copy(update={"database_url": SecretStr(url)})


@pytest.fixture
def issuer(made: Build, settings: Settings) -> Issuer:
    issuer = made(settings)
    issuer.keys.node.refresh()
    return issuer


@pytest.fixture(params=["on one core", "with a second"])
def group_commit(issuer: Issuer, request: pytest.FixtureRequest) -> Iterator[GroupCommit]:
    group_commit = GroupCommit(issuer.tokens.families)
    if request.param == "with a second":
        group_commit.use_second_core()
    yield group_commit
    group_commit.close()


@pytest.fixture
def tokens(issuer: Issuer, clock: MovableClock) -> list[str]:
    """A refresh token for each of PEOPLE users."""
    issued = []
    for name in (f"person{number}" for number in range(PEOPLE)):
        accounts = issuer.accounts
        register_user(accounts.store, accounts.passwords, name, PASSWORD, clock(), frozenset())
        credentials = {"grant_type": "password", "username": name, "password": PASSWORD}
        issued.append(issuer.tokens.pipeline.login(credentials, Origin(), clock()).refresh_token or "")
    return issued


def test_waiting_refreshes_share_one_read_and_one_write(
    issuer: Issuer, group_commit: GroupCommit, tokens: list[str]
) -> None:
    transactions: list[str] = []
    issuer.database.took = lambda kind, _seconds: transactions.append(kind)
    successors = run_together(group_commit, refreshes_of(issuer, tokens))
    assert sorted(transactions) == ["read", "write"]
    assert len(set(successors)) == PEOPLE
    outcomes = used(issuer)
    assert all(outcomes[digest(token)] for token in tokens)
    assert not any(outcomes[digest(successor)] for successor in successors)


def test_each_session_can_be_refreshed_repeatedly(
    issuer: Issuer, group_commit: GroupCommit, tokens: list[str]
) -> None:
    seen = set(tokens)
    for _ in range(5):
        tokens = run_together(group_commit, refreshes_of(issuer, tokens))
        assert seen.isdisjoint(tokens)
        seen.update(tokens)


def test_a_refresh_is_answered_after_its_commit(
    issuer: Issuer, group_commit: GroupCommit, tokens: list[str]
) -> None:
    async def run() -> None:
        await submit(group_commit, tokens[0], partial(grant, issuer, tokens[0]))
        assert used(issuer)[digest(tokens[0])]

    asyncio.run(run())


def test_one_token_in_many_simultaneous_requests_has_one_successor_given_twice(
    issuer: Issuer, group_commit: GroupCommit, tokens: list[str]
) -> None:
    outcomes = run_together(group_commit, refreshes_of(issuer, [tokens[0]] * 5 + tokens[1:]))
    given = [each for each in outcomes[:5] if isinstance(each, str)]
    assert (len(given), len(set(given))) == (2, 1)
    assert all(isinstance(each, str | RepeatRefused) for each in outcomes)
    assert len({*given, *outcomes[5:]}) == PEOPLE
    assert len(used(issuer)) == 2 * PEOPLE


def test_more_refreshes_than_fit_into_a_batch_are_all_done(
    issuer: Issuer, group_commit: GroupCommit, tokens: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("issuer.tokens.group_commit.MOST", 5)
    assert MOST > PEOPLE
    assert len(set(run_together(group_commit, refreshes_of(issuer, tokens)))) == PEOPLE


def test_a_refused_refresh_does_not_affect_the_others(
    issuer: Issuer, group_commit: GroupCommit, tokens: list[str]
) -> None:
    works = [
        ("no such token", partial(grant, issuer, "no such token")),
        (tokens[0], partial(grant, issuer, tokens[0], scope="everything")),
        *refreshes_of(issuer, tokens[1:]),
    ]
    unknown, too_much, *others = run_together(group_commit, works)
    assert isinstance(unknown, InvalidGrant)
    assert too_much.code == "invalid_scope"
    assert len(set(others)) == PEOPLE - 1
    assert not used(issuer)[digest(tokens[0])]


def test_a_failure_does_not_affect_the_others(
    issuer: Issuer, group_commit: GroupCommit, tokens: list[str]
) -> None:
    def fail(_found: Found | None) -> UnsignedTokenResponse:
        raise DatabaseUnavailable("only for this one")

    failed, *others = run_together(group_commit, [(tokens[0], fail), *refreshes_of(issuer, tokens[1:])])
    assert isinstance(failed, DatabaseUnavailable)
    assert len(set(others)) == PEOPLE - 1


def test_a_failed_signature_affects_only_its_own_refresh(
    issuer: Issuer, group_commit: GroupCommit, tokens: list[str]
) -> None:
    def sign(granted: UnsignedTokenResponse) -> UnsignedTokenResponse:
        if granted.refresh_token == first:
            raise InvalidGrant("revoked in this very moment")
        return granted

    first = grant(issuer, tokens[0]).refresh_token

    async def run() -> list[Any]:
        asked = (submit(group_commit, token, partial(grant, issuer, token), sign) for token in tokens)
        return await asyncio.gather(*asked, return_exceptions=True)

    failed, *others = asyncio.run(run())
    assert isinstance(failed, InvalidGrant)
    assert all(isinstance(other, UnsignedTokenResponse) for other in others)


def meanwhile(issuer: Issuer, token: str, happens: Callable[[Issuer], object], made: Build) -> Work:
    """Return a refresh during which `happens` is called once on another node, after the token was looked up."""
    elsewhere = made(issuer.settings)
    elsewhere.keys.node.refresh()
    times = iter([True])

    def work(found: Found | None) -> UnsignedTokenResponse:
        granted = grant(issuer, token, found)
        if next(times, False):
            happens(elsewhere)
        return granted

    return work


def test_a_token_used_meanwhile_at_another_node_has_the_same_successor(
    issuer: Issuer, group_commit: GroupCommit, tokens: list[str], made: Build
) -> None:
    theirs: list[str | None] = []
    work = meanwhile(
        issuer, tokens[0], lambda other: theirs.append(grant(other, tokens[0]).refresh_token), made
    )
    mine, *others = run_together(group_commit, [(tokens[0], work), *refreshes_of(issuer, tokens[1:])])
    assert [mine] == theirs
    assert len({mine, *others}) == PEOPLE


def test_a_session_that_ends_meanwhile_is_not_renewed(
    issuer: Issuer, group_commit: GroupCommit, tokens: list[str], made: Build
) -> None:
    user = issuer.accounts.store.by_username("person0")
    assert user
    work = meanwhile(
        issuer, tokens[0], lambda other: other.tokens.families.end_all(other.clock(), user.id), made
    )
    ended, *others = run_together(group_commit, [(tokens[0], work), *refreshes_of(issuer, tokens[1:])])
    assert isinstance(ended, InvalidGrant)
    assert len(set(others)) == PEOPLE - 1
    assert not used(issuer)[digest(tokens[0])]


def test_a_replayed_token_ends_its_session_and_delays_no_other_refresh(
    issuer: Issuer, group_commit: GroupCommit, tokens: list[str], clock: MovableClock
) -> None:
    successor = grant(issuer, tokens[0]).refresh_token or ""
    with issuer.database.write() as connection:
        used_long_ago = update(refresh_tokens).where(refresh_tokens.c.used_at.is_not(None))
        connection.execute(used_long_ago.values(used_at=clock() - timedelta(hours=1)))
    replayed, *others = run_together(group_commit, refreshes_of(issuer, tokens))
    assert isinstance(replayed, InvalidGrant)
    assert len(set(others)) == PEOPLE - 1
    (gone,) = run_together(group_commit, refreshes_of(issuer, [successor]))
    assert isinstance(gone, InvalidGrant)


def test_a_cancelled_request_delays_no_other(
    issuer: Issuer, group_commit: GroupCommit, tokens: list[str]
) -> None:
    async def run() -> None:
        begun, go_on = threading.Event(), threading.Event()

        def slow(found: Found | None) -> UnsignedTokenResponse:
            begun.set()
            go_on.wait(PATIENCE_SECONDS)
            return grant(issuer, tokens[0], found)

        gone = asyncio.create_task(submit(group_commit, tokens[0], slow))
        await asyncio.to_thread(begun.wait, PATIENCE_SECONDS)
        patient = asyncio.create_task(submit(group_commit, tokens[1], partial(grant, issuer, tokens[1])))
        gone.cancel()
        go_on.set()
        assert (await patient).refresh_token
        with pytest.raises(asyncio.CancelledError):
            await gone

    asyncio.run(run())


def test_after_close_a_refresh_fails_immediately(issuer: Issuer, tokens: list[str]) -> None:
    group_commit = GroupCommit(issuer.tokens.families)
    group_commit.close()
    (failed,) = run_together(group_commit, refreshes_of(issuer, tokens[:1]))
    assert isinstance(failed, RuntimeError)
    assert not used(issuer)[digest(tokens[0])]


def test_close_finishes_the_refreshes_in_progress(
    issuer: Issuer, group_commit: GroupCommit, tokens: list[str]
) -> None:
    async def run() -> list[Any]:
        begun, go_on = threading.Event(), threading.Event()

        def slow(granted: UnsignedTokenResponse) -> UnsignedTokenResponse:
            begun.set()
            go_on.wait(PATIENCE_SECONDS)
            return granted

        asked = [
            asyncio.create_task(submit(group_commit, token, partial(grant, issuer, token), slow))
            for token in tokens
        ]
        await asyncio.to_thread(begun.wait, PATIENCE_SECONDS)
        group_commit.close()
        go_on.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await asyncio.gather(*asked, return_exceptions=True)

    assert all(isinstance(each, UnsignedTokenResponse | RuntimeError) for each in asyncio.run(run()))


# Locks of PostgreSQL: whoever locks many rows and waits for one may meet somebody who waits for him


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_locked_session_delays_no_other_refresh(
    issuer: Issuer, group_commit: GroupCommit, tokens: list[str]
) -> None:
    user = issuer.accounts.store.by_username("person0")
    assert user

    async def run() -> None:
        with issuer.database.write() as connection:
            connection.execute(update(families).where(families.c.user_id == user.id).values(address="x"))
            asked = [
                asyncio.create_task(submit(group_commit, token, partial(grant, issuer, token)))
                for token in tokens
            ]
            async with asyncio.timeout(PATIENCE_SECONDS):
                await asyncio.gather(*asked[1:])
            assert not asked[0].done()
        assert (await asked[0]).refresh_token

    asyncio.run(run())


def test_a_deadlock_is_counted(postgresql: str) -> None:
    url = new_database(postgresql)
    with psycopg.connect(url) as one, psycopg.connect(url) as other, ThreadPoolExecutor(1) as thread:
        one.execute("SELECT pg_advisory_xact_lock(1)")
        other.execute("SELECT pg_advisory_xact_lock(2)")
        waiting = thread.submit(one.execute, "SELECT pg_advisory_xact_lock(2)")
        with suppress(psycopg.errors.DeadlockDetected):
            other.execute("SELECT pg_advisory_xact_lock(1)")
        other.rollback()
        with suppress(psycopg.errors.DeadlockDetected):
            waiting.result()
        one.rollback()
    assert deadlocks(url) == 1


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_nodes_with_the_same_tokens_cause_no_deadlock(
    issuer: Issuer, tokens: list[str], made: Build, url: str
) -> None:
    nodes = [issuer, made(issuer.settings)]
    outcomes: list[list[Any]] = []

    def refresh(node: Issuer, order: list[str]) -> None:
        group_commit = GroupCommit(node.tokens.families)
        outcomes.append(sorted(run_together(group_commit, refreshes_of(node, order))))
        group_commit.close()

    for node in nodes:
        node.keys.node.refresh()
    for _ in range(10):
        orders = [tokens, tokens[::-1]]
        threads = [threading.Thread(target=refresh, args=pair) for pair in zip(nodes, orders, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert outcomes[0] == outcomes[1]
        tokens = outcomes[0]
        outcomes.clear()
    for node in nodes:
        node.close()
    assert deadlocks(url) == 0, "each holds everybody up for a second"


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("users", "scope = 'a  \\'"),
        ("users", "disabled_at = 'x'"),
        ("families", "audience = '{}'"),
        ("families", "scope = CAST(x'ff' AS TEXT)"),
        ("families", "expires_at = 'x'"),
        ("refresh_tokens", "expires_at = 'x'"),
        ("refresh_tokens", "paced_until = x'00'"),
        ("refresh_tokens", "successor_seed = 'x'"),
        ("refresh_tokens", "proof_digest = 5"),
    ],
)
def test_a_damaged_row_affects_no_other_refresh_of_its_batch(
    issuer: Issuer, group_commit: GroupCommit, tokens: list[str], table: str, change: str
) -> None:
    of_sqlite = "CAST" in change or not change.endswith(("'{}'", "\\'"))
    if of_sqlite and not issuer.database.is_sqlite:
        pytest.skip("PostgreSQL keeps the types of its columns")
    found = issuer.tokens.families.find(digest(tokens[0]))
    assert found
    name, value = {
        "users": ("id", found.user.id),
        "families": ("id", found.family.id),
        "refresh_tokens": ("family_id", found.family.id),
    }[table]
    with issuer.database.write() as connection:
        connection.execute(text(f"UPDATE {table} SET {change} WHERE {name} = '{value}'"))  # noqa: S608
    successors = run_together(group_commit, refreshes_of(issuer, tokens))
    assert isinstance(successors[0], DatabaseDamaged)
    if "CAST" not in change:
        row = value if table != "refresh_tokens" else digest(tokens[0]).hex()[:48]
        assert f"{row}" in str(successors[0])
    assert all(isinstance(each, str) for each in successors[1:])
    outcomes = used(issuer)
    assert all(outcomes[digest(token)] for token in tokens[1:])
