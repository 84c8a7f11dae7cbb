"""Fixtures for limits: a database of each kind, and clients with chosen addresses."""

import pytest
from fastapi.testclient import TestClient
from support.guessing import From

from issuer.database.database import Database
from issuer.services import Issuer


@pytest.fixture
def database(each_database: Database) -> Database:
    return each_database


@pytest.fixture
def client_from(issuer: Issuer, web: TestClient) -> From:
    """Make a client of another machine, without cookies."""
    return lambda address: TestClient(web.app, client=(address, 50000))
