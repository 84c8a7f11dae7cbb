"""Many connections to the issuer and the example service: bounded, counted, and no hindrance to others."""

import re
import socket
import subprocess
import sys
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection

import httpx2
import pytest
from support.components import require
from support.raw_http import (
    FEW_DESCRIPTORS,
    LAST,
    SLOW,
    Service,
    User,
    descriptors,
    exchange,
    get,
    start,
    statuses,
    wait_for_more,
)
from support.servers import HOST, PATIENCE_SECONDS, Installation, eventually

MANY = 500
LIMITED = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({FEW_DESCRIPTORS},) * 2)"


def answers(port: int) -> bool:
    with suppress(OSError):
        return statuses(exchange(port, LAST)) == [b"200"]
    return False


def test_an_answer_to_a_client_that_does_not_read_costs_no_descriptor_beside_its_connection(
    service: Service,
) -> None:
    many, before = 30, descriptors(service.server)
    with ExitStack() as stack:
        for _ in range(many):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect((HOST, service.port))
            connection.sendall(SLOW[-1])
            assert connection.recv(15).startswith(b"HTTP/1.1 200")
        eventually(lambda: many <= descriptors(service.server) - before < many + 10, "no file is open")


def test_files_of_the_page_are_whole_and_asked_for_again_only_when_they_have_changed(
    service: Service,
) -> None:
    url = f"http://{HOST}:{service.port}/static-offline-docs/swagger-ui-bundle.js"
    first = httpx2.get(url, trust_env=False)
    assert len(first.content) == int(first.headers["content-length"]) > 1_000_000
    again = httpx2.get(url, trust_env=False, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    head = httpx2.head(url, trust_env=False)
    assert (head.headers["content-length"], head.content) == (first.headers["content-length"], b"")


@pytest.mark.parametrize("which", ["issuer", "example"])
@pytest.mark.parametrize("few", [False, True], ids=["enough descriptors", "few descriptors"])
def test_five_hundred_slow_clients_are_not_noticed_by_a_user_beside_them(
    initialized: Installation, which: str, few: bool
) -> None:
    if few:
        initialized.prelude = LIMITED
    server = start(initialized, which)
    with ExitStack() as stack, User(server) as user:
        slow = []
        for number in range(MANY):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(20)
            connection.connect((HOST, server.port))
            with suppress(ConnectionError):
                connection.sendall(SLOW[number % len(SLOW)])
            slow.append(connection)
        wait_for_more(user)
        if few:
            eventually(lambda: descriptors(server) < FEW_DESCRIPTORS, "there are free descriptors")
        else:
            assert descriptors(server) > MANY / 2
        for connection in slow:
            with suppress(OSError):
                connection.send(b"a")
        wait_for_more(user)
    assert set(user.seen) == {200}


@pytest.mark.parametrize("which", ["issuer", "example"])
def test_connections_of_one_address_are_bounded_and_those_of_a_proxy_are_not(
    initialized: Installation, which: str
) -> None:
    bound, many = 10, 60
    options = ["--max-connections-per-address", str(bound)]
    server = start(initialized, which, *options)
    with ExitStack() as stack:
        before = descriptors(server)
        for _ in range(many):
            stack.enter_context(socket.create_connection((HOST, server.port), timeout=PATIENCE_SECONDS))
        eventually(lambda: "too_many_of_address" in server.output, "there are too many")
        eventually(lambda: descriptors(server) <= before + bound, "the oldest are closed")
        assert answers(server.port)
    server.stop()
    if which == "issuer":
        initialized.settings["ISSUER_TRUSTED_PROXIES"] = f"{HOST}/32"
    else:
        options += ["--proxy", HOST]
    server = start(initialized, which, *options)
    with ExitStack() as stack:
        before = descriptors(server)
        for _ in range(many):
            stack.enter_context(socket.create_connection((HOST, server.port), timeout=PATIENCE_SECONDS))
        eventually(lambda: descriptors(server) > before + many - bound, "all are taken")


def test_refusals_are_counted_and_logged_once_a_minute(initialized: Installation) -> None:
    server = initialized.serve().until_ready()
    for _ in range(20):
        exchange(server.port, get(b""))
    exchange(server.port, get(target=b"/" + b"a" * 9000))
    samples = initialized.http.get(f"{initialized.url}/metrics").text
    assert 'issuer_connections_refused_total{reason="malformed"} 20.0' in samples
    assert 'issuer_connections_refused_total{reason="target_too_long"} 1.0' in samples
    assert 'issuer_connections_refused_total{reason="head_timeout"} 0.0' in samples
    assert server.output.count("reason malformed") == 1


def test_the_example_counts_refusals(both: dict[str, Service]) -> None:
    port = both["example"].port
    exchange(port, get(b""))
    with closing(HTTPConnection(HOST, port, timeout=PATIENCE_SECONDS)) as connection:
        connection.request("GET", "/metrics")
        samples = connection.getresponse().read().decode()
    found = re.search(r'verifier_connections_refused_total\{reason="malformed"\} (\S+)', samples)
    assert found is not None
    assert float(found[1]) >= 1


def test_a_server_out_of_descriptors_recovers(initialized: Installation) -> None:
    require("prlimit")
    server = initialized.serve().until_ready()
    wanted = descriptors(server) + 5  # fewer than the server has reckoned with
    subprocess.run(["prlimit", "--pid", str(server.process.pid), f"--nofile={wanted}:{wanted}"], check=True)
    with ExitStack() as stack:
        for _ in range(50):
            with suppress(OSError):
                stack.enter_context(socket.create_connection((HOST, server.port), timeout=PATIENCE_SECONDS))
    eventually(lambda: answers(server.port), "it answers again")
    assert server.process.poll() is None


if sys.platform != "linux":
    pytest.skip("reads /proc", allow_module_level=True)
