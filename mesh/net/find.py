"""Finds routers: the addresses given, else those in the environment, else this user's routers on this host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mesh.errors import ConfigError
from mesh.net.runtime_dir import RuntimeDir


@dataclass(frozen=True, slots=True)
class Found:
    """A router that may be there: its addresses, best first. ``how`` it was found is for people."""

    endpoints: tuple[str, ...]
    router_id: str | None
    how: str


@dataclass(frozen=True, slots=True)
class Search:
    """What was found, and what was tried, for an error message."""

    found: list[Found]
    tried: str


def find_routers(mesh: str, explicit: Sequence[str] | None, environ: Mapping[str, str]) -> Search:
    """Look where a router may be; the first place that names any is the only one used. Raises ``ConfigError``."""
    if explicit:
        return _given(explicit, "given")
    listed = [address for address in environ.get("MESH_ROUTERS", "").split(",") if address.strip()]
    if listed:
        return _given(listed, "MESH_ROUTERS")
    directory = RuntimeDir(environ)
    found = []
    for record in directory.routers(mesh):
        endpoints = tuple(address for address in (record.ipc, record.tcp) if address is not None)
        found.append(Found(endpoints, record.router_id, f"running here as process {record.pid}"))
    where = ", ".join(f"{f.endpoints[0]} ({f.how})" for f in found if f.endpoints)
    names = where or "no running router"
    return Search(found, f"no address was given, MESH_ROUTERS is not set, and {directory.path} names {names}")


def parse_endpoint(address: str) -> str:
    """``host:port``, ``tcp://host:port`` or ``ipc://path`` as ZeroMQ wants it. Raises ``ConfigError``."""
    address = address.strip()
    if address.startswith("ipc://") and len(address) > len("ipc://"):
        return address
    host, colon, port = address.removeprefix("tcp://").rpartition(":")
    if "/" in host or not host or not colon or not port.isdigit() or not 0 < int(port) < 65_536:
        raise ConfigError(f"router address {address!r}: write host:port, tcp://host:port or ipc:///path")
    return f"tcp://{host}:{port}"


def _given(addresses: Sequence[str], how: str) -> Search:
    found = [Found((parse_endpoint(address),), None, how) for address in addresses]
    return Search(found, f"{how}: " + ", ".join(f.endpoints[0] for f in found))
