"""The limits of connections: bytes, seconds, and their number."""

import resource
import sys
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

KEEP_ALIVE_SECONDS = 75
"""Longer than the usual 60 seconds of load balancers, so that they close an idle connection first."""
HEAD_SECONDS = 20
BODY_SECONDS = 30
HEAD_BYTES = 32 * 1024
MOST_CONNECTIONS = 4096
RESERVED_DESCRIPTORS = 64
IPV6_PREFIX_BITS = 64


def possible_connections() -> int:
    """Return how many connections the file descriptors allow; some are reserved for database, keys and logs."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return sys.maxsize
    return max(1, descriptors - min(RESERVED_DESCRIPTORS, descriptors // 2))


@dataclass(frozen=True)
class Limits:
    """The limits of every connection of a process.

    `connections` of 0 means 4096, or what the file descriptors allow if that is less; `connections_per_address` of 0
    means half of that. Connections from the addresses and networks in `proxies` are not counted by address.
    """

    keep_alive_seconds: float = KEEP_ALIVE_SECONDS
    head_seconds: float = HEAD_SECONDS
    body_seconds: float = BODY_SECONDS
    write_seconds: float = 30
    """In this time a client must read at least `write_bytes` of a pending response."""
    write_bytes: int = 16 * 1024
    linger_seconds: float = 5
    """How long arriving data is discarded after a refusal, so that the client can read the refusal."""
    head_bytes: int = HEAD_BYTES
    """Limit of the request line and all headers, and of the overhead of a chunked body."""
    target_bytes: int = 8 * 1024
    headers: int = 100
    unread_body_bytes: int = 64 * 1024
    """A larger body is not read to its end if the response did not need it."""
    connections: int = 0
    connections_per_address: int = 0
    proxies: tuple[str, ...] = field(default=())

    @cached_property
    def most_connections(self) -> int:
        """Return how many connections a process may have, at most what its file descriptors allow."""
        return min(self.connections or MOST_CONNECTIONS, possible_connections())

    @cached_property
    def most_per_address(self) -> int:
        """Return how many of them may come from one IPv4 address or IPv6 /64 network."""
        return self.connections_per_address or max(1, self.most_connections // 2)

    def counted_address(self, host: str) -> str | None:
        """Return the address or network by which `host` is counted; None for a proxy or no IP address."""
        try:
            address = ip_address(host.partition("%")[0])
        except ValueError:
            return None
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        if any(address in network for network in self._proxy_networks):
            return None
        if isinstance(address, IPv6Address):
            return str(ip_network((address, IPV6_PREFIX_BITS), strict=False))
        return str(address)

    @cached_property
    def _proxy_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        return tuple(ip_network(proxy) for proxy in self.proxies)
