"""Each line of a log in docs/troubleshooting.md is provoked, and logged as the page shows it."""

import asyncio
import logging
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import jwt
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from support.browser import page
from support.certificates import certificate
from support.defaults import PASSWORD, bearer
from support.documents import DOCS
from support.servers import Installation, free_port
from support.verifier import ScriptedIssuer, http_answer

from jwks_verifier import AccessToken, InvalidToken, JwksCache, KeysUnavailable, Timings, TokenVerifier
from jwks_verifier.fastapi import CurrentUser
from jwks_verifier.testing import InProcessIssuer, KeyPair, make_token

ISSUER, SERVICE = "http://127.0.0.1:8000", "http://127.0.0.1:8001"
OUTSIDE, INSIDE = "https://issuer.example", "http://issuer:8000"
AUDIENCE = "https://api.example"
NOW = 1_800_000_000

PAGE = (DOCS / "troubleshooting.md").read_text("utf-8")
BLOCKS = re.findall(r"^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines()]
REFUSALS = [line for line in LINES if line.startswith(("token refused: ", f"the keys of {INSIDE} "))]
FETCHES = re.findall(r"^\| `(.+?)` \|", PAGE.partition("\n## 503\n")[2].partition("\n## ")[0], re.MULTILINE)


def token(issuer: InProcessIssuer, **claims: Any) -> str:
    lifetime = {"iat": NOW, "exp": NOW + 600}
    return issuer.make_token(**{"aud": AUDIENCE, **lifetime, **claims})


def another_key(issuer: InProcessIssuer) -> str:
    return make_token(KeyPair(), iss=issuer.url, aud=AUDIENCE, iat=NOW, exp=NOW + 600)


def of_the_tutorial(_: InProcessIssuer) -> str:
    return jwt.encode({"sub": "johndoe", "exp": NOW + 600}, "a secret of thirty-two characters", "HS256")


PROVOKED: Mapping[str, tuple[Callable[[InProcessIssuer], str], str, str]] = {
    "aud": (lambda issuer: token(issuer, aud=[SERVICE, ISSUER]), ISSUER, ISSUER),
    "iss": (token, ISSUER, "http://localhost:8000"),
    "iss of another key": (another_key, ISSUER, "http://localhost:8000"),
    "iss in a container": (token, OUTSIDE, INSIDE),
    "expired": (lambda issuer: token(issuer, exp=NOW - 95), ISSUER, ISSUER),
    "expired now": (lambda issuer: token(issuer, exp=NOW - 11), ISSUER, ISSUER),
    "not yet": (lambda issuer: token(issuer, iat=NOW + 40), ISSUER, ISSUER),
    "key": (another_key, ISSUER, ISSUER),
    "alg": (of_the_tutorial, ISSUER, ISSUER),
    "typ": (lambda issuer: token(issuer, header={"typ": "JWT"}), ISSUER, ISSUER),
    "malformed": (lambda issuer: f'"{token(issuer)}"', ISSUER, ISSUER),
    "signature": (lambda issuer: token(issuer)[:-8] + "AAAAAAAA", ISSUER, ISSUER),
}
"""A token, the URL of the issuer, and the URL with which the service is configured."""


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """The messages of the library's logger."""
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("jwks_verifier").addHandler(handler)
    yield messages
    logging.getLogger("jwks_verifier").removeHandler(handler)


def shown(line: str, messages: list[str]) -> bool:
    """Return whether a message is as the page shows it; "…" on the page stands for any text."""
    pattern = ".*".join(map(re.escape, line.split("…")))
    return any(re.fullmatch(pattern, message) for message in messages)


async def refuse(case: str) -> None:
    make, url, configured = PROVOKED[case]
    issuer = InProcessIssuer(url)
    jwks = None if configured == INSIDE else f"{configured}/.well-known/jwks.json"  # as discovery would find
    cache = JwksCache(configured, jwks_url=jwks, allow_http=True, transport=issuer.transport)
    async with cache:
        with suppress(KeysUnavailable):
            await cache.refetched()
        with pytest.raises(InvalidToken):
            await TokenVerifier(cache, AUDIENCE, wall=lambda: NOW).verify(make(issuer))


def lack_a_scope() -> None:
    issuer = InProcessIssuer(ISSUER)
    verifier = TokenVerifier(JwksCache(ISSUER, transport=issuer.transport), AUDIENCE, wall=lambda: NOW)
    app = FastAPI()
    user = CurrentUser(verifier, token_url=f"{ISSUER}/login")

    @app.get("/")
    async def read(_: Annotated[AccessToken, user.with_scope("items:write", "Write")]) -> None: ...

    client = TestClient(app)
    assert client.get("/", headers=bearer(token(issuer, scope="items:read"))).status_code == 403


def test_each_refusal_is_logged_as_the_page_shows_it(logged: list[str]) -> None:
    for case in PROVOKED:
        asyncio.run(refuse(case))
    lack_a_scope()
    assert [line for line in REFUSALS if not shown(line, logged)] == [], logged


def test_a_request_without_a_token_leaves_no_line(logged: list[str]) -> None:
    app = FastAPI()
    user = CurrentUser(TokenVerifier(JwksCache(ISSUER), AUDIENCE), token_url=f"{ISSUER}/login")

    @app.get("/")
    async def read(_: Annotated[AccessToken, user.with_scope("items:write", "Write")]) -> None: ...

    answer = TestClient(app).get("/")
    assert "a bearer token is required" in answer.text
    assert logged == []


CONFIGURED = """
import logging.config
from jwks_verifier import InvalidToken, JwksCache, SyncTokenVerifier

logging.config.dictConfig({"version": 1, "disable_existing_loggers": True})
with SyncTokenVerifier(JwksCache("http://127.0.0.1:9"), audience="a") as verifier:
    try:
        verifier.verify("junk")
    except InvalidToken:
        print("refused")
"""


@pytest.mark.processes
@pytest.mark.parametrize(("disables", "lines"), [("True", 0), ("False", 1)])
def test_a_configuration_that_disables_existing_loggers_silences_the_refusals(
    disables: str, lines: int, tmp_path: Path
) -> None:
    program = CONFIGURED.replace("True", disables)
    command = [sys.executable, "-P", "-c", program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "refused\n"
    assert done.stderr.count("token refused: ") == lines


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[JwksCache]:
    async with ScriptedIssuer(answer=answer).serving() as server:
        yield JwksCache(server.url)


@asynccontextmanager
async def nothing_there() -> AsyncIterator[JwksCache]:
    yield JwksCache(f"http://127.0.0.1:{free_port()}")


@asynccontextmanager
async def dropping() -> AsyncIterator[JwksCache]:
    """An address that answers nothing to new connections: the queue of its socket is full."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        yield JwksCache(url, timings=Timings(connect_timeout=0.1))
        for each in waiting:
            each.close()


@asynccontextmanager
async def private_authority(folder: Path) -> AsyncIterator[JwksCache]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate(folder))
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        yield JwksCache(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")


@asynccontextmanager
async def of_another_name() -> AsyncIterator[JwksCache]:
    yield JwksCache(ISSUER, transport=InProcessIssuer("http://localhost:8000").transport)


def failures(folder: Path) -> Mapping[str, AbstractAsyncContextManager[JwksCache]]:
    """What the first column of the table has, and what provokes it."""
    return {
        "All connection attempts failed": nothing_there(),
        "ConnectTimeout": dropping(),
        "CERTIFICATE_VERIFY_FAILED": private_authority(folder),
        "status 404": answering(http_answer(b"", status="404 Not Found")),
        "status 301": answering(http_answer(b"", "Location: https://127.0.0.1/", status="301 Moved")),
        "the metadata of another issuer, 'http://localhost:8000'": of_another_name(),
        "Expecting value": answering(http_answer(b"<html>")),
    }


@pytest.mark.parametrize("part", FETCHES)
def test_a_failed_fetch_is_logged_with_its_reason(part: str, logged: list[str], tmp_path: Path) -> None:
    async def fetch() -> None:
        async with failures(tmp_path)[part] as cache, cache:
            with pytest.raises(KeysUnavailable):
                await cache.refetched()

    asyncio.run(fetch())
    outage = [message for message in logged if part in message]
    assert outage, logged
    (line,) = (line for line in LINES if line.startswith(f"the keys of {ISSUER} "))
    assert shown(line.replace(ISSUER, "…"), outage), outage


def test_a_url_that_may_not_be_fetched_is_an_error_at_the_start() -> None:
    (line,) = (line for line in LINES if line.startswith("ValueError: "))
    with pytest.raises(ValueError, match="issuer") as error:
        JwksCache(INSIDE)
    assert f"ValueError: {error.value}" == line


@pytest.mark.processes
def test_the_browser_says_that_cors_blocks_a_log_in(tmp_path: Path) -> None:
    (line,) = (line for line in LINES if "blocked by CORS" in line)
    with Installation(tmp_path) as site:
        issuer = site.serve().until_ready()
        site.serve_service().until_ready()
        site.command("users", "add", "alice", "--password-stdin", stdin=PASSWORD)
        origin = site.service_url.replace("127.0.0.1", "localhost")
        log_in = (
            f"fetch('{site.url}/login', {{method: 'POST', body: new URLSearchParams({{username: 'alice', "
        )
        with page() as opened:
            opened.open(f"{origin}/docs")
            opened.until("document.readyState == 'complete' && location.protocol == 'http:'")
            result = opened.run(f"{log_in}password: '{PASSWORD}'}})}}).then(() => 'read', () => 'refused')")
            complaints = [
                each.replace(site.url, ISSUER).replace(origin, "http://localhost:8001")
                for each in opened.complaints
            ]
        assert result == "refused"
        assert any(line in each for each in complaints), complaints
        assert re.search(r'"path": "/login", "status": 200', issuer.output)


def test_the_verifier_of_a_container_fetches_inside_and_accepts_the_outside_issuer() -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    issuer = InProcessIssuer(OUTSIDE)
    names: dict[str, Any] = {"transport": issuer.transport}
    exec(block.replace("    allow_http", "    transport=transport,\n    allow_http"), names)  # noqa: S102

    async def verify() -> AccessToken:
        async with names["cache"] as cache:
            return await TokenVerifier(cache, AUDIENCE).verify(issuer.make_token(aud=AUDIENCE))

    assert asyncio.run(verify()).issuer == OUTSIDE
