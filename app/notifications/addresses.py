"""Which IP addresses may be called for a user: public ones, and those of allowed networks.

Anything else could reach what is meant for this network only, such as a cloud's metadata server
at 169.254.169.254 (server-side request forgery, OWASP API7:2023).
"""

import ipaddress
from collections.abc import Iterable

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")  # RFC 4291, section 2.4
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the IPv4 address is in the last 32 bits
# Listed here beside what Python knows, whose lists differ from version to version.
_SPECIAL = tuple(
    map(
        ipaddress.ip_network,
        (
            "100.64.0.0/10",  # shared by providers (RFC 6598)
            "192.0.0.0/24",  # protocol assignments (RFC 6890)
            "192.88.99.0/24",  # 6to4 relays, deprecated (RFC 7526)
            "198.18.0.0/15",  # benchmarks (RFC 2544)
            "2001::/23",  # protocol assignments, Teredo with an IPv4 address inside (RFC 4380)
            "2001:db8::/32",  # documentation (RFC 3849)
            "2002::/16",  # 6to4, with an IPv4 address inside (RFC 3056)
            "3fff::/20",  # documentation (RFC 9637)
        ),
    )
)


def why_forbidden(address: IpAddress, allowed: Iterable[IpNetwork] = ()) -> str | None:
    """What an address is that must not be called; None if it may be.

    An IPv6 address that stands for an IPv4 one is judged as that one.

    Args:
        address: where a connection would go.
        allowed: networks that may be called although they are not public.
    """
    address = _unwrapped(address)
    if any(address in network for network in allowed):
        return None
    if address.is_loopback or address.is_unspecified:
        return "this machine itself"
    if address.is_link_local:
        return "a link-local address"
    if address.is_multicast:
        return "a multicast address"
    special = any(address in network for network in _SPECIAL) or address.is_reserved
    if special or not address.is_global or _outside_global_unicast(address):
        return "a private or reserved address"
    return None


def _outside_global_unicast(address: IpAddress) -> bool:
    return isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_UNICAST


def _unwrapped(address: IpAddress) -> IpAddress:
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address
