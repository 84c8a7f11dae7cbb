"""After `kill -9` at any point the server starts again, with every saved key."""

import random
import time
from collections.abc import Callable

import pytest
from support.servers import Installation, eventually

ROTATIONS = 3

FIRST_START: dict[str, Callable[[Installation], bool]] = {
    "as the database appears": lambda it: (it.folder / "issuer.db").exists(),
    "as private keys are made": lambda it: it.keys.exists(),
    "as the private keys are kept": lambda it: any(name.endswith(".pem") for name in it.key_files()),
}


def kill_soon_after(
    installation: Installation, moment: Callable[[Installation], bool], jitter: float
) -> None:
    """Start the server and kill it at a random point, up to `jitter` seconds after the moment."""
    server = installation.serve()
    eventually(lambda: moment(installation), "the moment has come")
    time.sleep(random.uniform(0, jitter))  # noqa: S311 - where it is killed shall differ from run to run
    server.kill()


def require_whole(installation: Installation, saved: set[str]) -> None:
    """Fail unless the server starts and serves every key saved so far, and each has its private key."""
    server = installation.serve().until_ready()
    published = {key["kid"] for key in installation.key_set().json()["keys"]}
    installation.require_verifies(installation.token(), installation.key_set())
    server.kill()
    assert saved <= published <= installation.saved_kids()
    assert {f"{kid}.pem" for kid in published} <= installation.key_files()


@pytest.mark.parametrize("moment", FIRST_START)
def test_a_server_killed_in_its_first_start_starts_again(installation: Installation, moment: str) -> None:
    kill_soon_after(installation, FIRST_START[moment], jitter=0.1)
    saved = installation.saved_kids()
    assert len(saved) in {0, 2}
    require_whole(installation, saved)


def test_a_server_killed_while_it_rotates_starts_again_with_every_key(installation: Installation) -> None:
    installation.settings.update(
        ISSUER_JWKS_MAX_AGE="0",
        ISSUER_NODE_TIMEOUT="2s",
        ISSUER_OUTAGE_LIMIT="2s",
        ISSUER_CLOCK_SKEW="0",
        ISSUER_PUBLISH_LEAD="2s",
        ISSUER_ROTATION_PERIOD="2s",
        ISSUER_ACCESS_TOKEN_LIFETIME="60s",
    )
    saved: set[str] = set()
    for _ in range(ROTATIONS):
        before = installation.key_files()
        kill_soon_after(installation, lambda it: bool(it.key_files() - before), jitter=0.05)  # noqa: B023
        assert saved <= installation.saved_kids()
        saved = installation.saved_kids()
    require_whole(installation, saved)
