"""Lists the interfaces of this host. A module of its own, for what it imports is nothing that every client needs."""

from __future__ import annotations

import ipaddress
import socket

import psutil

from mesh.net.interfaces import Adapter, InterfaceAddress


def local_adapters() -> list[Adapter]:
    """The interfaces of this host that have an address, or could have one."""
    states = psutil.net_if_stats()
    return [
        Adapter(
            name,
            name in states and bool(states[name].isup),
            tuple(
                _with_network(found.address, found.netmask)
                for found in addresses
                if found.family in (socket.AF_INET, socket.AF_INET6)
            ),
        )
        for name, addresses in psutil.net_if_addrs().items()
    ]


def _with_network(address: str, netmask: str | None) -> InterfaceAddress:
    plain = ipaddress.ip_address(address.partition("%")[0])
    prefix = plain.max_prefixlen if not netmask else int(ipaddress.ip_address(netmask)).bit_count()
    return ipaddress.ip_interface(f"{plain}/{prefix}")
