"""`issuer serve` with several processes: one key ring, one rotation, and a common end."""

import os
import random
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Event

import httpx2
import psycopg
from support.postgresql import Cluster
from support.servers import (
    HOST,
    Installation,
    Server,
    access_token,
    eventually,
    free_port,
    is_free,
    is_running,
    kid_of,
)
from support.shared_database import lock_held, use_postgresql

from issuer.database.database import _MIGRATION_LOCK

WORKERS = 4
NODES = 4
TOKENS = 200
NODE_TIMEOUT_SECONDS = 10
"""A node that has not seen a rotation for longer signs no more."""
LAST = 40
"""So many tokens in a row come from each worker, as good as surely."""


def require_one_ring(installation: Installation) -> None:
    """Fail unless the first ring was saved once, and nothing is left of any other."""
    ring = installation.saved_ring()
    assert ring
    assert ring["version"] == 1
    assert len(ring["keys"]) == 2
    assert installation.key_files() == {f"{key['kid']}.pem" for key in ring["keys"]}


# Starting


def test_four_workers_on_an_empty_folder_make_one_ring_and_agree_about_it(installation: Installation) -> None:
    server = installation.serve(workers=WORKERS).until_ready()
    require_one_ring(installation)
    tokens, key_sets = [], []
    assert len(server.worker_pids) == WORKERS
    for pid in server.worker_pids:
        with server.only(pid):
            tokens += [installation.token() for _ in range(5)]
            key_sets.append(installation.key_set())
    with ThreadPoolExecutor(8) as clients:
        tokens += clients.map(lambda _: installation.token(), range(TOKENS - len(tokens)))
        key_sets += clients.map(lambda _: installation.key_set(), range(20))
    assert len({key_set.headers["etag"] for key_set in key_sets}) == 1
    assert len({key_set.content for key_set in key_sets}) == 1
    assert len({kid_of(token) for token in tokens}) == 1
    for token in tokens:
        installation.require_verifies(token, random.choice(key_sets))  # noqa: S311 - they are all equal
    require_one_ring(installation)


def test_servers_started_at_once_on_an_empty_folder_make_one_ring(installation: Installation) -> None:
    servers = [installation.serve(port=port) for port in (installation.port, free_port(), free_port())]
    key_sets = {
        installation.http.get(f"{server.until_ready().url}/.well-known/jwks.json").content
        for server in servers
    }
    assert len(key_sets) == 1
    require_one_ring(installation)


def test_servers_started_at_once_on_an_empty_postgresql_make_one_ring_and_leave_no_other_key(
    installation: Installation, postgresql: str
) -> None:
    database = use_postgresql(installation, postgresql)
    ports = {installation.port}
    while len(ports) < NODES:
        ports.add(free_port())
    with lock_held(database, f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})") as until_waiting:
        servers = [installation.serve(port=port) for port in ports]
        until_waiting(NODES)
    key_sets = {
        installation.http.get(f"{server.until_ready().url}/.well-known/jwks.json").content
        for server in servers
    }
    assert len(key_sets) == 1
    ring = installation.command("keys", "list", "--json").document
    assert (ring["version"], [key["phase"] for key in ring["keys"]]) == (1, ["current", "standby"])
    with psycopg.connect(database) as connection:
        private_keys = connection.execute("SELECT kid, kept FROM private_keys").fetchall()
    assert sorted(private_keys) == sorted((key["kid"], True) for key in ring["keys"])


# Rotating


class Load:
    """People and machines that get tokens and use them, over and over; a token refused ends it at once."""

    def __init__(self, installation: Installation, username: str, password: str) -> None:
        self.tokens: list[tuple[float, str]] = []
        self._installation = installation
        self._credentials = username, password
        self._over = Event()
        self._loops: list[Future[None]] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Keep it up during the block; raise what went wrong in it."""
        with ThreadPoolExecutor(4) as clients:
            self._loops = [clients.submit(self._machine) for _ in range(3)] + [clients.submit(self._person)]
            try:
                yield
            finally:
                self._over.set()
        for loop in self._loops:
            loop.result()

    def has_left(self, kid: str) -> bool:
        """Return whether none of the last tokens was signed by `kid`."""
        assert not any(loop.done() for loop in self._loops), [
            loop.exception() for loop in self._loops if loop.done()
        ]
        last = self.tokens[-LAST:]
        return len(last) == LAST and all(kid_of(token) != kid for _, token in last)

    def last_asked(self, kid: str) -> float:
        """Return when the last token was asked for that `kid` signed."""
        return max(asked_at for asked_at, token in self.tokens if kid_of(token) == kid)

    def _machine(self) -> None:
        while not self._over.is_set():
            asked_at = time.monotonic()
            self._use(asked_at, self._installation.token())

    def _person(self) -> None:
        while not self._over.is_set():
            asked_at = time.monotonic()
            self._use(asked_at, access_token(self._installation.log_in(*self._credentials)))

    def _use(self, asked_at: float, token: str) -> None:
        self.tokens.append((asked_at, token))
        _, earlier = random.choice(self.tokens)  # noqa: S311 - any will do
        for each in (token, earlier):
            self._installation.require_verifies(each, self._installation.key_set())
            answer = self._installation.call_service(each)
            assert answer.status_code == httpx2.codes.OK, answer.text


def rotate(installation: Installation) -> float | None:
    """Rotate and return when it was done; None while the guard refuses."""
    rotated = installation.command("keys", "rotate")
    assert rotated.code in {0, 3}, rotated
    return time.monotonic() if rotated.code == 0 else None


def until_almost_allowed(installation: Installation) -> None:
    """Rotate until the guard refuses, and wait until it soon will not."""

    def refused() -> str | None:
        done = installation.command("keys", "rotate", "--json")
        return done.document["allowed_from"] if done.code == 3 else None

    soon = datetime.fromisoformat(eventually(refused, "the guard refuses")) - timedelta(seconds=1)
    eventually(lambda: datetime.now(UTC) > soon, "a second is left")


def test_no_valid_token_is_refused_while_an_operator_rotates_under_load(installation: Installation) -> None:
    installation.settings |= {
        "ISSUER_NODE_TIMEOUT": f"{NODE_TIMEOUT_SECONDS}s",
        "ISSUER_OUTAGE_LIMIT": f"{NODE_TIMEOUT_SECONDS}s",
        "ISSUER_PUBLISH_LEAD": f"{NODE_TIMEOUT_SECONDS + 2}s",
    }
    server = installation.serve(workers=WORKERS)
    eventually(lambda: installation.url in server.output, "the ring is made")
    # Keys of the first save may sign at once; the standby made now waits for its lead, as in later life.
    assert rotate(installation)
    service = installation.serve_service()
    password = "violet otters juggle pancakes"
    added = installation.command("users", "add", "alice", "--password-stdin", stdin=password)
    assert added.code == 0, added
    service.until_ready()
    server.until_ready()
    until_almost_allowed(installation)
    old_kid = kid_of(installation.token())
    load = Load(installation, "alice", password)
    with load.running():
        rotated_at = eventually(lambda: rotate(installation), "the guard allows to rotate")
        eventually(lambda: load.has_left(old_kid), "the new key signs")
    assert "key ring refresh failed" not in server.output
    assert load.last_asked(old_kid) < rotated_at + NODE_TIMEOUT_SECONDS
    for pid in server.worker_pids:
        with server.only(pid):
            assert kid_of(installation.token()) != old_kid


# Ending


def partial_request(server: Server) -> socket.socket:
    """Return a connection on which a request has begun that will never end."""
    connection = socket.create_connection((HOST, int(server.url.rpartition(":")[2])))
    connection.sendall(b"POST /login HTTP/1.1\r\nHost: issuer\r\nContent-Length: 100\r\n\r\nusername=")
    return connection


def test_workers_end_with_a_killed_main_process_and_free_the_port(installation: Installation) -> None:
    server = installation.serve(workers=2).until_ready()
    with partial_request(server), partial_request(server):
        server.kill()
        eventually(lambda: is_free(installation.port) and server.has_ended(), "everything has ended")


def test_a_main_process_killed_while_workers_start_leaves_none_behind(installation: Installation) -> None:
    server = installation.serve(workers=2, is_fresh=True)
    eventually(lambda: "Started parent process" in server.output, "workers start")
    time.sleep(random.uniform(0, 1))  # noqa: S311 - where it is killed shall differ from run to run
    server.kill()
    eventually(server.has_ended, "the workers have ended")
    assert is_free(installation.port)


def test_of_two_servers_on_one_port_exactly_one_stays(installation: Installation) -> None:
    servers = [installation.serve(workers=2) for _ in range(2)]
    ended = eventually(
        lambda: [server for server in servers if server.process.poll() is not None], "one gave up"
    )
    assert [server.process.returncode for server in ended] == [1]
    assert f"cannot listen on {HOST}:{installation.port}" in ended[0].output
    (stayed,) = (server for server in servers if server is not ended[0])
    stayed.until_ready()


def test_nodes_on_postgresql_share_one_ring_and_keep_nothing_on_disk(
    installation: Installation, postgresql: str
) -> None:
    use_postgresql(installation, postgresql)
    servers = [installation.serve(port=port) for port in (installation.port, installation.service_port)]
    first, second = (server.until_ready() for server in servers)
    key_sets = [installation.http.get(f"{node.url}/.well-known/jwks.json") for node in (first, second)]
    assert key_sets[0].content == key_sets[1].content
    installation.require_verifies(installation.token(), key_sets[1])
    assert installation.command("keys", "rotate").code == 0
    new = [key["kid"] for key in installation.command("keys", "list", "--json").document["keys"]]

    def kids_served(node: Server) -> list[str]:
        return [
            key["kid"] for key in installation.http.get(f"{node.url}/.well-known/jwks.json").json()["keys"]
        ]

    eventually(lambda: kids_served(first) == kids_served(second) == new, "both nodes follow")
    assert not installation.keys.exists()
    assert not list(installation.folder.glob("*.db"))


def test_workers_that_die_while_the_database_is_away_are_replaced_when_it_is_back(
    installation: Installation,
) -> None:
    with Cluster() as cluster:
        cluster.make()
        cluster.start()
        use_postgresql(installation, cluster.url)
        server = installation.serve(workers=2).until_ready()
        cluster.stop()
        for pid in server.worker_pids:
            os.kill(pid, signal.SIGKILL)
        eventually(
            lambda: "worker startup failed, retrying" in server.output,
            "one has tried",
        )
        cluster.start()
        eventually(lambda: len(living(server)) == 2, "both are replaced")
        eventually(lambda: installation.http.get(f"{server.url}/readyz").is_success, "it is ready")
    assert "Traceback" not in server.output


def living(server: Server) -> list[int]:
    """Return the workers that serve."""
    return [pid for pid in server.worker_pids if is_running(pid)]
