"""The databases of the tests, made without Alembic, are what the migrations make."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from issuer.database.database import Database


def made(path: Path) -> list[str]:
    """Return all tables, indexes and rows of a new database."""
    database = Database(f"sqlite:///{path}")
    database.migrate()
    assert database.is_current()
    database.close()
    with closing(sqlite3.connect(path)) as connection:
        return sorted(connection.iterdump())


def test_a_copied_database_is_what_the_migrations_make(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    made(tmp_path / "the first in this process, which may be the one that is copied")
    copied = made(tmp_path / "copied")
    request.getfixturevalue("real_migrations")
    assert copied == made(tmp_path / "real")
