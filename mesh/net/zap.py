"""Decides which keys may connect: libzmq asks, over an inproc socket the router transport polls like any other.

There is no thread that could die and leave the door open; while nobody answers, nobody comes in.
"""

from __future__ import annotations

import zmq

from mesh.net.arrivals import Counters
from mesh.net.roster import Roster
from mesh.net.sockets import Socket, zap_socket


class Zap:
    """Admits who is on the roster. The user becomes the ``User-Id`` of each message of the connection."""

    def __init__(self, context: zmq.Context[Socket], roster: Roster, counters: Counters) -> None:
        self._roster = roster
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
        user = None
        if mechanism == b"CURVE" and len(credentials) == 1:
            user = self._roster.user(domain, credentials[0])
        if user is None:
            self._counters.keys_denied += 1
            return [version, number, b"400", b"no key of this mesh", b"", b""]
        self._counters.keys_accepted += 1
        return [version, number, b"200", b"OK", user.encode(), b""]
