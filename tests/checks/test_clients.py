"""Checks of clients: the algorithm of the tokens that they verify."""

import pytest
from support.authorization import app
from support.stores import NOW

from issuer.checks.clients import without_rs256
from issuer.clients.client import Client
from issuer.clients.store import ClientStore
from issuer.database.database import Database
from issuer.oauth import GrantType

MACHINE = app(id="a machine", grant_types=frozenset({GrantType.CLIENT_CREDENTIALS}))


@pytest.mark.parametrize(
    ("client", "algorithm", "count"),
    [
        (app(), "ES256", 1),
        (app(), "RS256", 0),
        (app(disabled_at=NOW), "ES256", 0),
        (MACHINE, "EdDSA", 0),
    ],
)
def test_another_algorithm_than_rs256_is_reported_while_a_client_signs_users_in(
    database: Database, client: Client, algorithm: str, count: int
) -> None:
    store = ClientStore(database)
    store.add(client)
    found = list(without_rs256(store, algorithm))
    assert len(found) == count
    for finding in found:
        assert f"ISSUER_ALGORITHM is {algorithm}, and Shopping list signs users in" in finding.wrong
        assert finding.fix.line == "ISSUER_ALGORITHM=RS256"
