"""The service of docs/fastapi.md, with all its sections, does what the page says.

Its first lines, its tests and its programs are run with a real issuer in `servers/test_documented_services`.
"""

import asyncio
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect
from support.defaults import bearer
from support.documents import DOCS, programs
from support.verifier import Clock

from jwks_verifier import InvalidToken
from jwks_verifier.testing import InProcessIssuer, access_token

PAGE = (DOCS / "fastapi.md").read_text("utf-8")
PROGRAMS = programs("fastapi.md")
ISSUER, AUDIENCE = "http://127.0.0.1:8000", "http://127.0.0.1:8001"
CACHE = f'JwksCache("{ISSUER}")'


@pytest.fixture(scope="module")
def issuer() -> InProcessIssuer:
    return InProcessIssuer(ISSUER)


@pytest.fixture
def service(issuer: InProcessIssuer) -> SimpleNamespace:
    """The names of the page's main.py, whose keys come from `issuer` and age by `clock`."""
    assert PROGRAMS["main.py"].count(CACHE) == 1
    text = PROGRAMS["main.py"].replace(CACHE, f'JwksCache("{ISSUER}", transport=transport, wall=clock.wall)')
    names: dict[str, Any] = {"__name__": "main", "transport": issuer.transport, "clock": Clock()}
    exec(text, names)  # noqa: S102
    return SimpleNamespace(**names)


@pytest.fixture
def client(service: SimpleNamespace) -> Iterator[TestClient]:
    with TestClient(service.app) as client:
        yield client


def test_the_first_service_has_ten_lines() -> None:
    (first, *_) = re.findall(r"^```python\n# main.py\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len([line for line in first.splitlines() if line]) == 10


def test_a_refusal_names_the_metadata_of_the_service(client: TestClient) -> None:
    refused = client.get("/me")
    assert refused.json() == {"error": "invalid_token", "error_description": "a bearer token is required"}
    (url,) = re.findall(r'resource_metadata="(.*?)"', refused.headers["WWW-Authenticate"])
    metadata = client.get(url.removeprefix(AUDIENCE)).json()
    assert metadata["authorization_servers"] == [ISSUER]
    assert metadata["scopes_supported"] == ["items:read", "orders:write"]


def alice(issuer: InProcessIssuer, scope: str = "", **claims: Any) -> dict[str, str]:
    return bearer(issuer.make_token(aud=AUDIENCE, username="alice", scope=scope, **claims))


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [("GET", "/items", "items:read"), ("POST", "/orders/7/cancel", "orders:write")],
)
def test_a_route_requires_its_scope(
    method: str, path: str, scope: str, client: TestClient, issuer: InProcessIssuer
) -> None:
    answers = [client.request(method, path, headers=alice(issuer, scope=each)) for each in (scope, "other")]
    assert [answer.status_code for answer in [*answers, client.request(method, path)]] == [200, 403, 401]


def test_a_route_may_require_two_scopes_and_docs_list_those_of_with_scope(
    service: SimpleNamespace, client: TestClient, issuer: InProcessIssuer
) -> None:
    (both,) = re.findall(r"`(Security\(current_user, scopes=\[.*?\]\))`", PAGE)
    dependency = eval(both, vars(service))  # noqa: S307

    @service.app.get("/both", dependencies=[dependency])  # type: ignore[untyped-decorator]
    async def both_scopes() -> None: ...

    scopes = ("items:read items:write", "items:read", "items:write")
    answers = [client.get("/both", headers=alice(issuer, scope=each)) for each in scopes]
    assert [answer.status_code for answer in answers] == [200, 403, 403]
    schemes = client.get("/openapi.json").json()["components"]["securitySchemes"]
    assert list(schemes["issuer"]["flows"]["password"]["scopes"]) == ["items:read", "orders:write"]


def test_an_optional_user_may_be_absent_but_not_invalid(client: TestClient, issuer: InProcessIssuer) -> None:
    assert client.get("/greeting").json() == "Hello, stranger"
    assert client.get("/greeting", headers=alice(issuer)).json() == "Hello, alice"
    machine = bearer(issuer.make_token(aud=AUDIENCE, client_id="nightly"))
    assert client.get("/greeting", headers=machine).json() == "Hello, nightly"
    assert client.get("/greeting", headers=alice(issuer, exp=1)).status_code == 401


def test_a_claims_model_reads_claims_that_the_library_does_not_know(
    client: TestClient, issuer: InProcessIssuer
) -> None:
    caller = client.get("/caller", headers=alice(issuer, sub="u7", grant_id="g1")).json()
    assert caller == {"sub": "u7", "client_id": "test", "username": "alice", "grant_id": "g1"}


def test_a_replaced_user_fills_the_claims_model(service: SimpleNamespace, client: TestClient) -> None:
    service.app.dependency_overrides[service.current_user] = lambda: access_token(
        subject="u7", username="alice", claims={"grant_id": "g1"}
    )
    caller = client.get("/caller").json()
    assert caller == {"sub": "u7", "client_id": "test", "username": "alice", "grant_id": "g1"}


def test_a_socket_answers_until_the_token_expires(
    service: SimpleNamespace, client: TestClient, issuer: InProcessIssuer
) -> None:
    with client.websocket_connect("/echo", headers=alice(issuer)) as socket:
        socket.send_text("once")
        assert socket.receive_text() == "alice: once"
    service.verifier.wall = lambda: 1000
    late = alice(issuer, iat=900, exp=990.1)  # accepted for the tenth of a second that remains of the leeway
    with client.websocket_connect("/echo", headers=late) as socket, pytest.raises(WebSocketDisconnect) as end:
        socket.receive_text()
    assert (end.value.code, end.value.reason) == (1008, "token expired")


def test_a_socket_without_a_token_is_refused_before_it_opens(client: TestClient) -> None:
    with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/echo"):
        pass
    assert denied.value.status_code == 401


def test_a_background_task_gets_the_subject(
    service: SimpleNamespace, client: TestClient, issuer: InProcessIssuer
) -> None:
    assert client.post("/reports", headers=alice(issuer, scope="items:read", sub="u7")).status_code == 202
    assert service.reports == ["u7"]


def test_a_sync_route_takes_the_same_dependency(client: TestClient, issuer: InProcessIssuer) -> None:
    assert client.get("/sync", headers=alice(issuer, sub="u7")).json() == "u7"
    assert client.get("/sync").status_code == 401


def test_a_browser_app_of_another_origin_may_send_a_token(client: TestClient) -> None:
    origin = "http://localhost:5173"
    asks = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    assert client.options("/me", headers={"Origin": origin, **asks}).status_code == 200
    refused = client.get("/me", headers={"Origin": origin})
    assert refused.headers["access-control-allow-origin"] == origin
    assert "WWW-Authenticate" in refused.headers["access-control-expose-headers"]


def test_the_service_is_ready_as_long_as_it_has_keys(
    service: SimpleNamespace, client: TestClient, issuer: InProcessIssuer
) -> None:
    assert client.get("/me", headers=alice(issuer)).is_success
    assert (client.get("/readyz").status_code, client.get("/readyz").json()) == (200, {"keys": "fresh"})
    service.clock.advance(100_000)
    assert (client.get("/readyz").status_code, client.get("/readyz").json()) == (503, {"keys": "expired"})


def test_a_token_of_either_issuer_is_accepted_and_of_no_other() -> None:
    issuers = [InProcessIssuer(url) for url in (ISSUER, "https://login.example", "https://other.example")]
    transports = {each.url: each.transport for each in issuers}
    text = PROGRAMS["two_issuers.py"].replace("JwksCache(url)", "JwksCache(url, transport=transports[url])")
    names: dict[str, Any] = {"transports": transports}
    exec(text, names)  # noqa: S102
    accepts = [accepted(names["verifier"], each.make_token(aud=AUDIENCE)) for each in issuers]
    assert accepts == [True, True, False]


def accepted(verifier: Any, token: str) -> bool:
    async def verify() -> bool:
        async with verifier:
            try:
                await verifier.verify(token)
            except InvalidToken:
                return False
            return True

    return asyncio.run(verify())
