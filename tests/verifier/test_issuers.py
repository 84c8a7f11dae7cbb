"""A verifier of several issuers: the `iss` of a token chooses among the configured ones, and they share nothing else.

What each issuer's tokens and keys must be is tested with one issuer, in `test_attacks`.
"""

import asyncio
from collections.abc import Callable, Iterator

import pytest
from fastapi import FastAPI, Security
from fastapi.testclient import TestClient
from support.attacks.forms import FORM
from support.verifier import AUDIENCE, METADATA_PATH, Clock, Forge

from jwks_verifier import Event, InvalidToken, JwksCache, KeysUnavailable, Reason, TokenVerifier
from jwks_verifier.fastapi import CurrentUser
from jwks_verifier.testing import InProcessIssuer, KeyPair

Events = list[tuple[str, Event]]


class Two:
    """Two issuers, a verifier that accepts tokens of both, and an event loop to call it on."""

    def __init__(self, pairs: list[KeyPair], clock: Clock, runner: asyncio.Runner) -> None:
        self.a = InProcessIssuer("https://a.test", keys=pairs[:1])
        self.b = InProcessIssuer("https://b.test", keys=pairs[1:2])
        self.forges = {issuer: Forge(issuer, pairs[3]) for issuer in (self.a, self.b)}
        self.events: Events = []
        self.verifier = TokenVerifier(
            {issuer.url: self._cache(issuer, clock) for issuer in self.forges}, AUDIENCE, wall=clock.wall
        )
        self.run = runner.run

    def _cache(self, issuer: InProcessIssuer, clock: Clock) -> JwksCache:
        return JwksCache(
            issuer.url,
            transport=issuer.transport,
            monotonic=clock.monotonic,
            on_event=lambda event, _: self.events.append((issuer.url, event)),
        )

    def reason(self, token: str) -> Reason:
        with pytest.raises(InvalidToken) as refusal:
            self.run(self.verifier.verify(token))
        return refusal.value.reason

    @property
    def fetches(self) -> int:
        return len(self.a.requests) + len(self.b.requests)


@pytest.fixture
def two(pairs: list[KeyPair], clock: Clock) -> Iterator[Two]:
    with asyncio.Runner() as runner:
        two = Two(pairs, clock, runner)

        async def fetch_all() -> None:
            await two.verifier.__aenter__()
            for cache in two.verifier.caches.values():
                await cache.refetched()

        two.run(fetch_all())
        yield two
        two.run(two.verifier.__aexit__())


def test_tokens_of_each_issuer_are_accepted(two: Two) -> None:
    for issuer, forge in two.forges.items():
        assert two.run(two.verifier.verify(forge.token())).issuer == issuer.url
        assert two.events[-1] == (issuer.url, Event.ACCEPTED)


def test_a_key_never_verifies_a_token_of_another_issuer(two: Two, clock: Clock) -> None:
    signed_by_a, of_b = two.forges[two.a], two.forges[two.b]
    for _ in range(2):  # the second time with cached headers
        assert two.reason(signed_by_a.token(iss=two.b.url)) is Reason.UNKNOWN_KEY
        header = of_b.header()
        assert (
            two.reason(of_b.signed(header, of_b.claims(iss=two.b.url), signed_by_a.key)) is Reason.SIGNATURE
        )
        for forge in two.forges.values():
            two.run(two.verifier.verify(forge.token()))


UNKNOWN: dict[str, Callable[[dict[str, object]], object]] = {
    "another": lambda claims: {**claims, "iss": "https://c.test"},
    "with a slash": lambda claims: {**claims, "iss": "https://a.test/"},
    "in capitals": lambda claims: {**claims, "iss": "https://A.test"},
    "a list": lambda claims: {**claims, "iss": ["https://a.test"]},
    "an object": lambda claims: {**claims, "iss": {"https://a.test": 1}},
    "none": lambda claims: {**claims, "iss": None},
    "empty": lambda claims: {**claims, "iss": ""},
}


@pytest.mark.parametrize("change", UNKNOWN.values(), ids=UNKNOWN)
def test_an_unknown_issuer_is_refused_without_a_fetch(
    two: Two, change: Callable[[dict[str, object]], object], clock: Clock
) -> None:
    clock.rest(3000)
    clock.passed += 1  # both caches may fetch again
    fetches, forge = two.fetches, two.forges[two.a]
    for kid in (forge.key.kid, "unknown"):
        assert two.reason(forge.signed(forge.header(kid=kid), change(forge.claims()))) is Reason.ISSUER
    assert two.fetches == fetches
    assert two.events[-1] == (two.a.url, Event.REJECTED)  # once, by the first cache


def test_malformed_tokens_are_refused_without_a_fetch(two: Two) -> None:
    fetches = two.fetches
    for row in FORM:
        assert two.reason(row.make(two.forges[two.a])) in {row.reason, Reason.ISSUER}, row.name
    assert two.fetches == fetches


def test_an_issuer_that_is_down_leaves_the_others_alone(pairs: list[KeyPair], clock: Clock) -> None:
    with asyncio.Runner() as runner:
        two = Two(pairs, clock, runner)
        two.b.down = True

        async def scenario() -> None:
            async with two.verifier:
                assert (await two.verifier.verify(two.forges[two.a].token())).issuer == two.a.url
                with pytest.raises(KeysUnavailable):
                    await two.verifier.verify(two.forges[two.b].token())

        runner.run(scenario())


def test_the_metadata_names_every_issuer(two: Two) -> None:
    current_user = CurrentUser(two.verifier, token_url="https://a.test/login")
    app = FastAPI(lifespan=current_user.lifespan)
    app.include_router(current_user.router)

    @app.get("/", dependencies=[Security(current_user)])
    async def home() -> None:
        """Answer nothing."""

    client = TestClient(app)
    challenge = client.get("/").headers["WWW-Authenticate"]
    assert challenge == f'Bearer resource_metadata="{AUDIENCE}{METADATA_PATH}"'
    assert client.get(METADATA_PATH).json()["authorization_servers"] == [two.a.url, two.b.url]


def test_two_dependencies_of_one_application_have_names_of_their_own_in_openapi(two: Two) -> None:
    app = FastAPI()
    for name, issuer in (("a", two.a), ("b", two.b)):
        user = CurrentUser(two.verifier, token_url=f"{issuer.url}/login", scheme_name=name)
        app.get(f"/{name}", dependencies=[Security(user)])(lambda: None)
    document = app.openapi()
    schemes = document["components"]["securitySchemes"]
    urls = {name: scheme["flows"]["password"]["tokenUrl"] for name, scheme in schemes.items()}
    assert urls == {"a": "https://a.test/login", "b": "https://b.test/login"}
    assert [document["paths"][path]["get"]["security"] for path in ("/a", "/b")] == [[{"a": []}], [{"b": []}]]


def test_how_long_a_token_is_accepted_includes_the_leeway(two: Two, clock: Clock) -> None:
    token = two.run(two.verifier.verify(two.forges[two.b].token()))
    assert two.verifier.remaining(token) == 610
    clock.advance(600)
    assert two.verifier.remaining(token) == 10


def test_caches_must_be_listed_under_their_own_issuer(two: Two) -> None:
    a, b = two.verifier.caches.values()
    for wrong in ({}, {a.issuer: b}, {a.issuer + "/": a}):
        with pytest.raises(ValueError, match="of their own issuer"):
            TokenVerifier(wrong, AUDIENCE)
    with pytest.raises(ValueError, match="several issuers"):
        _ = two.verifier.cache
