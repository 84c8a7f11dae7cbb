"""Verifiers that listen to the issuer: directly, through nginx, and through networks that cut or hold everything.

Keys may be cached for an hour here, so what is learned earlier was learned by listening.
"""

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from soak.network import DatabaseLink
from support.components import require
from support.servers import HOST, PATIENCE_SECONDS, Installation, eventually, free_port, is_free, kid_of

from jwks_verifier import Event, InvalidToken, JwksCache, KeysUnavailable, State, Timings, TokenVerifier

pytestmark = pytest.mark.anyio
AN_HOUR = {
    "ISSUER_JWKS_MAX_AGE": "1h",
    "ISSUER_PUBLISH_LEAD": "2h",
    "VERIFIER_TTL_FLOOR": "1m",
    "VERIFIER_COOLDOWN": "1h",
}
RELAYING = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log; events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    proxy_cache_path {folder}/cache keys_zone=keys:1m;
    server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {issuer}; {options} }} }}
}}
"""


@contextmanager
def nginx(issuer: str, options: str) -> Iterator[str]:
    """Yield the URL of an nginx in front of the issuer."""
    require("nginx")
    port = free_port()
    # Not in pytest's folder, which the unprivileged workers cannot read.
    folder = Path(tempfile.mkdtemp(prefix="nginx-"))
    folder.chmod(0o755)
    config = folder / "nginx.conf"
    config.write_text(RELAYING.format(folder=folder, port=port, issuer=issuer, options=options))
    process = subprocess.Popen(["nginx", "-e", str(folder / "error.log"), "-c", str(config)])
    try:
        eventually(lambda: not is_free(port), "nginx listens")
        yield f"http://{HOST}:{port}"
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)


@pytest.fixture
def serving(initialized: Installation) -> Installation:
    initialized.settings |= AN_HOUR
    initialized.serve(workers=2).until_ready()
    return initialized


class Watched:
    """A listening verifier in this process, with its events."""

    def __init__(self, serving: Installation, url: str) -> None:
        self._serving = serving
        self.events: list[Event] = []
        self.cache = JwksCache(
            serving.url,
            jwks_url=f"{url}/.well-known/jwks.json",
            listen=True,
            timings=Timings(backoff_first=0.1, backoff_last=1),
            on_event=lambda event, _detail: self.events.append(event),
        )
        self._verifier = TokenVerifier(self.cache, serving.service_url)

    async def accepts(self, token: str) -> bool:
        try:
            await self._verifier.verify(token)
        except (InvalidToken, KeysUnavailable):
            return False
        return True

    async def until(self, happened: Callable[[], object], what: str) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not happened():  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.01)

    async def until_listening(self, count: int = 1) -> None:
        await self.until(lambda: listeners(self._serving) == count, "it listens")

    async def until_removed(self, kid: str) -> None:
        def is_removed() -> bool:
            return self.cache.usable is not None and kid not in self.cache.usable.by_kid

        await self.until(is_removed, "the key is removed")


def listeners(serving: Installation) -> int:
    text = serving.http.get(f"{serving.url}/metrics").text
    lines = (line.split() for line in text.splitlines() if line.startswith("issuer_jwks_listeners"))
    return sum(int(float(line[1])) for line in lines)


@asynccontextmanager
async def watching(serving: Installation, url: str) -> AsyncIterator[Watched]:
    watched = Watched(serving, url)
    async with watched.cache:
        await watched.cache.refetched()
        yield watched


def revoke(serving: Installation, token: str) -> None:
    done = serving.command("keys", "revoke", kid_of(token), "--reason", "leaked", "--yes")
    assert done.code == 0, done


def test_the_example_service_listens_and_refuses_a_revoked_key_long_before_its_keys_are_old(
    serving: Installation,
) -> None:
    serving.serve_service().until_ready()
    token = serving.token()
    assert serving.call_service(token).status_code == 200
    eventually(lambda: listeners(serving) == 1, "it listens")
    revoke(serving, token)
    eventually(lambda: serving.call_service(token).status_code == 401, "the key is refused")
    assert serving.call_service(serving.token()).status_code == 200
    eventually(lambda: listeners(serving) == 1, "it listens again")


def test_a_service_that_is_told_not_to_listen_asks_for_keys_as_ever(serving: Installation) -> None:
    serving.settings["VERIFIER_LISTEN"] = "false"
    serving.serve_service().until_ready()
    token = serving.token()
    assert serving.call_service(token).status_code == 200
    revoke(serving, token)
    assert listeners(serving) == 0
    assert serving.call_service(token).status_code == 200


async def test_through_nginx_with_its_defaults_a_revocation_is_heard(
    serving: Installation,
) -> None:
    token = serving.token()
    with nginx(serving.url, "") as url:
        async with watching(serving, url) as watched:
            assert await watched.accepts(token)
            await watched.until_listening()
            await asyncio.to_thread(revoke, serving, token)
            await watched.until_removed(kid_of(token))
            assert not await watched.accepts(token)
            assert await watched.accepts(serving.token())


@pytest.mark.parametrize(
    "options",
    [
        "proxy_read_timeout 1s;",
        "proxy_cache keys; proxy_cache_valid any 1h;",
        'proxy_cache keys; proxy_cache_revalidate on; proxy_cache_lock on; proxy_set_header Prefer "";',
    ],
    ids=["cuts", "caches", "caches, and drops Prefer"],
)
async def test_behind_an_nginx_that_lets_nobody_wait_tokens_are_verified_as_ever(
    options: str, serving: Installation
) -> None:
    with nginx(serving.url, options) as url:
        async with watching(serving, url) as watched:
            for _ in range(20):
                assert await watched.accepts(serving.token())
                await asyncio.sleep(0.1)
            asked = sum(
                event in {Event.LISTEN_FAILED, Event.FETCHED, Event.NOT_MODIFIED} for event in watched.events
            )
            assert watched.cache.state is State.FRESH
            assert Event.FETCH_FAILED not in watched.events
    assert asked < 20


async def test_a_connection_that_is_cut_is_opened_again_and_one_that_is_silent_is_given_up(
    serving: Installation,
) -> None:
    link = DatabaseLink(serving.port)  # a network like any other
    (port,) = await link.start()
    token = serving.token()
    try:
        async with watching(serving, f"http://{HOST}:{port}") as watched:
            await watched.until_listening()
            link.close()
            await watched.until(lambda: Event.LISTEN_FAILED in watched.events, "it is cut")
            assert await watched.accepts(token)
            link.restore()
            await watched.until_listening()
            link.silence()
            await asyncio.to_thread(revoke, serving, token)
            await watched.until(lambda: listeners(serving) == 0, "the issuer has answered")
            assert await watched.accepts(token)  # nobody can have told it
            link.restore()
            await watched.until_removed(kid_of(token))
            await watched.until_listening()
    finally:
        await link.end()


async def test_a_restart_of_the_issuer_is_survived(serving: Installation) -> None:
    server = serving.serve(port=(port := free_port())).until_ready()
    async with watching(serving, server.url) as watched:
        await watched.until(
            lambda: "issuer_jwks_listeners 1.0" in serving.http.get(f"{server.url}/metrics").text,
            "it listens",
        )
        token = serving.token()
        await asyncio.to_thread(server.stop)
        assert await watched.accepts(token)
        again = serving.serve(port=port).until_ready()
        await watched.until(
            lambda: "issuer_jwks_listeners 1.0" in serving.http.get(f"{again.url}/metrics").text,
            "it listens again",
        )
    assert Event.FETCH_FAILED not in watched.events
