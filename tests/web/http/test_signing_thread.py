"""The signing thread: it takes over some of the signatures, and each caller gets its own."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace

import httpx2
import jwt
import pytest
from support.defaults import MovableClock

from issuer.administration.clients import register_client
from issuer.oauth import AuthMethod
from issuer.services import Issuer
from issuer.web.app import create_app
from issuer.web.http.fast_path import run_inline_or_on_thread
from issuer.web.http.signing_thread import SigningThread


def who() -> str:
    """Return the name of the thread that this is done on."""
    return threading.current_thread().name


async def together(*works: Callable[[], str]) -> list[str | BaseException]:
    """Ask for all at once, and return each result."""
    thread = SigningThread()
    return await asyncio.gather(*(thread.run(work) for work in works), return_exceptions=True)


def test_a_single_signature_stays_on_its_thread() -> None:
    assert asyncio.run(together(who)) == [who()]


def test_of_several_signatures_one_is_made_on_the_signing_thread_and_the_others_here() -> None:
    assert asyncio.run(together(*[who] * 5)) == ["signing", *[who()] * 4]


def test_a_signature_requested_when_the_thread_is_free_again_is_made_on_it() -> None:
    async def twice() -> list[str]:
        thread = SigningThread()
        return [each for _ in range(2) for each in await asyncio.gather(thread.run(who), thread.run(who))]

    assert asyncio.run(twice()) == ["signing", who()] * 2


def test_each_caller_gets_its_own_outcome_and_no_failure_of_others() -> None:
    def fail() -> str:
        raise KeyError("lost")

    one, failed, two = asyncio.run(together(lambda: "one", fail, lambda: "two"))
    assert (one, two) == ("one", "two")
    assert isinstance(failed, KeyError)


@pytest.mark.parametrize("worse", [SystemExit, StopIteration, KeyboardInterrupt])
def test_nothing_that_is_raised_ends_the_thread(worse: type[BaseException]) -> None:
    def fail() -> str:
        raise worse

    async def again() -> list[str | BaseException]:
        thread = SigningThread()
        failed = await asyncio.gather(thread.run(fail), thread.run(who), return_exceptions=True)
        return [failed[0], *await asyncio.gather(thread.run(who), thread.run(who))]

    failed, *others = asyncio.run(again())
    assert isinstance(failed, RuntimeError)
    assert isinstance(failed.__cause__, worse)
    assert others == ["signing", who()]


def test_a_cancelled_signature_delays_no_other() -> None:
    async def leave() -> tuple[str, bool, str]:
        thread, gate = SigningThread(), threading.Event()
        leaves = asyncio.create_task(thread.run(lambda: str(gate.wait(10))))
        stays = asyncio.create_task(thread.run(who))
        for _ in range(3):  # till one is given away, and the other done
            await asyncio.sleep(0)
        leaves.cancel()
        gate.set()
        result = await stays
        await asyncio.wait([leaves])
        while "signing" not in await asyncio.gather(
            thread.run(who), thread.run(who)
        ):  # till the thread is free
            pass
        return result, leaves.cancelled(), await thread.run(who)

    assert asyncio.run(leave()) == (who(), True, who())


def test_tokens_asked_for_at_once_are_each_whole(issuer: Issuer, clock: MovableClock) -> None:
    scope = frozenset({"items:read"})
    client, secret = register_client(issuer.clients.store, "m", AuthMethod.BASIC, scope, (), clock())
    issuer.keys.node.refresh()
    app = create_app(issuer, alone=True)
    app.state.signing = SigningThread().run  # also on a machine with a single core

    async def ask() -> list[httpx2.Response]:
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://issuer.test") as web:
            form = {"grant_type": "client_credentials"}
            asked = (web.post("/oauth2/token", data=form, auth=(client.id, secret or "")) for _ in range(20))
            return await asyncio.gather(*asked)

    answers = asyncio.run(ask())
    keys = jwt.PyJWKSet([dict(key.jwk) for key in issuer.keys.node.view.ring.published_keys(clock())])
    claims = [_claims(answer.json()["access_token"], keys) for answer in answers]
    assert {each["sub"] for each in claims} == {client.id}
    assert len({each["jti"] for each in claims}) == len(answers)


def test_a_process_hands_over_only_where_it_is_alone_with_a_core_to_spare(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("issuer.web.app.cores", lambda: 2)
    assert create_app(issuer, alone=True).state.signing is not run_inline_or_on_thread
    assert create_app(issuer).state.signing is run_inline_or_on_thread
    in_a_token = replace(issuer, settings=issuer.settings.model_copy(update={"keys": "pkcs11"}))
    assert create_app(in_a_token, alone=True).state.signing is run_inline_or_on_thread
    monkeypatch.setattr("issuer.web.app.cores", lambda: 1)
    assert create_app(issuer, alone=True).state.signing is run_inline_or_on_thread


def _claims(token: str, keys: jwt.PyJWKSet) -> dict[str, str]:
    key = keys[jwt.get_unverified_header(token)["kid"]]
    return dict(jwt.decode(token, key, ["RS256"], options={"verify_aud": False, "verify_exp": False}))
