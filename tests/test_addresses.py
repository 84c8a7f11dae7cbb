"""Addresses by any spelling: one canonical form decides about trust, limits and logs."""

import socket

import pytest
import typer
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from support.defaults import ALICE, Build
from support.servers import free_port

from issuer.addresses import canonical_address, parse_network
from issuer.cli.ports import listening
from issuer.settings.settings import Settings
from issuer.throttling.limits import ADDRESS
from issuer.web.app import create_app
from issuer.web.http.proxies import TrustedProxies

PROXY = "10.1.2.3"
CLIENT = "198.51.100.7"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Keys that are quick to make: what they sign is of no matter here."""
    return settings.model_copy(update={"algorithm": "ES256"})


@pytest.mark.parametrize(
    ("spelled", "canonical"),
    [
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:c000:201", "192.0.2.1"),
        ("0:0:0:0:0:ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("2001:0db8::0001", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::1", "::1"),
        ("testclient", "testclient"),
        ("", ""),
        ("010.0.0.1", "010.0.0.1"),
    ],
)
def test_an_address_has_one_spelling(spelled: str, canonical: str) -> None:
    assert canonical_address(spelled) == canonical


@pytest.mark.parametrize(
    ("spelled", "network"),
    [
        ("10.0.0.1", "10.0.0.1/32"),
        ("::ffff:10.0.0.1", "10.0.0.1/32"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("FE80::1%eth0", "fe80::1/128"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("::/0", "::/0"),
    ],
)
def test_a_trusted_network_has_one_spelling(spelled: str, network: str) -> None:
    assert str(parse_network(spelled)) == network
    assert Settings(trusted_proxies=spelled).trusted_proxies == (network,)  # type: ignore[arg-type]


@pytest.mark.parametrize("junk", ["10.0.0.1/8", "proxy.example", "10.0.0.0/33", "*", "10.0.0.1:80"])
def test_a_value_that_is_no_network_is_refused_as_a_trusted_proxy(junk: str) -> None:
    with pytest.raises(ValidationError, match="address"):
        Settings(trusted_proxies=junk)  # type: ignore[arg-type]


@pytest.mark.parametrize("peer", [PROXY, f"::ffff:{PROXY}", "::ffff:a01:203"])
@pytest.mark.parametrize("trusted", ["10.0.0.0/8", "::ffff:10.0.0.0/104", "10.1.2.3"])
def test_a_proxy_is_trusted_by_any_spelling(made: Build, settings: Settings, peer: str, trusted: str) -> None:
    networks = Settings(trusted_proxies=trusted).trusted_proxies  # type: ignore[arg-type]
    app = create_app(made(settings.model_copy(update={"trusted_proxies": networks})))
    with TestClient(app, client=(peer, 1)) as proxy:
        for number in range(ADDRESS.free + 1):
            guess(proxy, f"person{number}", "192.0.2.1")
        assert guess(proxy, "somebody", "192.0.2.1") == 429
        assert guess(proxy, "somebody", "192.0.2.2") == 401


def guess(proxy: TestClient, name: str, forwarded: str) -> int:
    form = {**ALICE, "username": name, "password": "a wrong password"}
    return proxy.post("/login", data=form, headers={"X-Forwarded-For": forwarded}).status_code


def test_two_spellings_of_one_address_share_its_limit(made: Build, settings: Settings) -> None:
    app = create_app(made(settings.model_copy(update={"trusted_proxies": ("10.0.0.0/8",)})))
    spellings = [
        "192.0.2.1",
        "::ffff:192.0.2.1",
        "::FFFF:C000:0201",
        "192.0.2.1:4711",
        "[::ffff:192.0.2.1]:80",
    ]
    with TestClient(app, client=(PROXY, 1)) as proxy:
        for number in range(ADDRESS.free + 1):
            guess(proxy, f"person{number}", spellings[number % len(spellings)])
        assert [guess(proxy, "somebody", each) for each in spellings] == [429] * len(spellings)


FORWARDED: list[tuple[list[str], str]] = [
    ([CLIENT], CLIENT),
    (["192.0.2.200", CLIENT], CLIENT),  # the first is what the client claims
    ([CLIENT, "10.9.9.9"], CLIENT),
    ([CLIENT, "::ffff:10.9.9.9"], CLIENT),
    ([f"::ffff:{CLIENT}"], CLIENT),
    ([f"{CLIENT}:50000"], CLIENT),
    (["2001:DB8:0::1"], "2001:db8::1"),
    (["[2001:db8::1]"], "2001:db8::1"),
    (["[2001:db8::1]:443"], "2001:db8::1"),
    (["fe80::1%eth0"], "fe80::1"),
    ([f'"{CLIENT}"'], CLIENT),
    (["unknown"], PROXY),
    ([CLIENT, "unknown"], PROXY),
    ([CLIENT, "unknown", "10.9.9.9"], "10.9.9.9"),
    (["_hidden"], PROXY),
    (["x" * 5000], PROXY),
    (["[2001:db8::1"], "2001:db8::1"),
    (["[2001:db8::1]junk"], PROXY),
    ([f"{CLIENT}:port"], PROXY),
    ([f"::ffff:{CLIENT}:80"], CLIENT),
    (["2001:db8::1:80"], "2001:db8::1:80"),  # without brackets it can only be an address
    ([""], PROXY),
    (["192.0.2.1, 192.0.2.2"], PROXY),
    (["1.2.3"], PROXY),
    ([], PROXY),
    (["10.1.1.1", "10.2.2.2"], "10.1.1.1"),
]


@pytest.mark.parametrize(("forwarded", "client"), FORWARDED)
def test_the_client_is_the_last_address_that_no_trusted_proxy_has(forwarded: list[str], client: str) -> None:
    assert TrustedProxies(["10.0.0.0/8"]).origin(PROXY, forwarded) == client


@given(st.lists(st.text(max_size=80), max_size=5))
def test_no_forwarded_header_is_a_defect(forwarded: list[str]) -> None:
    assert len(TrustedProxies(["10.0.0.0/8"]).origin(PROXY, forwarded)) <= 45


@pytest.mark.parametrize(
    ("host", "reach"), [("::", ["127.0.0.1", "::1"]), ("[::1]", ["::1"]), ("127.0.0.1", ["127.0.0.1"])]
)
def test_every_address_of_the_host_is_listened_on(host: str, reach: list[str]) -> None:
    port = free_port()
    with listening(host, port):
        for address in reach:
            socket.create_connection((address, port), 5).close()


@pytest.mark.parametrize("host", ["", "  ", "[]"])
def test_an_empty_host_is_not_every_address(host: str) -> None:
    with pytest.raises(typer.BadParameter, match="empty"), listening(host, 0):
        pass
