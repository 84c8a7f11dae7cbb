"""The service as a whole: probes, unknown paths and methods, hostile requests, imports, and a quick stop.

Protected routes are tested in `test_dependencies`, WebSockets in `test_sockets`.
"""

import asyncio
import re
import subprocess
import sys
import time

import httpx2
import pytest
from fastapi.testclient import TestClient
from support.servers import PATIENCE_SECONDS
from support.verifier import Clock, ScriptedIssuer, serve

from jwks_verifier import JwksCache, State, Timings, TokenVerifier
from jwks_verifier.testing import InProcessIssuer
from verifier_example.app import create_app
from verifier_example.settings import Settings


def test_readiness_follows_the_keys(
    client: TestClient, issuer: InProcessIssuer, clock: Clock, cache: JwksCache
) -> None:
    issuer.down = True
    seen = []
    for seconds in (0, 301, 3600):
        clock.advance(seconds)
        answer = client.get("/readyz")
        seen.append((cache.state, answer.status_code))
        if cache.state is State.STALE:
            assert answer.json()["status"].startswith("degraded")
    assert seen == [(State.FRESH, 200), (State.STALE, 200), (State.EXPIRED, 503)]
    assert "too long" in answer.json()["error_description"]
    assert client.get("/healthz").json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/me/", 404, "not_found"),
        ("POST", "/me", 405, "method_not_allowed"),
    ],
)
def test_errors_of_the_framework_have_the_same_body(
    method: str, path: str, status: int, error: str, client: TestClient
) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert set(answer.json()) == {"error", "error_description"}


@pytest.mark.processes
def test_importing_the_example_imports_nothing_of_the_issuer() -> None:
    code = (
        "import sys, verifier_example.app, jwks_verifier.testing;"
        "print([name for name in sys.modules if name.split('.')[0] == 'issuer'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


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
async def test_no_input_leads_to_a_500(verifier: TokenVerifier) -> None:
    app = create_app(Settings(_env_file=None), verifier=verifier)
    async with serve(app) as (_, url):
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
async def test_the_server_stops_at_once_while_a_fetch_hangs() -> None:
    async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with ScriptedIssuer().serving() as issuer:
        issuer.answer = hang
        cache = JwksCache(issuer.url, timings=Timings(fetch_deadline=2 * PATIENCE_SECONDS))
        app = create_app(Settings(_env_file=None), verifier=TokenVerifier(cache, issuer.url))
        async with serve(app) as (server, url), httpx2.AsyncClient() as client:
            ready = await client.get(f"{url}/readyz")
            assert ready.status_code == 503
            began = time.perf_counter()
            server.should_exit = True
        assert time.perf_counter() - began < PATIENCE_SECONDS


def test_unknown_paths_and_methods_get_the_same_messages_as_at_the_issuer(client: TestClient) -> None:
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
