"""Owns what the example service answers: greetings, challenges, sockets, probes, metrics, documents, and no 500.

Which tokens are good is in `test_verifier_tokens`.
"""

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import APIWebSocketRoute
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import WebSocketDenialResponse
from support.servers import PATIENCE_SECONDS
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from verifier_example.__main__ import main as serve
from verifier_example.app import build_verifier, create_app
from verifier_example.metrics import Metrics
from verifier_example.settings import Settings
from verifier_example.testing import InProcessIssuer, access_token
from verifier_example.verifier import Event, JwksCache, Reason, State, Timings, TokenVerifier

AUDIENCE = "https://api.test"
PROTECTED = ["/protected_route", "/me", "/items"]
METADATA = "/.well-known/oauth-protected-resource"
TOLD = f'resource_metadata="https://api.test{METADATA}"'


@pytest.fixture
def app(verifier: TokenVerifier) -> FastAPI:
    return create_app(Settings(_env_file=None), verifier=verifier)


@pytest.fixture
def client(app: FastAPI, verifier: TokenVerifier) -> Iterator[TestClient]:
    with TestClient(app) as client:
        assert client.portal is not None
        client.portal.call(verifier.cache.refetched)
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# Answers


def test_a_user_is_greeted_by_name(client: TestClient, forge: Any) -> None:
    answer = client.get("/protected_route", headers=bearer(forge.token()))
    assert (answer.status_code, answer.json()) == (200, {"message": "Hello, alice"})


def test_a_machine_is_greeted_by_its_client_id(client: TestClient, forge: Any) -> None:
    answer = client.get(
        "/protected_route", headers=bearer(forge.token(username=None, client_id="m1", sub="m1"))
    )
    assert answer.json() == {"message": "Hello, m1"}


def test_the_caller_sees_their_claims(client: TestClient, forge: Any) -> None:
    token = forge.token()
    assert client.get("/me", headers=bearer(token)).json() == forge.claims()


def test_the_scheme_may_be_written_in_any_case_and_spaces(client: TestClient, forge: Any) -> None:
    for scheme in ("bearer ", "BEARER ", "Bearer   "):
        assert client.get("/me", headers={"Authorization": scheme + forge.token()}).status_code == 200


def test_a_scope_opens_the_route_that_asks_for_it(client: TestClient, forge: Any) -> None:
    answer = client.get("/items", headers=bearer(forge.token(scope="other items:read")))
    assert answer.status_code == 200
    assert [item["id"] for item in answer.json()] == [1, 2]


@pytest.mark.parametrize("scope", ["", "items", "items:reader", "ITEMS:READ", "items:write"])
def test_a_missing_scope_is_a_403_that_names_it(scope: str, client: TestClient, forge: Any) -> None:
    answer = client.get("/items", headers=bearer(forge.token(scope=scope)))
    assert answer.status_code == 403
    assert answer.json()["error"] == "insufficient_scope"
    challenge = answer.headers["WWW-Authenticate"]
    assert challenge.startswith('Bearer error="insufficient_scope"')
    assert challenge.endswith(f'scope="items:read", {TOLD}')


@pytest.mark.parametrize("path", PROTECTED)
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic YTpi"}, {"Authorization": ""}])
def test_without_a_token_the_challenge_has_no_error(
    path: str, headers: dict[str, str], client: TestClient
) -> None:
    answer = client.get(path, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == f"Bearer {TOLD}"
    assert set(answer.json()) == {"error", "error_description"}


@pytest.mark.parametrize("place", [{"params": {"access_token": "T"}}, {"cookies": {"access_token": "T"}}])
def test_a_token_is_taken_from_the_header_alone(
    place: dict[str, Any], client: TestClient, forge: Any
) -> None:
    (where, _), token = next(iter(place.items())), forge.token()
    request = client.build_request(
        "GET", "/me", **({where: {"access_token": token}} if where == "params" else {})
    )
    if where == "cookies":
        request.headers["Cookie"] = f"access_token={token}"
    assert client.send(request).status_code == 401


def test_every_invalid_token_gets_one_and_the_same_answer(client: TestClient, forge: Any) -> None:
    tokens = [
        "junk",
        forge.token(iss="https://evil.test"),
        forge.token(aud="https://evil.test"),
        forge.token({"typ": "JWT"}),
        forge.token({"kid": "unknown"}),
        forge.signed(forge.header(), forge.claims(), forge.stranger),
    ]
    answers = {
        (answer.status_code, answer.text, answer.headers["WWW-Authenticate"])
        for answer in (client.get("/me", headers=bearer(token)) for token in tokens)
    }
    assert answers == {
        (
            401,
            '{"error":"invalid_token","error_description":"invalid token"}',
            f'Bearer error="invalid_token", error_description="invalid token", {TOLD}',
        )
    }


def test_an_expired_token_is_told_so(client: TestClient, forge: Any) -> None:
    answer = client.get("/me", headers=bearer(forge.token(exp=1)))
    assert answer.status_code == 401
    assert (
        answer.headers["WWW-Authenticate"]
        == f'Bearer error="invalid_token", error_description="token expired", {TOLD}'
    )


def test_two_authorization_headers_are_refused(client: TestClient, forge: Any) -> None:
    good = ("Authorization", f"Bearer {forge.token()}")
    junk = ("Authorization", "Basic YTpi")
    for headers in ([good, good], [good, junk], [junk, good]):
        answer = client.get("/me", headers=headers)
        assert answer.status_code == 400
        assert answer.json()["error"] == "invalid_request"
        assert answer.headers["WWW-Authenticate"].startswith('Bearer error="invalid_request"')


def test_without_keys_there_is_a_503_and_a_time_to_try_again(
    app: FastAPI, issuer: InProcessIssuer, forge: Any
) -> None:
    issuer.down = True
    with TestClient(app) as client:
        answer = client.get("/me", headers=bearer(forge.token()))
    assert answer.status_code == 503
    assert answer.json()["error"] == "temporarily_unavailable"
    assert int(answer.headers["Retry-After"]) >= 1


# Probes


def test_readiness_follows_the_keys(
    client: TestClient, issuer: InProcessIssuer, clock: Any, cache: JwksCache
) -> None:
    issuer.down = True
    seen = []
    for seconds in (0, 301, 3600):
        clock.advance(seconds)
        answer = client.get("/readyz")
        seen.append((cache.state, answer.status_code))
        if cache.state is State.STALE:
            assert answer.json()["status"].startswith("degraded")
    assert seen == [(State.FRESH, 200), (State.STALE, 200), (State.DEAD, 503)]
    assert "too long" in answer.json()["error_description"]
    assert client.get("/healthz").json() == {"status": "ok"}


# Documents


def test_openapi_shows_the_padlock_with_its_scopes_and_the_real_refusals(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    ((name, scheme),) = document["components"]["securitySchemes"].items()
    assert scheme["flows"]["password"]["tokenUrl"] == "http://127.0.0.1:8000/login"
    assert set(scheme["flows"]["password"]["scopes"]) == {"items:read"}
    paths = document["paths"]
    assert set(paths) == {*PROTECTED, METADATA, "/healthz", "/readyz", "/metrics"}
    assert paths["/items"]["get"]["security"] == [{name: ["items:read"]}]
    assert paths["/me"]["get"]["security"] == [{name: []}]
    assert "security" not in paths["/healthz"]["get"]
    for path in PROTECTED:
        answers = paths[path]["get"]["responses"]
        assert set(answers) == {"200", "400", "401", "403", "503"}
        for status in ("400", "401", "403", "503"):
            assert answers[status]["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorBody")


def test_the_docs_page_loads_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/docs").text
    urls = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(urls) >= 3
    for url in urls:
        assert url.startswith("/")
        assert client.get(url).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/me/", 404, "not_found"),
        ("POST", "/me", 405, "method_not_allowed"),
    ],
)
def test_the_frameworks_own_errors_have_the_same_shape(
    method: str, path: str, status: int, error: str, client: TestClient
) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert set(answer.json()) == {"error", "error_description"}


# The metadata of the resource


def test_the_metadata_names_the_issuer_and_the_scopes_that_routes_ask_for(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    asked = {
        scope
        for operations in document["paths"].values()
        for scopes in operations["get"].get("security", [])
        for scope in next(iter(scopes.values()))
    }
    assert client.get(METADATA).json() == {
        "resource": AUDIENCE,
        "authorization_servers": ["https://issuer.test"],
        "scopes_supported": sorted(asked),
        "bearer_methods_supported": ["header"],
    }


def test_the_metadata_of_a_resource_with_a_path_is_between_host_and_path(cache: JwksCache) -> None:
    client = TestClient(create_app(verifier=TokenVerifier(cache, "https://api.test/v1/")))
    told = client.get("/me").headers["WWW-Authenticate"]
    assert told == f'Bearer resource_metadata="https://api.test{METADATA}/v1"'
    assert client.get(f"{METADATA}/v1").json()["resource"] == "https://api.test/v1/"
    assert client.get(METADATA).status_code == 404


def test_an_audience_that_is_no_url_has_no_metadata_and_a_bare_challenge(cache: JwksCache) -> None:
    client = TestClient(create_app(verifier=TokenVerifier(cache, "inventory")))
    assert client.get("/me").headers["WWW-Authenticate"] == "Bearer"
    assert client.get(METADATA).status_code == 404


# Metrics


@pytest.fixture
def measured(issuer: InProcessIssuer, clock: Any) -> Iterator[TestClient]:
    metrics = Metrics()
    cache = JwksCache(
        issuer.url, transport=issuer.transport, monotonic=clock.monotonic, on_event=metrics.count
    )
    verifier = TokenVerifier(cache, AUDIENCE, wall=clock.wall)
    with TestClient(create_app(verifier=verifier, metrics=metrics)) as client:
        yield client


def figures(client: TestClient) -> dict[str, float]:
    """Read the figures that are not 0, each under its name and label."""
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
    measured: TestClient, issuer: InProcessIssuer, clock: Any, forge: Any
) -> None:
    for token in ("junk", forge.token(), forge.token(), forge.token(exp=1), forge.token({"kid": "other"})):
        measured.get("/me", headers=bearer(token))
    clock.advance(20)
    assert figures(measured) == {
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


def test_an_outage_shows_in_the_metrics(
    measured: TestClient, issuer: InProcessIssuer, clock: Any, forge: Any
) -> None:
    token = bearer(forge.token(exp=1_900_000_000))
    measured.get("/me", headers=token)
    issuer.down = True
    for state, seconds in (("stale", 301), ("dead", 3600)):
        clock.advance(seconds)
        measured.get("/me", headers=token)
        assert figures(measured)[f"state {state}"] == 1
    seen = figures(measured)
    assert seen["verifications_total accepted"] == 2
    assert seen["verifications_total unavailable"] == 1
    assert seen["fetches_total fetch_failed"] == 2  # one that was late, one for want of usable keys
    assert seen["events_total served_stale"] == 1
    assert seen["keys_age_seconds"] == 3901


def test_without_keys_their_age_is_infinite(cache: JwksCache) -> None:
    seen = figures(TestClient(create_app(verifier=TokenVerifier(cache, AUDIENCE))))
    assert seen == {"keys_age_seconds": float("inf"), "state empty": 1}


def test_every_figure_is_there_before_anything_has_happened(measured: TestClient) -> None:
    text = measured.get("/metrics").text
    labels = set(re.findall(r'\{(?:outcome|event|state)="(\w+)"\}', text))
    assert labels == {*Event, *Reason, *State} - {Event.REJECTED}


def test_a_service_built_from_settings_counts_and_logs_too(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    verifier = build_verifier(Settings(_env_file=None), metrics)
    verifier.cache.tell(Event.FETCH_FAILED, "out of reach")
    client = TestClient(create_app(verifier=verifier, metrics=metrics))
    assert figures(client)["fetches_total fetch_failed"] == 1
    assert caplog.messages == ["fetch_failed out of reach"]


# WebSockets


def test_a_socket_greets_the_caller_at_once_and_at_each_message(client: TestClient, forge: Any) -> None:
    with client.websocket_connect("/greetings", headers=bearer(forge.token())) as socket:
        assert socket.receive_json() == {"message": "Hello, alice"}
        for send in (lambda: socket.send_text("again"), lambda: socket.send_bytes(b"\xff")):
            send()
            assert socket.receive_json() == {"message": "Hello, alice"}
        assert socket.accepted_subprotocol is None


def test_a_browser_may_offer_the_token_as_a_subprotocol_which_is_never_sent_back(
    client: TestClient, forge: Any
) -> None:
    with client.websocket_connect("/greetings", subprotocols=["bearer", forge.token()]) as socket:
        assert socket.accepted_subprotocol == "bearer"
        assert socket.receive_json() == {"message": "Hello, alice"}


def test_a_socket_without_a_good_token_is_denied_before_it_opens(client: TestClient, forge: Any) -> None:
    token, expired = forge.token(), forge.token(exp=1)
    for offer, challenge in (
        ({}, f"Bearer {TOLD}"),
        ({"subprotocols": ["chat"]}, f"Bearer {TOLD}"),
        ({"subprotocols": [token]}, f"Bearer {TOLD}"),
        ({"subprotocols": ["bearer"]}, f"Bearer {TOLD}"),
        ({"headers": bearer("junk")}, 'Bearer error="invalid_token", error_description="invalid token"'),
        ({"subprotocols": ["bearer", "junk"]}, 'Bearer error="invalid_token", error_description="invalid'),
        ({"subprotocols": ["bearer", token, token]}, 'Bearer error="invalid_request"'),
        ({"subprotocols": ["bearer", token], "headers": bearer(token)}, 'Bearer error="invalid_request"'),
        ({"subprotocols": ["bearer", expired]}, 'Bearer error="invalid_token", error_description="token exp'),
    ):
        opening = client.websocket_connect("/greetings", **offer)
        with pytest.raises(WebSocketDenialResponse) as denied, opening:
            pass
        assert denied.value.status_code == (400 if "invalid_request" in challenge else 401)
        assert denied.value.headers["WWW-Authenticate"].startswith(challenge)


def test_a_socket_at_an_unknown_path_is_answered_as_any_request_there(client: TestClient) -> None:
    for path in ("/nowhere", "/healthz"):
        with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect(path):
            pass
        assert (denied.value.status_code, denied.value.json()["error"]) == (404, "not_found")


def test_a_token_in_the_address_or_a_cookie_opens_no_socket(client: TestClient, forge: Any) -> None:
    for offer in (
        client.websocket_connect(f"/greetings?access_token={forge.token()}"),
        client.websocket_connect("/greetings", headers={"Cookie": f"access_token={forge.token()}"}),
    ):
        with pytest.raises(WebSocketDenialResponse), offer:
            pass


def test_a_subprotocol_opens_no_route_but_a_socket(client: TestClient, forge: Any) -> None:
    headers = {"Sec-WebSocket-Protocol": f"bearer, {forge.token()}"}
    assert client.get("/me", headers=headers).status_code == 401


def test_a_socket_is_told_when_there_are_no_keys(app: FastAPI, issuer: InProcessIssuer, forge: Any) -> None:
    issuer.down = True
    with TestClient(app) as client:
        opening = client.websocket_connect("/greetings", headers=bearer(forge.token()))
        with pytest.raises(WebSocketDenialResponse) as denied, opening:
            pass
    assert denied.value.status_code == 503
    assert int(denied.value.headers["Retry-After"]) >= 1


async def talk(app: FastAPI, *received: dict[str, Any], **scope: Any) -> list[dict[str, Any]]:
    """Call the app as a server does that knows no extension of ASGI, and return what the app sends."""
    messages, sent = iter([{"type": "websocket.connect"}, *received]), []

    async def receive() -> dict[str, Any]:
        message = next(messages, None)
        return message or await asyncio.Event().wait()  # type: ignore[return-value]  # nothing more comes

    async def send(message: Any) -> None:
        sent.append(message)

    whole = {
        "type": "websocket",
        "path": "/greetings",
        "query_string": b"",
        "headers": [],
        "subprotocols": [],
    }
    await app({**whole, **scope}, receive, send)
    return sent


@pytest.mark.anyio
async def test_where_no_answer_can_be_given_the_socket_is_closed_before_it_opens(
    app: FastAPI, verifier: TokenVerifier, issuer: InProcessIssuer, forge: Any
) -> None:
    async with verifier.cache:
        assert await talk(app) == [{"type": "websocket.close", "code": 1008, "reason": ""}]
        assert await talk(app, subprotocols=["bearer", "junk"]) == [
            {"type": "websocket.close", "code": 1008, "reason": ""}
        ]
    issuer.down = True
    unready = create_app(verifier=TokenVerifier(JwksCache(issuer.url, transport=issuer.transport), AUDIENCE))
    assert await talk(unready, subprotocols=["bearer", issuer.make_token(aud=AUDIENCE)]) == [
        {"type": "websocket.close", "code": 1013, "reason": ""}
    ]


@pytest.mark.anyio
async def test_a_socket_lives_no_longer_than_its_token(
    app: FastAPI, verifier: TokenVerifier, clock: Any, forge: Any
) -> None:
    async with verifier.cache:
        token = forge.token()
        clock.advance(609.9)  # of 600 s and the leeway
        async with asyncio.timeout(5):
            opened, *greetings, closed = await talk(app, subprotocols=["bearer", token])
    assert (opened["type"], opened["subprotocol"]) == ("websocket.accept", "bearer")
    assert [json.loads(greeting["text"])["message"] for greeting in greetings] == ["Hello, alice"]
    assert closed == {"type": "websocket.close", "code": 1008, "reason": "token expired"}


@pytest.mark.anyio
async def test_a_socket_whose_caller_goes_away_ends_quietly(
    app: FastAPI, verifier: TokenVerifier, forge: Any
) -> None:
    async with verifier.cache:
        sent = await talk(
            app, {"type": "websocket.disconnect", "code": 1001}, subprotocols=["bearer", forge.token()]
        )
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.send"]


def test_a_socket_can_be_tested_by_overriding_the_dependency(app: FastAPI) -> None:
    app.dependency_overrides[app.state.current_user] = lambda: access_token(
        username="bob", expires_at=4_000_000_000
    )
    with TestClient(app).websocket_connect("/greetings") as socket:
        assert socket.receive_json() == {"message": "Hello, bob"}


def test_the_reference_names_each_socket(app: FastAPI) -> None:
    sockets = [route.path for route in app.routes if isinstance(route, APIWebSocketRoute)]
    assert sockets
    page = (Path(__file__).parents[2] / "docs" / "reference.md").read_text("utf-8")
    assert all(f"`{path}`" in page for path in sockets)


# Settings and start


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "ISSUER": "https://issuer.example",
        "JWKS_URL": "",
        "TTL_FLOOR": "2s",
        "COOLDOWN": "0.5",
        "MAX_STALE": "24h",
        "UNRELATED": "1",
    }.items():
        monkeypatch.setenv(f"VERIFIER_{name}", value)
    settings = Settings(_env_file=None)
    assert settings.issuer == "https://issuer.example"
    assert settings.jwks_url is None
    assert (settings.ttl_floor, settings.cooldown, settings.max_stale) == (2, 0.5, 86400)
    timings = build_verifier(settings).cache.timings
    assert (timings.ttl_floor, timings.cooldown, timings.cooldown_empty) == (2, 0.5, 0.5)


@pytest.mark.parametrize("value", ["soon", "-1", "5 m", "1w", "nan", "inf"])
def test_a_duration_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="ttl_floor"):
        Settings(_env_file=None, ttl_floor=value)  # type: ignore[arg-type]


def test_importing_builds_nothing_and_knows_nothing_of_the_issuer() -> None:
    code = (
        "import sys, verifier_example.app, verifier_example.testing;"
        "print([name for name in sys.modules if name.split('.')[0] == 'issuer'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_service_can_be_tested_by_overriding_the_dependency(app: FastAPI) -> None:
    app.dependency_overrides[app.state.current_user] = lambda: access_token(username="bob")
    client = TestClient(app)
    assert client.get("/protected_route").json() == {"message": "Hello, bob"}


def test_a_service_can_be_tested_with_an_issuer_in_the_same_process(issuer: InProcessIssuer) -> None:
    cache = JwksCache(issuer.url, transport=issuer.transport)
    app = create_app(verifier=TokenVerifier(cache, "https://api.test"))
    token = issuer.make_token(aud="https://api.test", scope="items:read")
    with TestClient(app) as client:
        assert client.get("/items", headers=bearer(token)).status_code == 200


# A real server


HOSTILE: dict[str, bytes] = {
    "header bytes beyond ASCII": b"GET /me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\x80\r\n",
    "a NUL in the path": b"GET /%00 HTTP/1.1\r\nHost: x\r\n",
    "a path that is not UTF-8": b"GET /%ff%fe HTTP/1.1\r\nHost: x\r\n",
    "a NUL in a static path": b"GET /static-offline-docs/%00 HTTP/1.1\r\nHost: x\r\n",
    "surrogates in a static path": b"GET /static-offline-docs/%ed%a0%80 HTTP/1.1\r\nHost: x\r\n",
    "a climb out of the static files": b"GET /static-offline-docs/..%2f..%2fcore.py HTTP/1.1\r\nHost: x\r\n",
    "a long static path": b"GET /static-offline-docs/" + b"a" * 5000 + b" HTTP/1.1\r\nHost: x\r\n",
    "a hostile host": b"GET /me/ HTTP/1.1\r\nHost: [\r\n",
    "a host beyond ASCII": b"GET /docs/ HTTP/1.1\r\nHost: \xff\r\n",
    "no host": b"GET /docs HTTP/1.0\r\n",
    "an unknown method": b"BREW /me HTTP/1.1\r\nHost: x\r\n",
    "CONNECT": b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n",
    "OPTIONS *": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n",
    "TRACE": b"TRACE /me HTTP/1.1\r\nHost: x\r\n",
    "an absolute target": b"GET http://evil.test/me HTTP/1.1\r\nHost: x\r\n",
    "a body that nobody asked for": b"GET /me HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n\xff\xff\xff",
    "a form that is none": b"POST /me HTTP/1.1\r\nHost: x\r\n"
    b"Content-Type: multipart/form-data\r\nContent-Length: 1\r\n\r\n-",
    "an upgrade": b"GET /me HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
    "a query beyond ASCII": b"GET /me?\xff=%ff HTTP/1.1\r\nHost: x\r\n",
    "a token of 60 KB": b"GET /me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + b"a." * 30000 + b"\r\n",
    "junk": b"\x16\x03\x01\x02\x00\x01\x00",
}


@pytest.mark.anyio
async def test_no_input_leads_to_a_500(verifier: TokenVerifier, serving: Callable[..., Any]) -> None:
    app = create_app(Settings(_env_file=None), verifier=verifier)
    async with serving(app) as (_, url):
        host, port = url.removeprefix("http://").split(":")
        for name, request in HOSTILE.items():
            reader, writer = await asyncio.open_connection(host, int(port))
            end = b"" if b"\r\n\r\n" in request else b"Connection: close\r\n\r\n"
            writer.write(request + end)
            line = await asyncio.wait_for(reader.readline(), 5)
            writer.close()
            await writer.wait_closed()
            assert re.match(rb"HTTP/1.1 [234]\d\d ", line), (name, line)


@pytest.mark.anyio
async def test_a_real_server_opens_a_socket_for_a_good_token_and_denies_it_for_a_bad_one(
    verifier: TokenVerifier, forge: Any, serving: Callable[..., Any]
) -> None:
    app = create_app(Settings(_env_file=None), verifier=verifier)
    async with serving(app, ws="auto") as (_, url):
        address = url.replace("http", "ws") + "/greetings"
        async with connect(address, subprotocols=["bearer", forge.token()], proxy=None) as socket:
            assert socket.subprotocol == "bearer"
            assert json.loads(await socket.recv()) == {"message": "Hello, alice"}
        for offer in ({"subprotocols": ["bearer", "junk"]}, {"additional_headers": bearer("junk")}):
            with pytest.raises(InvalidStatus) as denied:
                await connect(address, proxy=None, **offer)
            answer = denied.value.response
            assert answer.status_code == 401
            assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


@pytest.mark.anyio
async def test_the_server_stops_at_once_while_a_fetch_hangs(
    scripted: Callable[[], Any], serving: Callable[..., Any]
) -> None:
    async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with scripted().serving() as issuer:
        issuer.answer = hang
        cache = JwksCache(issuer.url, timings=Timings(fetch_deadline=2 * PATIENCE_SECONDS))
        app = create_app(Settings(_env_file=None), verifier=TokenVerifier(cache, issuer.url))
        async with serving(app) as (server, url), httpx2.AsyncClient() as client:
            ready = await client.get(f"{url}/readyz")
            assert ready.status_code == 503
            began = time.perf_counter()
            server.should_exit = True
        assert time.perf_counter() - began < PATIENCE_SECONDS


# Browsers, and what HTTP asks of every service


def test_the_page_runs_its_own_scripts_alone_and_no_answer_is_guessed_or_framed(client: TestClient) -> None:
    page = client.get("/docs")
    policy = page.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["X-Frame-Options"] == "DENY"
    for path in ("/docs", "/static-offline-docs/swagger-ui.css", "/healthz", "/me", "/nowhere"):
        assert client.get(path).headers.get_list("X-Content-Type-Options") == ["nosniff"]


def test_methods_and_unknown_paths_are_answered_in_the_issuers_words(client: TestClient) -> None:
    for path in ("/healthz", "/docs", "/.well-known/oauth-protected-resource"):
        assert (client.head(path).status_code, client.head(path).content) == (200, b"")
    wrong = client.post("/healthz")
    assert (wrong.status_code, wrong.json()["error"]) == (405, "method_not_allowed")
    assert wrong.json()["error_description"] == "this endpoint has no such method; see Allow"
    options = client.options("/healthz")
    assert (options.status_code, options.content) == (204, b"")
    assert wrong.headers["Allow"] == options.headers["Allow"] == "GET, HEAD, OPTIONS"
    unknown = client.get("/nowhere")
    assert (unknown.status_code, unknown.json()["error"]) == (404, "not_found")
    assert unknown.json()["error_description"] == "there is no such endpoint"
    assert client.get("/me").json()["error"] == "invalid_token"


def test_the_openapi_document_is_rendered_once(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    first = client.get("/openapi.json")
    assert first.json()["openapi"].startswith("3.")
    monkeypatch.setattr(json, "dumps", None)
    assert client.get("/openapi.json").content == first.content


@pytest.mark.parametrize(
    "option",
    [["--proxy", "x"], ["--proxy", "10.0.0.1/8"], ["--max-connections", "-1"], ["--max-head", "5"]],
)
def test_an_option_that_cannot_be_used_is_refused_before_anything_is_served(
    option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        serve(option)
    assert option[0] in capsys.readouterr().err
