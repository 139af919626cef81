"""Which addresses of this host others on the LAN may reach: pure selection; ``mesh.net.adapters`` lists.

An address that nobody reaches costs every node an attempt at each start, and one of a tunnel or a container bridge
shows the router to people it was not meant for. So those are left out, unless they are named.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mesh.errors import ConfigError
from mesh.net.endpoints import host_of, is_tcp

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
InterfaceAddress = ipaddress.IPv4Interface | ipaddress.IPv6Interface

PASSED_OVER = {
    "docker": "containers of this host",
    "br-": "containers of this host",
    "veth": "containers of this host",
    "cni": "containers of this host",
    "cali": "containers of this host",
    "flannel": "containers of this host",
    "podman": "containers of this host",
    "lxcbr": "containers of this host",
    "lxdbr": "containers of this host",
    "virbr": "virtual machines of this host",
    "vmnet": "virtual machines of this host",
    "vboxnet": "virtual machines of this host",
    "vnet": "virtual machines of this host",
    "tun": "a tunnel to another network",
    "tap": "a tunnel to another network",
    "wg": "a tunnel to another network",
    "tailscale": "a tunnel to another network",
    "zt": "a tunnel to another network",
    "ppp": "a tunnel to another network",
    "utun": "a tunnel to another network",
}
"""How the names of interfaces begin that are used only where they are named, and what is behind them."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """An interface of this host. ``addresses`` have their networks with them."""

    name: str
    is_up: bool
    addresses: tuple[InterfaceAddress, ...]


@dataclass(frozen=True, slots=True)
class LanAddress:
    """An address that others may reach, and the interface it is of."""

    interface: str
    address: InterfaceAddress

    @property
    def text(self) -> str:
        return str(self.address.ip)


def lan_addresses(adapters: Iterable[Adapter], named: Sequence[str] = ()) -> list[LanAddress]:
    """Those that others may reach, IPv4 first; of the interfaces ``named``, where there are any.

    Raises ``ConfigError`` for a name that no interface has.
    """
    adapters = list(adapters)
    for name in named:
        if name not in {adapter.name for adapter in adapters}:
            there = ", ".join(sorted(adapter.name for adapter in adapters)) or "none"
            raise ConfigError(f"there is no interface {name!r}; there are: {there}")
    chosen = [
        LanAddress(adapter.name, address)
        for adapter in adapters
        if (adapter.name in named if named else why_passed_over(adapter.name) is None)
        if adapter.is_up
        for address in adapter.addresses
        if _is_for_others(address.ip)
    ]
    return sorted(chosen, key=lambda a: a.address.version)


def why_passed_over(interface: str) -> str | None:
    """What is behind an interface that is not used unless it is named; None for any other."""
    return next((why for prefix, why in PASSED_OVER.items() if interface.startswith(prefix)), None)


def parse_address(text: str) -> Address:
    """An address that others are to be told. Raises ``ConfigError``."""
    try:
        address = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        raise ConfigError(f"{text!r} is no IP address: names and ports cannot be advertised") from None
    if not _is_for_others(address):
        raise ConfigError(f"{text} cannot be advertised: nobody else reaches it")
    return address


def is_for_others(endpoint: str) -> bool:
    """Whether an endpoint leads to one address that other hosts may reach, or to a name."""
    if not is_tcp(endpoint):
        return False
    host = host_of(endpoint)
    try:
        return _is_for_others(ipaddress.ip_address(host))
    except ValueError:
        return host not in ("localhost", "*")


def leads_on(at: str, named: str) -> bool:
    """Whether an endpoint that the router at ``at`` names leads from here to where it leads from there.

    What is reached on one host only is meant for who got to that router in such a way: a socket file for who opened
    one, a loopback address for who used one.
    """
    if not is_tcp(named):
        return not is_tcp(at) and at != ""
    return is_for_others(named) or (is_tcp(at) and not is_for_others(at))


def _is_for_others(address: Address) -> bool:
    """Link-local ones need the interface beside them, which is another on each host."""
    unfit = address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
    return not unfit and not (address.version == 6 and address.ipv4_mapped is not None)
