"""Looks whether hosts have names and TCP ports can be reached, all at once."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from nodes.doctor.facts import AddressFacts, Reach

_REJECTED = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM, errno.EINVAL, errno.EADDRNOTAVAIL}


def resolve(addresses: Sequence[AddressFacts], within_s: float) -> list[AddressFacts]:
    """Look up the names in them: nothing that follows waits for a name service, which may take its time."""
    found: dict[str, str] = {}  # why not, by endpoint; empty where there is such a name

    def look(endpoint: str) -> None:
        host, port = _place(endpoint)
        try:
            socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            found[endpoint] = error.strerror or str(error)
        else:
            found[endpoint] = ""

    endpoints = {address.endpoint for address in addresses if address.endpoint.startswith("tcp://")}
    threads = [threading.Thread(target=look, args=(endpoint,), daemon=True) for endpoint in endpoints]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + within_s
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    why_not = {endpoint: found.get(endpoint, "the name service does not answer") for endpoint in endpoints}
    return [
        replace(address, reach=Reach.UNNAMED, problem=why) if (why := why_not.get(address.endpoint)) else address
        for address in addresses
    ]


def reach(addresses: Sequence[AddressFacts], within_s: float) -> list[AddressFacts]:
    """Connect to each of which it is not known, and hang up; a socket of this host is not tried here."""
    with ThreadPoolExecutor(max(1, len(addresses))) as pool:
        return list(pool.map(lambda address: _reach(address, within_s), addresses))


def _reach(address: AddressFacts, within_s: float) -> AddressFacts:
    endpoint = address.endpoint
    if address.reach is not None or not endpoint.startswith("tcp://"):
        return address
    try:
        socket.create_connection(_place(endpoint), within_s).close()
    except TimeoutError:
        return replace(address, reach=Reach.SILENT)
    except ConnectionRefusedError:
        return replace(address, reach=Reach.CLOSED)
    except OSError as error:
        kind = Reach.UNREACHABLE if error.errno in _REJECTED else Reach.SILENT
        return replace(address, reach=kind, problem=error.strerror or str(error))
    return replace(address, reach=Reach.OPEN)


def _place(endpoint: str) -> tuple[str, int]:
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    return host.strip("[]"), int(port)
