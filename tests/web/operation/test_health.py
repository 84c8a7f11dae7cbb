"""`GET /readyz`: outages, and who gets the reason."""

import asyncio
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from support.defaults import ALICE, START, Build, MovableClock
from support.endpoints import ISSUER, refresh

from issuer.clock import instant
from issuer.database.errors import DatabaseUnavailable
from issuer.services import Issuer
from issuer.settings.settings import Settings
from issuer.web.app import create_app
from issuer.web.operation.health import Probe, Result


def test_a_node_that_lost_its_view_stops_signing_then_publishing_and_reports_that(
    web: TestClient, alice: str, issuer: Issuer, clock: MovableClock
) -> None:
    tokens = web.post("/login", data=ALICE).json()
    view = issuer.keys.node.view
    stale = replace(view, refreshed_at=clock() - timedelta(seconds=31))
    issuer.keys.node._view = stale
    answer = web.post("/login", data=ALICE)
    assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    assert web.get("/readyz").status_code == 503
    assert web.get("/.well-known/jwks.json").status_code == 200
    issuer.keys.node._view = replace(view, refreshed_at=clock() - timedelta(hours=1, minutes=3))
    assert web.get("/.well-known/jwks.json").headers["cache-control"] == "public, max-age=120"
    issuer.keys.node._view = replace(view, refreshed_at=clock() - timedelta(hours=2))
    assert web.get("/.well-known/jwks.json").status_code == 503
    issuer.keys.node._view = view
    assert refresh(web, tokens["refresh_token"]).status_code == 200


def test_without_a_database_requests_are_answered_503_and_readiness_reports_that(
    web: TestClient, alice: str, issuer: Issuer, settings: Settings
) -> None:
    issuer.database.close()
    issuer.ring_database.close()
    path = settings.database_url.get_secret_value().removeprefix("sqlite:///")
    Path(path).rename(path + ".gone")
    Path(path).mkdir()
    answer = web.post("/login", data=ALICE)
    assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable")
    assert "database" in web.get("/readyz").json()["checks"]["database"]
    assert web.get("/healthz").status_code == 200


def test_concurrent_readiness_requests_share_one_check_even_if_the_first_is_cancelled(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, looks, real = threading.Event(), [], issuer.ring_database.ping

    def ping() -> None:
        looks.append(1)
        gate.wait(120)
        real()

    monkeypatch.setattr(issuer.ring_database, "ping", ping)

    async def crowd() -> None:
        app = create_app(issuer)
        all_asked = asyncio.Event()

        class Counting(Probe):
            asked = 0

            async def result(self, issuer: Issuer) -> Result:
                self.asked += 1
                if self.asked == 100:
                    all_asked.set()
                return await super().result(issuer)

        app.state.probe = Counting(app.state.supervisor)
        transport = httpx2.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=transport, base_url=ISSUER) as web,
        ):
            first, *others = [asyncio.create_task(web.get("/readyz")) for _ in range(100)]
            await asyncio.wait_for(all_asked.wait(), 20)
            first.cancel()
            gate.set()
            assert {answer.status_code for answer in await asyncio.gather(*others)} == {200}
            assert len(looks) == 1
            await web.get("/readyz")
            assert len(looks) == 2

    asyncio.run(crowd())


@pytest.mark.parametrize(("url", "in_detail"), [(ISSUER, True), ("https://issuer.example", False)])
def test_readiness_gives_reasons_on_loopback_only_and_elsewhere_points_to_the_log(
    made: Build, settings: Settings, tmp_path: Path, url: str, in_detail: bool
) -> None:
    issuer = made(settings.model_copy(update={"url": url}))
    kid = issuer.keys.node.refresh().ring.current(issuer.clock()).kid
    with issuer.ring_database.write() as connection:
        connection.execute(text("ALTER TABLE key_ring RENAME TO elsewhere"))
    with pytest.raises(DatabaseUnavailable):
        issuer.keys.node.refresh()
    issuer.keys.signer.unload_all_but([])
    answer = TestClient(create_app(issuer)).get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["warnings"][0].startswith(f"since {instant(START)}: ")
    assert [kid in answer.text, str(tmp_path) in answer.text] == [in_detail, in_detail]
    assert answer.text.count("see the log") == (0 if in_detail else 2)
