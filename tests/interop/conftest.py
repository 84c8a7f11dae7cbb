"""The issuer at which people sign in, shared by the tests of all clients."""

from collections.abc import Iterator

import pytest
from support.defaults import PASSWORD
from support.servers import QUICK, Installation


@pytest.fixture(scope="session")
def signing_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A running issuer with an account, alice's."""
    with (
        pytest.MonkeyPatch.context() as environment,
        Installation(tmp_path_factory.mktemp("signing_in"), **QUICK) as issuer,
    ):
        environment.setenv("no_proxy", "127.0.0.1")  # clients would ask a proxy for loopback
        issuer.serve().until_ready()
        about = ("--name", "Alice Example", "--email", "alice@example.com", "--email-verified")
        options = ("--scope", "items:read", "--password-stdin")
        made = issuer.command("users", "add", "alice", *about, *options, stdin=f"{PASSWORD}\n")
        assert made.code == 0, made
        yield issuer
