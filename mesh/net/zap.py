"""Decides which keys may connect: libzmq asks, over an inproc socket the router transport polls like any other.

There is no thread that could die and leave the door open; while nobody answers, nobody comes in.
"""

from __future__ import annotations

import zmq
from zmq.utils import z85

from mesh.model import Role
from mesh.net.arrivals import Counters
from mesh.net.keys import MeshKey
from mesh.net.sockets import ZAP_DOMAIN, Socket, zap_socket

_ADMITTED = (Role.WORKER, Role.CLIENT, Role.ADMIN)


class Zap:
    """Admits the roles of one mesh key. The role's name becomes the ``User-Id`` of each message of the connection."""

    def __init__(self, context: zmq.Context[Socket], key: MeshKey, counters: Counters) -> None:
        self._roles = {z85.decode(key.role(role).public): role for role in _ADMITTED}
        self._counters = counters
        self._socket = zap_socket(context)
        self.fd: int = self._socket.FD

    def serve(self) -> None:
        """Answer all that was asked."""
        while True:
            try:
                request = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._socket.send_multipart(self._answer(request))

    def close(self) -> None:
        self._socket.close(0)

    def _answer(self, request: list[bytes]) -> list[bytes]:
        version, number, domain = request[:3]
        mechanism, credentials = request[5], request[6:]
        role = None
        if domain == ZAP_DOMAIN and mechanism == b"CURVE" and len(credentials) == 1:
            role = self._roles.get(credentials[0])
        if role is None:
            self._counters.keys_denied += 1
            return [version, number, b"400", b"this key is not of this mesh", b"", b""]
        self._counters.keys_accepted += 1
        return [version, number, b"200", b"OK", role.value.encode(), b""]
