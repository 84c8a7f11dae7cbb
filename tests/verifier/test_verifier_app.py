"""Owns what the example service answers over HTTP: greetings, challenges, probes, documents, and no 500.

Which tokens are good is in `test_verifier_tokens`.
"""

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from verifier_example.app import Settings, build_verifier, create_app
from verifier_example.testing import InProcessIssuer, access_token
from verifier_example.verifier import JwksCache, State, TokenVerifier

PROTECTED = ["/protected_route", "/me", "/items"]


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
    assert 'scope="items:read"' in challenge


@pytest.mark.parametrize("path", PROTECTED)
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic YTpi"}, {"Authorization": ""}])
def test_without_a_token_the_challenge_is_bare(
    path: str, headers: dict[str, str], client: TestClient
) -> None:
    answer = client.get(path, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
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
            'Bearer error="invalid_token", error_description="invalid token"',
        )
    }


def test_an_expired_token_is_told_so(client: TestClient, forge: Any) -> None:
    answer = client.get("/me", headers=bearer(forge.token(exp=1)))
    assert answer.status_code == 401
    assert (
        answer.headers["WWW-Authenticate"]
        == 'Bearer error="invalid_token", error_description="token expired"'
    )


def test_two_authorization_headers_are_refused(client: TestClient, forge: Any) -> None:
    good = ("Authorization", f"Bearer {forge.token()}")
    assert client.get("/me", headers=[good, good]).status_code == 401


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
    assert set(paths) == {*PROTECTED, "/healthz", "/readyz"}
    assert paths["/items"]["get"]["security"] == [{name: ["items:read"]}]
    assert paths["/me"]["get"]["security"] == [{name: []}]
    assert "security" not in paths["/healthz"]["get"]
    for path in PROTECTED:
        answers = paths[path]["get"]["responses"]
        assert set(answers) == {"200", "401", "403", "503"}
        for status in ("401", "403", "503"):
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
async def test_the_server_stops_within_a_second_while_a_fetch_hangs(
    scripted: Callable[[], Any], serving: Callable[..., Any]
) -> None:
    async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with scripted().serving() as issuer:
        issuer.answer = hang
        app = create_app(Settings(_env_file=None, issuer=issuer.url))
        async with serving(app) as (server, url), httpx2.AsyncClient() as client:
            ready = await client.get(f"{url}/readyz")
            assert ready.status_code == 503
            began = time.perf_counter()
            server.should_exit = True
        assert time.perf_counter() - began < 1
