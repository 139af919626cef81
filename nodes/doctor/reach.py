"""Looks whether TCP ports can be reached, all at once."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from nodes.doctor.facts import AddressFacts, Reach

_REJECTED = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM, errno.EINVAL, errno.EADDRNOTAVAIL}


def reach(addresses: Sequence[AddressFacts], within_s: float) -> list[AddressFacts]:
    """Connect to each of which it is not known, and hang up; a socket of this host is not tried here."""
    with ThreadPoolExecutor(max(1, len(addresses))) as pool:
        return list(pool.map(lambda address: _reach(address, within_s), addresses))


def _reach(address: AddressFacts, within_s: float) -> AddressFacts:
    endpoint = address.endpoint
    if address.reach is not None or not endpoint.startswith("tcp://"):
        return address
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), within_s).close()
    except TimeoutError:
        return replace(address, reach=Reach.SILENT)
    except ConnectionRefusedError:
        return replace(address, reach=Reach.CLOSED)
    except socket.gaierror as error:
        return replace(address, reach=Reach.UNNAMED, problem=error.strerror or str(error))
    except OSError as error:
        kind = Reach.UNREACHABLE if error.errno in _REJECTED else Reach.SILENT
        return replace(address, reach=kind, problem=error.strerror or str(error))
    return replace(address, reach=Reach.OPEN)
