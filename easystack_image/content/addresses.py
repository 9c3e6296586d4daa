"""Which addresses may be connected to.

What counts is the address that a connection is made to, not the name by
which it was asked for: names can be made to mean anything, at any time.
"""

from __future__ import annotations

from collections.abc import Iterable
import dataclasses
import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Prefixes of IPv6 that carry an IPv4 address, and the bits behind it.
_CARRIERS = (
    (ipaddress.IPv6Network('::ffff:0:0/96'), 0),
    (ipaddress.IPv6Network('::/96'), 0),
    (ipaddress.IPv6Network('64:ff9b::/96'), 0),
    (ipaddress.IPv6Network('2002::/16'), 80),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Networks:
    """Networks that are denied, and exceptions from them."""

    denied: tuple[Network, ...]
    allowed: tuple[Network, ...]

    @classmethod
    def of(cls, denied: Iterable[str], allowed: Iterable[str]) -> Networks:
        """Make one of networks in CIDR notation.

        :raises ValueError: if one is not
        """
        return cls(tuple(map(ipaddress.ip_network, denied)),
                   tuple(map(ipaddress.ip_network, allowed)))

    def permit(self, text: str) -> bool:
        """Tell whether an address may be connected to.

        An address of IPv6 that carries one of IPv4 must be permitted as
        both; a mapped one (``::ffff:192.0.2.1``) is the one it carries.

        :param text: as ``getaddrinfo`` returns it
        """
        address = ipaddress.ip_address(text.partition('%')[0])
        if isinstance(address, ipaddress.IPv6Address):
            if address.ipv4_mapped:
                return self._permits(address.ipv4_mapped)
            carried = _carried(address)
            if carried is not None and not self._permits(carried):
                return False
        return self._permits(address)

    def _permits(self, address: Address) -> bool:
        if any(address in network for network in self.allowed):
            return True
        return not any(address in network for network in self.denied)


def _carried(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    for network, behind in _CARRIERS:
        if address in network:
            return ipaddress.IPv4Address(int(address) >> behind & 0xFFFFFFFF)
    return None
