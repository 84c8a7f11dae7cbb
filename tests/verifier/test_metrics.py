"""The metrics of the example service."""

import re
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from support.defaults import bearer
from support.verifier import AUDIENCE, Clock, Forge

from jwks_verifier import Event, JwksCache, Reason, State, TokenVerifier
from jwks_verifier.testing import InProcessIssuer
from verifier_example.app import build_verifier, create_app
from verifier_example.metrics import Metrics
from verifier_example.settings import Settings


@pytest.fixture
def metered(issuer: InProcessIssuer, clock: Clock) -> Iterator[TestClient]:
    metrics = Metrics()
    cache = JwksCache(
        issuer.url, transport=issuer.transport, monotonic=clock.monotonic, on_event=metrics.count
    )
    verifier = TokenVerifier(cache, AUDIENCE, wall=clock.wall)
    with TestClient(create_app(verifier=verifier, metrics=metrics)) as client:
        yield client


def nonzero_samples(client: TestClient) -> dict[str, float]:
    """Return the samples that are not 0, by name and labels."""
    answer = client.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain")
    families = text_string_to_metric_families(answer.text)
    samples = (sample for family in families for sample in family.samples)
    return {
        " ".join([sample.name.removeprefix("verifier_"), *sample.labels.values()]): sample.value
        for sample in samples
        if sample.value
    }


def test_verifications_and_fetches_are_counted_by_their_outcome(
    metered: TestClient, issuer: InProcessIssuer, clock: Clock, forge: Forge
) -> None:
    for token in ("junk", forge.token(), forge.token(), forge.token(exp=1), forge.token({"kid": "other"})):
        metered.get("/me", headers=bearer(token))
    clock.advance(20)
    assert nonzero_samples(metered) == {
        "verifications_total accepted": 2,
        "verifications_total malformed": 1,
        "verifications_total expired": 1,
        "verifications_total unknown_key": 1,
        "fetches_total fetched": 1,
        "events_total key_added": 1,
        "events_total refetch_suppressed": 1,
        "keys_age_seconds": 20,
        "state fresh": 1,
    }


def test_an_outage_is_visible_in_the_metrics(
    metered: TestClient, issuer: InProcessIssuer, clock: Clock, forge: Forge
) -> None:
    token = bearer(forge.token(exp=1_900_000_000))
    metered.get("/me", headers=token)
    issuer.down = True
    for state, seconds in (("stale", 301), ("expired", 3600)):
        clock.advance(seconds)
        metered.get("/me", headers=token)
        assert nonzero_samples(metered)[f"state {state}"] == 1
    seen = nonzero_samples(metered)
    assert seen["verifications_total accepted"] == 2
    assert seen["verifications_total unavailable"] == 1
    assert seen["fetches_total fetch_failed"] == 2  # one that was late, one for want of usable keys
    assert seen["events_total served_stale"] == 1
    assert seen["keys_age_seconds"] == 3901


def test_without_keys_their_age_is_infinite(cache: JwksCache) -> None:
    seen = nonzero_samples(TestClient(create_app(verifier=TokenVerifier(cache, AUDIENCE))))
    assert seen == {"keys_age_seconds": float("inf"), "state empty": 1}


def test_every_metric_is_exported_before_its_first_event(metered: TestClient) -> None:
    text = metered.get("/metrics").text
    labels = set(re.findall(r'\{(?:outcome|event|state)="(\w+)"\}', text))
    assert labels == {*Event, *Reason, *State} - {Event.REJECTED}


def test_a_service_built_from_settings_counts_and_logs_events(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    verifier = build_verifier(Settings(_env_file=None), metrics)
    verifier.cache.report(Event.KEY_SKIPPED, "#0")
    verifier.cache.report(Event.FETCH_FAILED, "logged by the library, in words")
    client = TestClient(create_app(verifier=verifier, metrics=metrics))
    assert nonzero_samples(client)["fetches_total fetch_failed"] == 1
    assert caplog.messages == ["key_skipped #0"]
