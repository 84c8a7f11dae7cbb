"""The grace period of used refresh tokens as a setting: what is answered within it, and what is stored for it."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import func, select
from support.two_nodes import SKEW, Node, Time, two_nodes

from issuer.settings.settings import Settings
from issuer.tokens.refresh import Grace
from issuer.tokens.refresh_rotation import refresh_tokens

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
Nodes = Callable[[timedelta], list[Node]]


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def nodes(tmp_path: Path, time: Time) -> Iterator[Nodes]:
    """Return a function that makes two nodes with a grace period, whose clocks differ as far as they may."""
    made: list[Node] = []

    def make(period: timedelta) -> list[Node]:
        made.extend(two_nodes(f"sqlite:///{tmp_path}/issuer.db", time, Grace(period, SKEW)))
        return made

    yield make
    for node in made:
        node.database.close()


BOTH_WAYS = pytest.mark.parametrize(("one", "two"), [(0, 1), (1, 0)])


@BOTH_WAYS
@pytest.mark.parametrize("period", [5 * SECOND, 10 * MINUTE, 60 * MINUTE])
def test_a_used_token_is_repeated_until_the_grace_period_is_over_and_ends_the_session_after_it(
    nodes: Nodes, time: Time, period: timedelta, one: int, two: int
) -> None:
    both = nodes(period)
    first, second = both[one], both[two]
    token = first.log_in()
    following = first.refresh(token)
    time.now += period
    assert second.refresh(token) == following
    newest = first.refresh(following)
    time.now += period + SECOND
    assert second.refuses(following)
    assert first.refuses(newest)


def test_without_a_grace_period_a_second_use_ends_the_session(nodes: Nodes, time: Time) -> None:
    node = nodes(timedelta(0))[0]
    token = node.log_in()
    newest = node.refresh(token)
    time.now += SECOND
    assert node.refuses(token)
    assert node.refuses(newest)


@BOTH_WAYS
def test_a_token_is_repeated_late_in_a_long_period_though_others_were_used_since(
    nodes: Nodes, time: Time, one: int, two: int
) -> None:
    """Used tokens are deleted at later rotations: none of the grace period may be among them."""
    both = nodes(60 * MINUTE)
    first, second = both[one], both[two]
    used = first.log_in()
    following = newest = first.refresh(used)
    for _ in range(59):
        time.now += MINUTE
        newest = second.refresh(newest)
    assert first.refresh(used) == following
    assert not second.refuses(newest)


def test_tokens_used_before_the_grace_period_are_deleted(nodes: Nodes, time: Time) -> None:
    node = nodes(10 * MINUTE)[0]
    token = node.log_in()
    for _ in range(30):
        time.now += 5 * MINUTE
        token = node.refresh(token)
    with node.database.read() as connection:
        assert (connection.scalar(select(func.count()).select_from(refresh_tokens)) or 0) <= 4


@pytest.mark.parametrize("value", ["61m", "2h", "1d"])
def test_a_grace_period_of_more_than_an_hour_is_refused(value: str) -> None:
    with pytest.raises(ValidationError, match="must be at most 1h"):
        Settings.model_validate({"refresh_grace": value})


def test_the_grace_period_of_an_issuer_is_its_setting() -> None:
    assert Settings.model_validate({"refresh_grace": "1h"}).refresh_grace == 60 * MINUTE
    assert Settings().refresh_grace == 30 * SECOND
