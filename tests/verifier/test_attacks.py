"""Known attacks are rejected with at most one fetch, and valid tokens are accepted.

The attacks and their sources are the tables in `support.attacks`; outages and floods over real sockets are tested in
`test_hostile`.
"""

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from support.attacks.answers import METADATA, OLD_SET_KEPT, AnswerRow, MetadataRow
from support.attacks.claims import ACCEPTED, CLAIMS
from support.attacks.forging import AUDIENCE, Row
from support.attacks.forms import FORM
from support.attacks.headers import HEADER, SIGNATURE, UNKNOWN_KID
from support.attacks.keys import SKIPPED, UNREADABLE, UNUSABLE_FOR_ES256, USED, KeyRow, UnreadableRow
from support.attacks.mixed import ALGORITHMS, MIXED, MixedRow, Signers
from support.verifier import Clock, Forge, Judge

from jwks_verifier import (
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
from jwks_verifier.testing import JWKS_PATH, InProcessIssuer, KeyPair
from verifier_example.app import create_app
from verifier_example.settings import Settings

REFUSED = [*FORM, *HEADER, *SIGNATURE, *CLAIMS]
COOLDOWN = Timings().cooldown
Events = list[tuple[Event, str]]


def rows(table: Iterable[Any]) -> dict[str, Any]:
    """Return a table as arguments of `parametrize`; ids show the name and the source of each row."""
    listed = list(table)
    return {"argvalues": listed, "ids": [f"{row.name} ({row.source})" for row in listed]}


# Tokens


@pytest.mark.parametrize("row", **rows(ACCEPTED))
def test_a_valid_token_is_accepted(row: Row, judge: Judge, forge: Forge) -> None:
    assert judge(row.make(forge)).subject == "u1"


@pytest.mark.parametrize("row", **rows(REFUSED))
def test_an_invalid_token_is_rejected_without_a_fetch(
    row: Row, judge: Judge, forge: Forge, clock: Clock, events: Events
) -> None:
    judge(forge.token())
    clock.rest(COOLDOWN)
    assert judge.reason(row.make(forge)) is row.reason
    assert judge.fetches == 1
    assert events[-1] == (Event.REJECTED, row.reason)
    judge(forge.token())


@pytest.mark.parametrize("row", **rows(UNKNOWN_KID))
def test_an_unknown_key_causes_a_fetch_per_cooldown_only_if_the_token_could_be_valid(
    row: Row, judge: Judge, forge: Forge, clock: Clock
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
    """Return whether a client can send the text in a header as one token."""
    return token.isascii() and token.isprintable() and token == token.strip() != ""


def test_every_attack_gets_a_401_with_the_same_body(
    verifier: TokenVerifier, forge: Forge, caplog: pytest.LogCaptureFixture
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
            description = "token expired" if row.reason is Reason.EXPIRED else "invalid token"
            assert refusal.status_code == 401, row.name
            assert refusal.json() == {"error": "invalid_token", "error_description": description}, row.name
            assert (
                f'error="invalid_token", error_description="{description}"'
                in refusal.headers["WWW-Authenticate"]
            )
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    assert "eyJ" not in caplog.text  # no token in a log


def test_without_keys_a_possibly_valid_token_is_a_503_and_any_other_a_401(
    verifier: TokenVerifier, issuer: InProcessIssuer, forge: Forge
) -> None:
    issuer.down = True
    kinds: dict[type[BaseException] | None, set[str]] = {KeysUnavailable: set(), InvalidToken: set()}

    async def scenario() -> None:
        async with verifier.cache:
            await verifier.cache.refresh()
            for row in [*ACCEPTED, *REFUSED]:
                try:
                    await verifier.verify(row.make(forge))
                except (KeysUnavailable, InvalidToken) as refusal:
                    kinds[type(refusal)].add(row.name)

    asyncio.run(scenario())
    unjudged = {row.name for row in [*ACCEPTED, *SIGNATURE]}
    unjudged |= {"signature of impossible length", "signature written another way"}  # it is looked at last
    assert kinds[KeysUnavailable] == unjudged
    assert kinds[InvalidToken] == {row.name for row in REFUSED} - unjudged


# Tokens of several algorithms: each key verifies its own alone


@pytest.mark.parametrize("row", **rows(MIXED))
def test_a_key_verifies_only_its_own_algorithm(
    row: MixedRow, pairs: list[KeyPair], forge: Forge, clock: Clock
) -> None:
    signers = Signers(forge, pairs)
    answer = httpx2.MockTransport(lambda _: httpx2.Response(200, json={"keys": list(signers.jwks())}))
    cache = JwksCache(
        forge.issuer.url, jwks_url=forge.issuer.url + JWKS_PATH, algorithms=ALGORITHMS, transport=answer
    )
    verifier = TokenVerifier(cache, AUDIENCE, wall=clock.wall)

    async def scenario() -> None:
        async with cache:
            for alg in ALGORITHMS:
                assert (await verifier.verify(signers.token(alg))).subject == "u1"
            with pytest.raises(InvalidToken):
                await verifier.verify(row.make(signers))

    asyncio.run(scenario())


# Key sets


@pytest.fixture
def published(pairs: list[KeyPair], forge: Forge, clock: Clock, events: Events) -> Callable[..., Any]:
    """Verify two tokens with a published key set: one by its valid key, one by the key that a row has changed."""

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

        async def scenario() -> tuple[AccessToken | None, AccessToken | None]:
            async with cache:
                outcomes: list[AccessToken | None] = []
                for pair in pairs[:2]:
                    token = forge.signed(forge.header(kid=pair.kid), forge.claims(), pair)
                    try:
                        outcomes.append(await verifier.verify(token))
                    except InvalidToken:
                        outcomes.append(None)
                return outcomes[0], outcomes[1]

        return asyncio.run(scenario())

    return judge


def skipped(events: Events) -> int:
    return sum(event is Event.KEY_SKIPPED for event, _ in events)


@pytest.mark.parametrize("row", **rows(SKIPPED))
@pytest.mark.parametrize("position", [0, 1])
def test_an_unusable_key_is_skipped_and_reported_and_the_others_are_used(
    row: KeyRow, position: int, published: Callable[..., Any], pairs: list[KeyPair], events: Events
) -> None:
    keys = [pairs[0].jwk]
    keys.insert(position, row.change(dict(pairs[1].jwk)))
    good, changed = published(json.dumps({"keys": keys}).encode())
    assert good is not None
    assert changed is None
    assert skipped(events) == 1


@pytest.mark.parametrize("row", **rows(USED))
def test_a_usable_key_is_used(
    row: KeyRow, published: Callable[..., Any], pairs: list[KeyPair], events: Events
) -> None:
    keys = [pairs[0].jwk, row.change(dict(pairs[1].jwk))]
    assert None not in published(json.dumps({"keys": keys}).encode())
    assert skipped(events) == 0


@pytest.mark.parametrize("row", **rows(UNUSABLE_FOR_ES256))
def test_an_unusable_key_of_another_type_is_skipped(
    row: KeyRow, published: Callable[..., Any], pairs: list[KeyPair], events: Events
) -> None:
    keys = [row.change(dict(pairs[1].jwk)), pairs[0].jwk]
    good, _ = published(json.dumps({"keys": keys}).encode(), ("RS256", "ES256", "EdDSA"))
    assert good is not None
    assert skipped(events) == 1


@pytest.mark.parametrize("row", **rows(UNREADABLE))
def test_an_unreadable_key_does_not_affect_the_others(
    row: UnreadableRow, published: Callable[..., Any], pairs: list[KeyPair]
) -> None:
    good, _ = published(f'{{"keys": [{row.member}, {json.dumps(pairs[0].jwk)}]}}'.encode())
    assert good is not None


@pytest.mark.parametrize("row", **rows(OLD_SET_KEPT))
def test_an_invalid_answer_keeps_the_old_keys_and_causes_no_request_elsewhere(
    row: AnswerRow, pairs: list[KeyPair], forge: Forge, clock: Clock, events: Events
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

    async def scenario() -> None:
        async with cache:
            await verifier.verify(forge.token())
            before = cache.usable
            clock.rest(COOLDOWN)
            await cache.refresh()
            assert cache.usable is before
            assert events[-1][0] is Event.FETCH_FAILED
            await verifier.verify(forge.token())

    asyncio.run(scenario())
    assert asked == [url, url]


@pytest.mark.parametrize("row", **rows(METADATA))
def test_unacceptable_metadata_is_not_followed_and_leaves_the_service_without_keys(
    row: MetadataRow, pairs: list[KeyPair], forge: Forge, clock: Clock
) -> None:
    good = {"issuer": forge.issuer.url, "jwks_uri": forge.issuer.url + JWKS_PATH}
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.path)
        if "jwks" in request.url.path:
            return httpx2.Response(200, json={"keys": [pairs[0].jwk]})
        return httpx2.Response(200, json={**good, **row.metadata})

    async def scenario() -> None:
        async with JwksCache(forge.issuer.url, transport=httpx2.MockTransport(answer)) as cache:
            with pytest.raises(KeysUnavailable):
                await TokenVerifier(cache, AUDIENCE, wall=clock.wall).verify(forge.token())
            assert cache.state is State.EMPTY

    asyncio.run(scenario())
    assert not [path for path in asked if "jwks" in path]


def test_every_row_has_a_unique_name_and_a_source() -> None:
    tables: list[Any] = [ACCEPTED, REFUSED, UNKNOWN_KID, MIXED, SKIPPED, USED, UNUSABLE_FOR_ES256, UNREADABLE]
    tables += [OLD_SET_KEPT, METADATA]
    for table in tables:
        assert len({row.name for row in table}) == len(table)
        assert all(row.source.startswith(("RFC ", "CVE-", "GHSA-")) for row in table)
    assert sum(map(len, tables)) > 300
