"""Resources that operators register: how they are spelled, who may request them, and which scopes they know."""

import pytest
from support.stores import NOW

from issuer.clients.resources import Resource, Resources
from issuer.database.database import Database
from issuer.errors import Refused
from issuer.oauth import InvalidTarget

API, TOOLS, OWN = "https://api.example", "https://tools.example/mcp", "https://own.example"


@pytest.fixture
def resources(each_database: Database) -> Resources:
    store = Resources(each_database)
    store.add(Resource(API, NOW, frozenset({"items:read", "items:write"})))
    store.add(Resource(TOOLS, NOW, frozenset({"tools:run"}), is_open=True))
    return store


def test_stored_resources_are_loaded_unchanged(resources: Resources) -> None:
    assert resources.all() == (
        [
            Resource(API, NOW, frozenset({"items:read", "items:write"})),
            Resource(TOOLS, NOW, frozenset({"tools:run"}), is_open=True),
        ],
        [],
    )


@pytest.mark.parametrize(
    "spelling", [TOOLS, f"{TOOLS}/", "https://TOOLS.example:443/mcp", "HTTPS://tools.example/mc%70"]
)
def test_an_equivalent_spelling_names_the_resource_that_is_registered(
    resources: Resources, spelling: str
) -> None:
    assert resources.audience((spelling,), ()) == (TOOLS,)
    assert resources.spelled((spelling, OWN)) == (TOOLS, OWN)
    with pytest.raises(Refused):
        resources.add(Resource(spelling, NOW))
    assert resources.remove(spelling)
    assert not resources.remove(spelling)
    assert [each.uri for each in resources.all()[0]] == [API]


@pytest.mark.parametrize(
    "other", [f"{TOOLS}//", f"{TOOLS}x", "https://tools.example", "http://tools.example/mcp", f"{TOOLS}?a"]
)
def test_another_uri_is_another_resource(resources: Resources, other: str) -> None:
    with pytest.raises(InvalidTarget):
        resources.audience((other,), (OWN,))


@pytest.mark.parametrize("text", ["https://a.example/\0", "x" * 3000, "https://é.example", "a\nb"])
def test_text_that_is_no_resource_is_not_looked_up(resources: Resources, text: str) -> None:
    with pytest.raises(InvalidTarget):
        resources.audience((text,), (OWN,))


def test_equivalent_audiences_become_one(resources: Resources) -> None:
    assert resources.spelled((TOOLS, f"{TOOLS}/", OWN)) == (TOOLS, OWN)


def test_a_client_may_request_its_own_audiences_and_open_resources(resources: Resources) -> None:
    assert resources.audience((), (OWN, API)) == (OWN, API)
    assert resources.audience((API,), (OWN, API)) == (API,)
    assert resources.audience((TOOLS, OWN), (OWN,)) == (TOOLS, OWN)
    for requested in ((API,), (TOOLS, API), ("https://unknown.example",)):
        with pytest.raises(InvalidTarget):
            resources.audience(requested, (OWN,))


def test_tokens_have_only_scopes_that_their_resources_know(resources: Resources) -> None:
    wanted = frozenset({"items:read", "tools:run", "admin"})
    assert resources.allowed_scope(wanted, (API,)) == {"items:read"}
    assert resources.allowed_scope(wanted, (API, TOOLS)) == {"items:read", "tools:run"}
    assert resources.allowed_scope(wanted, (API, OWN)) == {"items:read"}, "another one adds nothing"
    assert resources.allowed_scope(wanted, (OWN,)) == wanted
    resources.remove(API)
    resources.add(Resource(API, NOW))
    assert resources.allowed_scope(wanted, (API,)) == wanted
