"""Requests for the JWKS are remembered: who asked, and which key set it holds."""

import pytest
from fastapi.testclient import TestClient
from support.defaults import Build, MovableClock
from support.prometheus import Samples

from issuer.keyring.census import Evidence, Sighting
from issuer.services import Issuer
from issuer.settings.settings import Settings
from issuer.web.app import create_app

PATH = "/.well-known/jwks.json"
BILLING = {"User-Agent": "jwks-verifier/0.1.0 (billing; 3f9a2c1b)"}


def remembered(issuer: Issuer) -> list[Sighting]:
    issuer.keys.census.flush(issuer.clock())
    return issuer.keys.census_store.load(issuer.clock())[0]


@pytest.mark.parametrize(
    ("sent", "evidence"),
    [
        (None, Evidence.GIVEN),
        ('"older"', Evidence.UPDATED),
        ('"older", W/{}', Evidence.PRESENTED),
        ("{}", Evidence.PRESENTED),
    ],
)
def test_the_answer_and_the_etag_sent_tell_which_set_a_verifier_holds(
    web: TestClient, issuer: Issuer, sent: str | None, evidence: Evidence
) -> None:
    etag = web.get("/.well-known/jwks.json", headers={"If-None-Match": "*"}).headers["etag"]
    more = {"If-None-Match": sent.format(etag)} if sent else {}
    assert web.get(PATH, headers={**BILLING, **more}).status_code in {200, 304}
    (found,) = remembered(issuer)
    assert found == Sighting("billing", "testclient", "3f9a2c1b", etag, evidence, issuer.clock(), False)


def test_the_key_set_is_remembered_with_its_kids(web: TestClient, issuer: Issuer) -> None:
    answer = web.get(PATH)
    issuer.keys.census.flush(issuer.clock())
    ((etag, held),) = issuer.keys.census_store.load(issuer.clock())[1].items()
    assert etag == answer.headers["etag"]
    assert list(held.kids) == [key["kid"] for key in answer.json()["keys"]]
    assert held.version == issuer.keys.node.view.ring.version


def test_nothing_is_remembered_with_the_census_off(made: Build, settings: Settings) -> None:
    issuer = made(settings.model_copy(update={"census": "off"}))
    with TestClient(create_app(issuer)) as web:
        assert web.get(PATH).status_code == 200
        assert "issuer_verifiers" not in web.get("/metrics").text
    assert remembered(issuer) == []


def test_the_metric_counts_verifiers_by_whether_they_hold_the_next_key(
    web: TestClient, issuer: Issuer, clock: MovableClock
) -> None:
    web.get(PATH, headers=BILLING)
    web.get(PATH, headers={"User-Agent": "Python-urllib/3.11"})
    issuer.keys.census.flush(clock())

    def counted(holds_next: str) -> float:
        return Samples(web.get("/metrics").text).total("issuer_verifiers", holds_next=holds_next)

    assert [counted(each) for each in ("yes", "unknown", "no")] == [1, 1, 0]
    issuer.keys.rotation.change(lambda ring, now: ring.promoted(issuer.policy, now, forced=True), "a test")
    issuer.keys.node.refresh()
    assert [counted(each) for each in ("yes", "unknown", "no")] == [0, 0, 2]
    web.get(PATH, headers={**BILLING, "If-None-Match": '"older"'})
    clock.advance(seconds=1)
    web.get(PATH, headers={**BILLING, "If-None-Match": '"older"'})
    issuer.keys.census.flush(clock())
    assert [counted(each) for each in ("yes", "unknown", "no")] == [1, 0, 1]
