"""A process killed at any write loses nothing and leaves nothing twice."""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from pydantic import SecretStr
from support.crashing import killed_at_each_write
from support.defaults import PASSWORD, START, MovableClock

from issuer.digests import digest
from issuer.grants.response import UnsignedTokenResponse
from issuer.keyring.ring import Phase
from issuer.oauth import LoginFailed, OAuthRequest, UsernameTaken
from issuer.services import Issuer
from issuer.settings.settings import Settings
from issuer.throttling.origin import Origin
from issuer.wiring import build

pytestmark = pytest.mark.processes


ORIGIN = Origin("curl", "127.0.0.1")
PERIOD, LEAD = timedelta(days=30), timedelta(days=1)
CREDENTIALS = {"username": "alice", "password": PASSWORD, "scope": ""}

Act = Callable[[Issuer, MovableClock], None]


def settings(folder: Path) -> Settings:
    """Keys that are quickly made: how a key is kept does not depend on its kind."""
    return Settings(
        database_url=SecretStr(f"sqlite:///{folder}/issuer.db"), keys=str(folder / "keys"), algorithm="ES256"
    )


@contextmanager
def opened(folder: Path, clock: MovableClock) -> Iterator[Issuer]:
    issuer = build(settings(folder), clock, "a node")
    try:
        yield issuer
    finally:
        issuer.close()


def kills(act: Act, folder: Path, clock: MovableClock) -> Iterator[int]:
    """Kill `act` at each of its writes, each time from the same beginning; yield after each kill."""
    before = folder.with_name("before")
    folder.mkdir(exist_ok=True)
    shutil.copytree(folder, before)

    def run() -> None:
        with opened(folder, clock) as issuer:
            act(issuer, clock)

    for number in killed_at_each_write(run, folder):
        yield number
        shutil.rmtree(folder)
        shutil.copytree(before, folder)


def found(issuer: Issuer, _clock: MovableClock) -> None:
    issuer.keys.node.refresh()


def reconcile(issuer: Issuer, _clock: MovableClock) -> None:
    issuer.keys.node.refresh()


def rotate(issuer: Issuer, _clock: MovableClock) -> None:
    issuer.keys.rotation.change(lambda ring, now: ring.promoted(issuer.policy, now), "by hand")


def roll_back(issuer: Issuer, _clock: MovableClock) -> None:
    issuer.keys.rotation.change(lambda ring, now: ring.rolled_back(issuer.policy, now), "it fails")


def revoke(issuer: Issuer, clock: MovableClock) -> None:
    kid = issuer.keys.rotation.ring().current(clock()).kid
    issuer.keys.rotation.change(
        lambda ring, now: ring.revoked(kid, "stolen", issuer.policy, now), emergency=True
    )


def kids(issuer: Issuer, clock: MovableClock) -> dict[str, Phase]:
    ring = issuer.keys.rotation.ring()
    return {key.kid: ring.phase(key, clock()) for key in ring.keys}


@pytest.mark.parametrize("act", [found], ids=["founding"])
def test_a_ring_that_was_not_founded_to_its_end_is_founded_by_the_next_process(
    act: Act, tmp_path: Path, clock: MovableClock
) -> None:
    folder = tmp_path / "node"
    seen = 0
    for seen in kills(act, folder, clock):  # noqa: B007 - how many there were is asserted below
        with opened(folder, clock) as issuer:
            issuer.keys.node.refresh()
            phases = list(kids(issuer, clock).values())
            assert phases.count(Phase.CURRENT) == phases.count(Phase.STANDBY) == 1
            assert issuer.keys.signer.kept() == kids(issuer, clock).keys()
            assert not issuer.keys.node.warnings()
    assert seen >= 15


@pytest.mark.parametrize("act", [reconcile, rotate, roll_back, revoke])
def test_a_move_of_the_ring_that_is_killed_at_any_write_loses_no_key_and_trusts_no_revoked_one(
    act: Act, tmp_path: Path, clock: MovableClock
) -> None:
    folder = tmp_path / "node"
    folder.mkdir()
    with opened(folder, clock) as issuer:
        issuer.keys.node.refresh()
        clock.advance(days=LEAD.days + 1)
        issuer.keys.node.refresh()
        if act is roll_back:
            rotate(issuer, clock)
            clock.advance(days=LEAD.days)
            issuer.keys.node.refresh()
            rotate(issuer, clock)
            clock.advance(seconds=60)
            issuer.keys.node.refresh()
        if act is reconcile:
            clock.advance(
                days=PERIOD.days
            )  # the standby's turn, a new standby, the old key's end: all at once
        before = kids(issuer, clock)
        living = {kid for kid, phase in before.items() if phase in {Phase.CURRENT, Phase.PREVIOUS}}
        current = issuer.keys.rotation.ring().current(clock()).kid
    seen = 0
    for seen in kills(act, folder, clock):  # noqa: B007 - as above
        with opened(folder, clock) as issuer:
            issuer.keys.node.refresh()
            after = kids(issuer, clock)
            revoked = {kid for kid, phase in after.items() if phase is Phase.REVOKED}
            assert revoked <= ({current} if act is revoke else set())
            assert list(after.values()).count(Phase.CURRENT) == 1
            assert Phase.STANDBY in after.values()
            published = {key.kid for key in issuer.keys.node.view.published_keys}
            assert living - revoked <= published
            assert published <= issuer.keys.signer.kept() | set(issuer.keys.signer.orphans(()))
            assert not revoked & (published | issuer.keys.signer.kept())
            signing = issuer.keys.node.view.signing_key(issuer.policy, clock())
            assert issuer.keys.signer.sign(signing.kid, b"data")
            assert signing.kid in published - revoked
    assert seen >= 5


def grant(issuer: Issuer, clock: MovableClock, token: str) -> UnsignedTokenResponse:
    form = {"grant_type": "refresh_token", "client_id": "first-party", "refresh_token": token}
    return issuer.tokens.pipeline.grant(OAuthRequest(form), ORIGIN, clock())


def refreshed(issuer: Issuer, clock: MovableClock, token: str) -> str:
    answer = issuer.tokens.pipeline.sign(grant(issuer, clock, token))
    assert answer.refresh_token
    return answer.refresh_token


def with_alice(folder: Path, clock: MovableClock) -> str:
    """Register her, log her in, and return her refresh token."""
    folder.mkdir()
    with opened(folder, clock) as issuer:
        issuer.keys.node.refresh()
        issuer.accounts.registration.register("alice", PASSWORD, ORIGIN, clock())
        token = issuer.tokens.pipeline.login(CREDENTIALS, ORIGIN, clock()).refresh_token
    assert token
    return token


def test_a_session_whose_refresh_is_killed_at_any_write_continues_and_is_never_forked(
    tmp_path: Path, clock: MovableClock
) -> None:
    folder = tmp_path / "node"
    token = with_alice(folder, clock)

    def refresh(issuer: Issuer, clock: MovableClock) -> None:
        issuer.keys.node.refresh()
        form = {"grant_type": "refresh_token", "client_id": "first-party", "refresh_token": token}
        decide = partial(issuer.tokens.pipeline.decide, OAuthRequest(form), ORIGIN, clock())
        alone = partial(grant, issuer, clock, token)
        asyncio.run(issuer.tokens.group_commit.run(digest(token), decide, alone, issuer.tokens.pipeline.sign))

    seen = 0
    for seen in kills(refresh, folder, clock):  # noqa: B007 - as above
        with opened(folder, clock) as issuer:
            issuer.keys.node.refresh()
            successor = refreshed(issuer, clock, token)
            assert refreshed(issuer, clock, successor) not in {token, successor}
            user = issuer.accounts.store.by_username("alice")
            assert user
            assert len(issuer.tokens.families.active(user.id, clock())[0]) == 1
    assert seen >= 5


def test_a_log_in_that_is_killed_at_any_write_may_be_made_again(tmp_path: Path, clock: MovableClock) -> None:
    folder = tmp_path / "node"
    with_alice(folder, clock)

    def log_in(issuer: Issuer, clock: MovableClock) -> None:
        issuer.keys.node.refresh()
        issuer.tokens.pipeline.login(CREDENTIALS, ORIGIN, clock())

    seen = 0
    for seen in kills(log_in, folder, clock):  # noqa: B007 - as above
        with opened(folder, clock) as issuer:
            issuer.keys.node.refresh()
            again = issuer.tokens.pipeline.login(CREDENTIALS, ORIGIN, clock()).refresh_token
            assert again
            assert refreshed(issuer, clock, again)
    assert seen >= 5


def test_a_registration_that_is_killed_at_any_write_made_the_account_or_did_not(
    tmp_path: Path, clock: MovableClock
) -> None:
    folder = tmp_path / "node"
    folder.mkdir()
    with opened(folder, clock) as issuer:
        issuer.keys.node.refresh()

    def register(issuer: Issuer, clock: MovableClock) -> None:
        issuer.accounts.registration.register("alice", PASSWORD, ORIGIN, clock())

    outcomes = set()
    for _ in kills(register, folder, clock):
        with opened(folder, clock) as issuer:
            issuer.keys.node.refresh()
            try:
                assert issuer.tokens.pipeline.login(CREDENTIALS, ORIGIN, clock()).access_token
                outcomes.add("made")
                with pytest.raises(UsernameTaken):
                    register(issuer, clock)
            except LoginFailed:
                outcomes.add("not made")
                register(issuer, clock)
                assert issuer.tokens.pipeline.login(CREDENTIALS, ORIGIN, clock()).access_token
    assert outcomes == {"made", "not made"}
    assert clock() == START
