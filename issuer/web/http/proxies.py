"""The client of a request: the peer, or what trusted proxies report in X-Forwarded-For and X-Forwarded-Proto.

The canonical form of addresses is defined in `addresses`; the trusted proxies are a setting.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from starlette.types import ASGIApp, Receive, Scope, Send

from issuer.addresses import Address, canonical_address, parse_address, parse_network

FOR, PROTO = b"x-forwarded-for", b"x-forwarded-proto"
ADDRESS_MOST_CHARACTERS = 64
"""Longer than any address with a port; longer values are neither parsed nor cached."""


class TrustedProxies:
    """The peers whose forwarding headers are trusted."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = [parse_network(network) for network in networks]
        self.trusts = lru_cache(maxsize=4096)(self._trusts)

    def _trusts(self, host: str) -> bool:
        try:
            return self._include(parse_address(host))
        except ValueError:
            return False

    def _include(self, address: Address) -> bool:
        return any(address in network for network in self._networks)

    def origin(self, peer: str, forwarded: Sequence[str]) -> str:
        """Return the address of the client: the last one in the chain that is not a trusted proxy.

        Each proxy appends the address of its peer, so everything before an untrusted address may be forged. A value
        that is no address (`unknown` and `_hidden` of RFC 7239, or malformed) ends the chain as well; the client is
        then the proxy that wrote it.
        """
        known = peer
        for value in reversed(forwarded):
            address = _forwarded_address(value)
            if address is None:
                return known
            known = str(address)
            if not self._include(address):
                return known
        return known


class ClientAddress:
    """ASGI middleware: makes `scope["client"]` the canonical address of the client."""

    def __init__(self, app: ASGIApp, proxies: TrustedProxies) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Set the address, and behind a trusted proxy the scheme."""
        if scope["type"] == "http" and scope.get("client"):
            host, port = scope["client"]
            peer = _canonical(host)
            if self._proxies.trusts(peer):
                client = self._proxies.origin(peer, list(_values(scope, FOR)))
                scope["client"] = (client, port if client == peer else 0)
                scheme = next(reversed(list(_values(scope, PROTO))), "").lower()
                if scheme in {"http", "https"}:
                    scope["scheme"] = scheme
            elif peer != host:
                scope["client"] = (peer, port)
        await self._app(scope, receive, send)


_canonical = lru_cache(maxsize=4096)(canonical_address)


def _values(scope: Scope, name: bytes) -> Iterator[str]:
    """Yield the elements of a list header in the order in which they were appended, RFC 9110 section 5.6.1."""
    for each, value in scope["headers"]:
        if each == name:
            yield from filter(None, (part.strip(" \t") for part in value.decode("latin-1").split(",")))


def _forwarded_address(value: str) -> Address | None:
    """Return the address in an element of X-Forwarded-For, with or without a port; None for a malformed one."""
    text = value.strip('" ')[: ADDRESS_MOST_CHARACTERS + 1]
    if len(text) > ADDRESS_MOST_CHARACTERS:
        return None
    if text.startswith("["):
        text, _, port = text[1:].partition("]")
        if port and not port.removeprefix(":").isdigit():
            return None
    elif text.rfind(":") > text.rfind(".") > 0:  # 192.0.2.1:80 or ::ffff:192.0.2.1:80
        text, _, port = text.rpartition(":")
        if not port.isdigit():
            return None
    try:
        return parse_address(text)
    except ValueError:
        return None
