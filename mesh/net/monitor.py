"""Reads what a socket says about its connections."""

from __future__ import annotations

import struct
from typing import NamedTuple

import zmq

from mesh.net.sockets import Socket, events_of, monitor_socket

ACCEPTED = int(zmq.EVENT_ACCEPTED)
CONNECTED = int(zmq.EVENT_CONNECTED)
LOST = int(zmq.EVENT_DISCONNECTED)
GREETED = int(zmq.EVENT_HANDSHAKE_SUCCEEDED)
RETRIED = int(zmq.EVENT_CONNECT_RETRIED)
DENIED = int(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
GREETING_BROKEN = int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
GREETING_REFUSED = int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
GREETING_FAILED = DENIED | GREETING_BROKEN | GREETING_REFUSED

MECHANISM_MISMATCH = int(zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH)
BAD_CRYPTOGRAPHY = int(zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC)

_HEADER = struct.Struct("=HI")


class SocketEvent(NamedTuple):
    """``kind`` is one of the constants above; ``value`` is a file descriptor, a status or an error number."""

    kind: int
    value: int


class Monitor:
    """The events of one socket, of the kinds asked for."""

    def __init__(self, socket: Socket, kinds: int) -> None:
        self._watched = socket
        self._socket = monitor_socket(socket, kinds)
        events_of(self._socket)  # its descriptor tells of news only once it was found empty
        self.fd: int = self._socket.FD

    def read(self) -> list[SocketEvent]:
        """All events since the last time."""
        events: list[SocketEvent] = []
        while True:
            try:
                header, _ = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return events
            events.append(SocketEvent(*_HEADER.unpack(header)))

    def close(self) -> None:
        """Before the socket it watches is closed."""
        self._watched.disable_monitor()
        self._socket.close(0)
