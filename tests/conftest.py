"""Fixtures of all tests: a movable clock, a database, settings, an issuer, and clients of it."""

import gc
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from support import cheap
from support.cheap import production_rounds
from support.cheap_databases import real_migrations
from support.defaults import ALICE, START, Build, MovableClock
from support.postgresql import temporary_database, temporary_server

from issuer.administration.clients import register_client
from issuer.database.database import Database
from issuer.oauth import AuthMethod
from issuer.services import Issuer
from issuer.settings.settings import Settings
from issuer.web.app import create_app
from issuer.wiring import build

# Hundreds of processes start here: where nothing compiled is kept, each would compile all that it imports again.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

__all__ = ["production_rounds", "real_migrations"]
pytest_plugins = ["support.processes", "support.thorough"]
cheap.make_cheap()
hypothesis.settings.register_profile("long")
SLOWEST = (
    "servers/test_soak.py",
    "servers/test_deployed.py",
    "web/test_openapi.py",
    "servers/test_keys.py",
    "tokens/test_group_commit.py",
    "servers/test_pkcs11.py",
    "database/test_crash_points.py",
    "interop/test_interop.py",
    "interop/test_sign_in_to_applications.py",
    "interop/test_sign_in.py",
    "servers/test_docs_lines.py",
    "servers/test_documented_services.py",
    "servers/test_crash.py",
    "servers/test_surroundings.py",
    "keyring/test_promises_over_time.py",
    "servers/test_supervised.py",
    "servers/test_unwritable.py",
    "servers/test_serve.py",
    "servers/test_many_connections.py",
    "servers/test_slow_connections.py",
    "servers/test_connections.py",
    "servers/test_probes.py",
    "checks/test_printed_fixes.py",
    "servers/test_secrets.py",
    "test_clocks.py",
    "web/test_clocks_of_nodes.py",
    "servers/test_demo.py",
)
"""The slowest files, which run first, so that none of them runs alone at the end; then those of servers/."""


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "try 10 000 histories of the key ring, and 200 000 mutants of tokens"
    parser.addoption("--long", action="store_true", help=text)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("long"):
        hypothesis.settings.load_profile("long")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tests = Path(__file__).parent
    ranks = {tests / name: rank for rank, name in enumerate(SLOWEST)}
    servers = len(ranks)
    items.sort(key=lambda item: ranks.get(item.path, servers + (item.path.parent != tests / "servers")))


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()  # what was collected stays, and need not be looked at again


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """Return one more than the number of cores, as many tests wait for servers."""
    return 1 + (yield)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep settings of the shell and a `.env` of the checkout away from tests."""
    for name in list(os.environ):
        if name.startswith(("ISSUER_", "VERIFIER_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/issuer.db"
        return
    with temporary_database(request.getfixturevalue("postgresql")) as url:
        yield url


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """An empty database with the current schema."""
    database = Database(f"sqlite:///{tmp_path}/issuer.db")
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def each_database(url: str) -> Iterator[Database]:
    """An empty database of each kind, up to date."""
    database = Database(url)
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A directory for private keys, not created yet."""
    return tmp_path / "keys"


@pytest.fixture
def settings(tmp_path: Path, keys: Path) -> Settings:
    return Settings(
        database_url=SecretStr(f"sqlite:///{tmp_path}/issuer.db"),
        keys=str(keys),
        keys_passphrase=SecretStr("a passphrase for tests"),
    )


@pytest.fixture
def made(clock: MovableClock) -> Iterator[Build]:
    """Return a function that builds issuers on the movable clock; they are closed at the end."""
    built: list[Issuer] = []

    def make(settings: Settings) -> Issuer:
        built.append(build(settings, clock))
        return built[-1]

    yield make
    for issuer in built:
        issuer.close()


@pytest.fixture
def issuer(made: Build, settings: Settings) -> Issuer:
    return made(settings)


@pytest.fixture
def web(issuer: Issuer) -> Iterator[TestClient]:
    """A client of the issuer; an unexpected exception is a 500, as in production."""
    with TestClient(create_app(issuer), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def alice(web: TestClient, issuer: Issuer) -> str:
    """The id of alice's account, which has two scopes."""
    assert web.post("/users", json=ALICE).status_code == 201
    user = issuer.accounts.store.by_username("alice")
    assert user
    issuer.accounts.store.set_scope(user.id, frozenset({"items:read", "items:write"}))
    return user.id


@pytest.fixture
def machine(issuer: Issuer) -> tuple[str, str]:
    """The id and secret of a registered client."""
    client, secret = register_client(
        issuer.clients.store, "a machine", AuthMethod.BASIC, frozenset({"items:read"}), (), START
    )
    assert secret
    return client.id, secret


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a real PostgreSQL server; each test that uses `url` gets its own database there."""
    with temporary_server() as url:
        yield url
