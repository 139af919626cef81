"""Looks up the names in addresses of routers: nothing waits for a name service, which may take its time."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from mesh.net.endpoints import is_tcp, place_of


@dataclass(frozen=True, slots=True)
class Unnamed:
    """Why an address has no host. ``for_now``: the name service did not say that there is none."""

    why: str
    for_now: bool


def unnamed(endpoints: Iterable[str], within_s: float) -> dict[str, Unnamed]:
    """Those of the tcp addresses whose names are not known, as far as that is found out in time; any order."""
    found: dict[str, Unnamed | None] = {}
    wanted = {endpoint for endpoint in endpoints if is_tcp(endpoint)}

    def look(endpoint: str) -> None:
        host, port = place_of(endpoint)
        try:
            socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            is_none = error.errno in (socket.EAI_NONAME, socket.EAI_NODATA)
            found[endpoint] = Unnamed(error.strerror or str(error), not is_none)
        except (OSError, UnicodeError) as error:
            found[endpoint] = Unnamed(str(error), False)
        else:
            found[endpoint] = None

    threads = [threading.Thread(target=look, args=(endpoint,), daemon=True) for endpoint in wanted]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + within_s
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    silent = Unnamed("the name service does not answer", True)
    return {endpoint: why for endpoint in wanted if (why := found.get(endpoint, silent)) is not None}
