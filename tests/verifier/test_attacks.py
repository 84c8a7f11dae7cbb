"""Owns that each known attack comes to nothing, at the price of no fetch or of one, and that good tokens pass.

The attacks and their sources are the tables of `form_attacks`, `header_attacks`, `claim_attacks`, `mixed_attacks`,
`key_attacks` and `answer_attacks`; an outage and a flood over real sockets are in `test_hostile`.
"""

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from support.attacks.answers import OLD_SET_KEPT, WAYS, AnswerRow, WayRow
from support.attacks.claims import ACCEPTED, CLAIMS
from support.attacks.forging import AUDIENCE, Row
from support.attacks.forms import FORM
from support.attacks.headers import HEADER, SIGNATURE, UNKNOWN_KID
from support.attacks.keys import SKIPPED, UNFIT_FOR_ES256, UNREADABLE, USED, KeyRow, UnreadableRow
from support.attacks.mixed import ALGORITHMS, MIXED, MixedRow, Signers

from verifier_example.app import create_app
from verifier_example.settings import Settings
from verifier_example.testing import JWKS_PATH, InProcessIssuer, KeyPair
from verifier_example.verifier import (
    AccessToken,
    Event,
    InvalidToken,
    JwksCache,
    KeysUnavailable,
    Reason,
    State,
    Timings,
    TokenVerifier,
)

REFUSED = [*FORM, *HEADER, *SIGNATURE, *CLAIMS]
COOLDOWN = Timings().cooldown
Events = list[tuple[Event, str]]


def rows(table: Iterable[Any]) -> dict[str, Any]:
    """Turn a table into the arguments of `parametrize`: a row shows its name and where it is known from."""
    listed = list(table)
    return {"argvalues": listed, "ids": [f"{row.name} ({row.source})" for row in listed]}


# Tokens


@pytest.mark.parametrize("row", **rows(ACCEPTED))
def test_a_live_token_is_accepted(row: Row, judge: Any, forge: Any) -> None:
    assert judge(row.make(forge)).subject == "u1"


@pytest.mark.parametrize("row", **rows(REFUSED))
def test_a_wrong_token_is_refused_without_a_fetch(
    row: Row, judge: Any, forge: Any, clock: Any, events: Events
) -> None:
    judge(forge.token())
    clock.rest(COOLDOWN)
    assert judge.reason(row.make(forge)) is row.reason
    assert judge.fetches == 1
    assert events[-1] == (Event.REJECTED, row.reason)
    judge(forge.token())


@pytest.mark.parametrize("row", **rows(UNKNOWN_KID))
def test_a_token_of_an_unknown_key_costs_a_fetch_a_cooldown_only_if_it_could_be_ours(
    row: Row, judge: Any, forge: Any, clock: Any
) -> None:
    for cooldowns in range(3):
        fetches = []
        for _ in range(5):
            assert judge.reason(row.make(forge)) is row.reason
            fetches.append(judge.fetches)
        assert set(fetches) == {1 + cooldowns * row.may_fetch}
        clock.rest(COOLDOWN)
    judge(forge.token())


def sendable(token: str) -> bool:
    """Return whether a client can send that in a header, and as a token of its own."""
    return token.isascii() and token.isprintable() and token == token.strip() != ""


def test_the_service_answers_each_of_them_401_and_in_the_same_words(
    verifier: TokenVerifier, forge: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(Settings(_env_file=None), verifier=verifier)
    with TestClient(app) as client:

        def answer(row: Row) -> httpx2.Response:
            return client.get("/me", headers={"Authorization": f"Bearer {row.make(forge)}"})

        assert {answer(row).status_code for row in ACCEPTED} == {200}
        refused = [row for row in [*REFUSED, *UNKNOWN_KID] if sendable(row.make(forge))]
        assert len(refused) > 150
        for row in refused:
            refusal = answer(row)
            told = "token expired" if row.reason is Reason.EXPIRED else "invalid token"
            assert refusal.status_code == 401, row.name
            assert refusal.json() == {"error": "invalid_token", "error_description": told}, row.name
            assert f'error="invalid_token", error_description="{told}"' in refusal.headers["WWW-Authenticate"]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    assert "eyJ" not in caplog.text  # no token in a log


def test_without_keys_a_token_that_could_be_ours_is_not_judged_and_any_other_is_refused(
    verifier: TokenVerifier, issuer: InProcessIssuer, forge: Any
) -> None:
    issuer.down = True
    kinds: dict[type[BaseException] | None, set[str]] = {KeysUnavailable: set(), InvalidToken: set()}

    async def story() -> None:
        async with verifier.cache:
            await verifier.cache.refresh()
            for row in [*ACCEPTED, *REFUSED]:
                try:
                    await verifier.verify(row.make(forge))
                except (KeysUnavailable, InvalidToken) as refusal:
                    kinds[type(refusal)].add(row.name)

    asyncio.run(story())
    unjudged = {row.name for row in [*ACCEPTED, *SIGNATURE]}
    unjudged |= {"signature of impossible length", "signature written another way"}  # it is looked at last
    assert kinds[KeysUnavailable] == unjudged
    assert kinds[InvalidToken] == {row.name for row in REFUSED} - unjudged


# Tokens of several algorithms: each key verifies its own alone


@pytest.mark.parametrize("row", **rows(MIXED))
def test_a_key_verifies_its_own_algorithm_alone(
    row: MixedRow, pairs: list[KeyPair], forge: Any, clock: Any
) -> None:
    signers = Signers(forge, pairs)
    answer = httpx2.MockTransport(lambda _: httpx2.Response(200, json={"keys": list(signers.jwks())}))
    cache = JwksCache(
        forge.issuer.url, jwks_url=forge.issuer.url + JWKS_PATH, algorithms=ALGORITHMS, transport=answer
    )
    verifier = TokenVerifier(cache, AUDIENCE, wall=clock.wall)

    async def story() -> None:
        async with cache:
            for alg in ALGORITHMS:
                assert (await verifier.verify(signers.token(alg))).subject == "u1"
            with pytest.raises(InvalidToken):
                await verifier.verify(row.make(signers))

    asyncio.run(story())


# Key sets


@pytest.fixture
def published(pairs: list[KeyPair], forge: Any, clock: Any, events: Events) -> Callable[..., Any]:
    """Judge two tokens by a key set: one of its good key, and one of the key that a row has changed."""

    def judge(
        document: bytes, algorithms: tuple[str, ...] = ("RS256",)
    ) -> tuple[AccessToken | None, AccessToken | None]:
        transport = httpx2.MockTransport(lambda _: httpx2.Response(200, content=document))
        cache = JwksCache(
            forge.issuer.url,
            jwks_url=forge.issuer.url + JWKS_PATH,
            algorithms=algorithms,
            transport=transport,
            on_event=lambda event, detail: events.append((event, detail)),
        )
        verifier = TokenVerifier(cache, AUDIENCE, wall=clock.wall)

        async def story() -> tuple[AccessToken | None, AccessToken | None]:
            async with cache:
                outcomes: list[AccessToken | None] = []
                for pair in pairs[:2]:
                    token = forge.signed(forge.header(kid=pair.kid), forge.claims(), pair)
                    try:
                        outcomes.append(await verifier.verify(token))
                    except InvalidToken:
                        outcomes.append(None)
                return outcomes[0], outcomes[1]

        return asyncio.run(story())

    return judge


def skipped(events: Events) -> int:
    return sum(event is Event.KEY_SKIPPED for event, _ in events)


@pytest.mark.parametrize("row", **rows(SKIPPED))
@pytest.mark.parametrize("position", [0, 1])
def test_an_unfit_key_is_skipped_and_told_and_disturbs_no_other(
    row: KeyRow, position: int, published: Callable[..., Any], pairs: list[KeyPair], events: Events
) -> None:
    keys = [pairs[0].jwk]
    keys.insert(position, row.change(dict(pairs[1].jwk)))
    good, changed = published(json.dumps({"keys": keys}).encode())
    assert good is not None
    assert changed is None
    assert skipped(events) == 1


@pytest.mark.parametrize("row", **rows(USED))
def test_a_fit_key_is_used(
    row: KeyRow, published: Callable[..., Any], pairs: list[KeyPair], events: Events
) -> None:
    keys = [pairs[0].jwk, row.change(dict(pairs[1].jwk))]
    assert None not in published(json.dumps({"keys": keys}).encode())
    assert skipped(events) == 0


@pytest.mark.parametrize("row", **rows(UNFIT_FOR_ES256))
def test_an_unfit_key_of_another_kind_is_skipped(
    row: KeyRow, published: Callable[..., Any], pairs: list[KeyPair], events: Events
) -> None:
    keys = [row.change(dict(pairs[1].jwk)), pairs[0].jwk]
    good, _ = published(json.dumps({"keys": keys}).encode(), ("RS256", "ES256", "EdDSA"))
    assert good is not None
    assert skipped(events) == 1


@pytest.mark.parametrize("row", **rows(UNREADABLE))
def test_a_key_that_cannot_be_read_disturbs_no_other(
    row: UnreadableRow, published: Callable[..., Any], pairs: list[KeyPair]
) -> None:
    good, _ = published(f'{{"keys": [{row.member}, {json.dumps(pairs[0].jwk)}]}}'.encode())
    assert good is not None


@pytest.mark.parametrize("row", **rows(OLD_SET_KEPT))
def test_a_bad_answer_leaves_the_old_set_in_place_and_points_nowhere(
    row: AnswerRow, pairs: list[KeyPair], forge: Any, clock: Any, events: Events
) -> None:
    answers = [httpx2.Response(200, json={"keys": [pairs[0].jwk]}), row.answer(dict(pairs[1].jwk))]
    asked: list[httpx2.URL] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url)
        return answers[len(asked) - 1]

    url = forge.issuer.url + JWKS_PATH
    cache = JwksCache(
        forge.issuer.url,
        jwks_url=url,
        transport=httpx2.MockTransport(answer),
        monotonic=clock.monotonic,
        on_event=lambda event, detail: events.append((event, detail)),
    )
    verifier = TokenVerifier(cache, AUDIENCE, wall=clock.wall)

    async def story() -> None:
        async with cache:
            await verifier.verify(forge.token())
            before = cache.usable
            clock.rest(COOLDOWN)
            await cache.refresh()
            assert cache.usable is before
            assert events[-1][0] is Event.FETCH_FAILED
            await verifier.verify(forge.token())

    asyncio.run(story())
    assert asked == [url, url]


@pytest.mark.parametrize("row", **rows(WAYS))
def test_a_way_that_leads_elsewhere_is_not_taken_and_nothing_is_judged(
    row: WayRow, pairs: list[KeyPair], forge: Any, clock: Any
) -> None:
    good = {"issuer": forge.issuer.url, "jwks_uri": forge.issuer.url + JWKS_PATH}
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.path)
        if "jwks" in request.url.path:
            return httpx2.Response(200, json={"keys": [pairs[0].jwk]})
        return httpx2.Response(200, json={**good, **row.metadata})

    async def story() -> None:
        async with JwksCache(forge.issuer.url, transport=httpx2.MockTransport(answer)) as cache:
            with pytest.raises(KeysUnavailable):
                await TokenVerifier(cache, AUDIENCE, wall=clock.wall).verify(forge.token())
            assert cache.state is State.EMPTY

    asyncio.run(story())
    assert not [path for path in asked if "jwks" in path]


def test_every_row_has_a_name_of_its_own_and_a_source() -> None:
    tables: list[Any] = [ACCEPTED, REFUSED, UNKNOWN_KID, MIXED, SKIPPED, USED, UNFIT_FOR_ES256, UNREADABLE]
    tables += [OLD_SET_KEPT, WAYS]
    for table in tables:
        assert len({row.name for row in table}) == len(table)
        assert all(row.source.startswith(("RFC ", "CVE-", "GHSA-")) for row in table)
    assert sum(map(len, tables)) > 300
