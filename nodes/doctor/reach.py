"""Looks whether hosts have names and TCP ports can be reached, all at once."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from mesh.net.endpoints import is_tcp, place_of
from mesh.net.names import unnamed
from nodes.doctor.facts import AddressFacts, Reach

_REJECTED = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM, errno.EINVAL, errno.EADDRNOTAVAIL}


def resolve(addresses: Sequence[AddressFacts], within_s: float) -> list[AddressFacts]:
    """Look up the names in them."""
    why_not = unnamed((address.endpoint for address in addresses), within_s)
    return [
        replace(address, reach=Reach.UNNAMED, problem=why_not[address.endpoint].why)
        if address.endpoint in why_not
        else address
        for address in addresses
    ]


def reach(addresses: Sequence[AddressFacts], within_s: float) -> list[AddressFacts]:
    """Connect to each of which it is not known, and hang up; a socket of this host is not tried here."""
    with ThreadPoolExecutor(max(1, len(addresses))) as pool:
        return list(pool.map(lambda address: _reach(address, within_s), addresses))


def _reach(address: AddressFacts, within_s: float) -> AddressFacts:
    endpoint = address.endpoint
    if address.reach is not None or not is_tcp(endpoint):
        return address
    try:
        socket.create_connection(place_of(endpoint), within_s).close()
    except TimeoutError:
        return replace(address, reach=Reach.SILENT)
    except ConnectionRefusedError:
        return replace(address, reach=Reach.CLOSED)
    except OSError as error:
        kind = Reach.UNREACHABLE if error.errno in _REJECTED else Reach.SILENT
        return replace(address, reach=kind, problem=error.strerror or str(error))
    return replace(address, reach=Reach.OPEN)
