"""An issuer to move, and an empty database of each kind."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.defaults import ALICE, PASSWORD, MovableClock
from support.moves import ORIGIN
from support.postgresql import new_database

from issuer.database.database import Database
from issuer.services import Issuer


@pytest.fixture
def lived(issuer: Issuer, clock: MovableClock) -> Issuer:
    """An issuer with an account, a session and two rotations behind it, which has stopped at this moment."""
    clock.now = datetime.now(UTC) - timedelta(days=4)  # databases have clocks of their own
    issuer.keys.node.refresh()
    issuer.accounts.registration.register("alice", PASSWORD, ORIGIN, clock())
    issuer.tokens.pipeline.login(ALICE, ORIGIN, clock())
    for _ in range(2):
        clock.advance(days=2)
        issuer.keys.rotation.change(lambda ring, now: ring.promoted(issuer.policy, now))
        issuer.keys.node.refresh()
    issuer.keys.node.leave()
    return issuer


@pytest.fixture(params=["sqlite", "postgresql"])
def new(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database that is empty: a file that does not exist yet, or one of PostgreSQL."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/new.db"
    else:
        url = new_database(request.getfixturevalue("postgresql"))
    with closing(Database(url)) as database:
        yield database
