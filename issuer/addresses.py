"""The canonical form of IP addresses, by which they are compared, counted, logged and stored.

Which proxies may forward the address of a client is decided in `web.http.proxies`.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_MAPPED_BITS = 96
"""The length of the prefix ::ffff:0:0/96, RFC 4291 section 2.5.5.2."""


def parse_address(text: str) -> Address:
    """Return the address in `text`; raise ValueError.

    An IPv4-mapped IPv6 address, which a dual-stack socket reports for every IPv4 peer, is the IPv4 address. A zone
    id (RFC 4007) names an interface of this machine and is not part of the address.
    """
    address = ip_address(text.partition("%")[0])
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def canonical_address(text: str) -> str:
    """Return the canonical form (RFC 5952) of an address; anything else, such as the path of a socket, unchanged."""
    try:
        return str(parse_address(text))
    except ValueError:
        return text


def parse_network(text: str) -> Network:
    """Return the network, or the single address as a network; an IPv4-mapped one as IPv4. Raise ValueError."""
    address, slash, length = text.partition("/")
    network = ip_network(address.partition("%")[0] + slash + length)
    if isinstance(network, IPv6Network) and network.prefixlen >= _MAPPED_BITS:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))
    return network
