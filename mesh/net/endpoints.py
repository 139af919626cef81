"""Addresses of routers as ZeroMQ wants them, ``tcp://host:port`` or ``ipc://path``: made, read, taken apart."""

from __future__ import annotations

import re

from mesh.errors import ConfigError

PORT = 6374  # of the first router of a host, where none is chosen: MESH on a telephone's keys

_TCP = re.compile(r"(?P<host>[^\s/:\[\]]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>[0-9]{1,5}))?")


def parse_endpoint(address: str) -> str:
    """One that people wrote as ``host:port``, ``tcp://host:port`` or ``ipc://path``; without a port that is ``PORT``.

    Raises ``ConfigError``.
    """
    address = address.strip()
    if address.startswith("ipc://") and len(address) > len("ipc://"):
        return address
    found = _TCP.fullmatch(address.removeprefix("tcp://"))
    port = PORT if found is None or found["port"] is None else int(found["port"])
    is_number = found is not None and found["port"] is None and found["host"].isdecimal()  # a port without its host
    if found is None or is_number or not 0 < port < 65_536:
        raise ConfigError(f"router address {address!r}: write host:port, [ipv6]:port, tcp://host:port or ipc:///path")
    return f"tcp://{found['host']}:{port}"


def tcp_endpoint(host: str, port: int | str) -> str:
    """The one of a host, which may be an IPv6 address, and a port."""
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def is_tcp(endpoint: str) -> bool:
    """Whether it is on a network, and not a socket of this host."""
    return endpoint.startswith("tcp://")


def host_of(endpoint: str) -> str:
    """The name or the address in a tcp one."""
    return endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]")


def place_of(endpoint: str) -> tuple[str, int]:
    """Host and port of a tcp one."""
    return host_of(endpoint), int(endpoint.rpartition(":")[2])
