"""How much a connection has sent that was not taken yet: libzmq reads all that comes, and says nothing of it.

The kernel counts what a TCP connection has brought, and we what we took of it; the rest lies in libzmq's memory. Only
Linux tells (``TCP_INFO``): elsewhere it is not known, and nobody is cut off for it.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

_RECEIVED = struct.Struct("=Q")
_RECEIVED_AT = 128  # tcpi_bytes_received, in struct tcp_info of <linux/tcp.h>
_INFO_BYTES = _RECEIVED_AT + _RECEIVED.size

_FRAME_WIRE_BYTES = 48  # at the most, what CURVE and ZMTP add to a frame
_FRAME_BYTES = 220  # what a frame takes in libzmq besides its bytes
_CHATTER_BYTES_PER_S = 100  # heartbeats of libzmq, which we never see


class Backlog:
    """Of one connection, made when it speaks first, at ``now`` (monotonic seconds)."""

    __slots__ = ("_begun", "_fd", "bytes", "frames")

    def __init__(self, fd: int, now: float) -> None:
        self._fd = fd
        self._begun = now
        self.bytes = 0  # taken
        self.frames = 0  # taken

    def measure(self, now: float) -> int:
        """Bytes of memory that what was not taken needs, about; 0 where that is not known."""
        received = received_bytes(self._fd)
        if received is None:
            return 0
        taken = self.bytes + self.frames * _FRAME_WIRE_BYTES
        unread = received - taken - int((now - self._begun) * _CHATTER_BYTES_PER_S)
        if unread <= 0:
            self.bytes += unread  # what was taken for more than it was must not hide what comes
            return 0
        return unread + unread * self.frames * _FRAME_BYTES // taken if taken else unread


def received_bytes(fd: int) -> int | None:
    """How many bytes a TCP connection has brought since it was made; None where the system does not say."""
    if not hasattr(socket, "TCP_INFO"):
        return None
    with suppress(OSError):
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, fileno=fd)
        try:
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        finally:
            connection.detach()
        if len(info) == _INFO_BYTES:
            return int(_RECEIVED.unpack_from(info, _RECEIVED_AT)[0])
    return None
