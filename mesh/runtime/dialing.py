"""How a node gets to the routers of its mesh: finds them, and connects to each with what its key allows."""

from __future__ import annotations

import os
from collections.abc import Sequence

from mesh.model import Peer, Role
from mesh.net.dealer_transport import DealerTransport
from mesh.net.find import Search, find_routers
from mesh.net.keys import load


class Dialer:
    """Of one node. ``given``: addresses of routers, where they are not to be looked for."""

    def __init__(self, transport: DealerTransport, mesh: str, role: Role, given: Sequence[str] = ()) -> None:
        self._transport = transport
        self._mesh = mesh
        self._role = role
        self._given = given

    def find(self) -> Search:
        """The routers that may be there. Raises ``ConfigError``."""
        return find_routers(self._mesh, self._given, os.environ)

    def connect(self, endpoint: str) -> Peer:
        """Connect to a router. Raises ``NoKey``, ``ConfigError``."""
        # Who may open a socket file of this user on this machine needs no key.
        key = None if endpoint.startswith("ipc://") else load(self._mesh, os.environ)
        return self._transport.connect(endpoint, key, self._role)
