"""How much a connection has sent that was not taken yet: libzmq reads all that comes, and says nothing of it.

A message is taken when all of it has come. Until then this alone tells that its sender lives: what it says besides
waits behind it.

The kernel counts what a TCP connection has brought, and we what we took of it, byte for byte as CURVE and ZMTP carry
it; the rest lies in libzmq's memory. Only Linux tells (``TCP_INFO``): elsewhere it is not known, nobody is cut off
for it, and who sends one message for longer than it may be silent counts as gone.

It is counted in bytes of the connection, and a frame takes more memory than it has brought: an empty one, the worst,
five times as much. How many frames they are is known only once they are taken, so what is taken of who is far ahead
says how large those behind it are. It says so only where it goes on: a large message may come behind a few small ones.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from contextlib import suppress

from mesh.model import Buffer

_RECEIVED = struct.Struct("=Q")
_RECEIVED_AT = 128  # tcpi_bytes_received, in struct tcp_info of <linux/tcp.h>
_INFO_BYTES = _RECEIVED_AT + _RECEIVED.size

_FRAME_WIRE_BYTES = 35  # what CURVE and ZMTP add to a frame
_LONG_FRAME_WIRE_BYTES = 42  # to one whose length takes eight bytes
_SHORT_FRAME_BYTES_MAX = 222

_FRAME_MEMORY_BYTES = 192  # what libzmq takes for a frame besides its bytes, and a little more
_MEMORY_PER_BYTE_MAX = 1 + _FRAME_MEMORY_BYTES // _FRAME_WIRE_BYTES + 1
_LOOKS_AHEAD = 4  # at which something was taken: after a stall a few small messages may come before a large one

CHATTER_BYTES_PER_S = 40  # twice what libzmq's heartbeats are, or the answers to them, which we never see
LIFE_BYTES = 1 << 10  # more is part of a message, and no chatter: that goes on where the process hangs

LOOK_S = 0.25  # between two looks at a connection: one costs 4 µs


class Backlog:
    """Of one connection, made when it speaks first, at ``now`` (monotonic seconds)."""

    __slots__ = (
        "_chatter",
        "_frames",
        "_grew_at",
        "_lately",
        "_looked_at",
        "_looks",
        "_received",
        "_seen",
        "_taken",
        "taken",
    )

    def __init__(self, now: float) -> None:
        self.taken = 0  # bytes, as the connection brought them
        self._chatter = 0.0  # bytes that it brought and nobody will take
        self._looked_at = self._grew_at = now
        self._received = self._taken = 0  # when it was last seen to grow
        self._frames = 0  # taken
        self._seen = 0, 0  # bytes and frames that were taken when it was weighed last
        self._lately = 0.0, 0.0  # of those taken since it is ahead, each time it is weighed half of what was before
        self._looks = 0  # since it is ahead, at which something was taken

    def take(self, frames: Sequence[Buffer]) -> None:
        """A message of these was taken."""
        self._frames += len(frames)
        for size in map(len, frames):
            self.taken += size + (_FRAME_WIRE_BYTES if size <= _SHORT_FRAME_BYTES_MAX else _LONG_FRAME_WIRE_BYTES)

    def unread(self, received: int, now: float) -> int:
        """How many of the ``received`` bytes were not taken."""
        # Never more than was there to be taken for it: what has not come must not hide what comes.
        chatter = self._chatter + (now - self._looked_at) * CHATTER_BYTES_PER_S
        self._chatter = min(chatter, received - self.taken)
        self._looked_at = now
        return int(received - self.taken - self._chatter)

    def grows(self, received: int, now: float) -> bool:
        """Whether part of a message has come since this was last so, or since one was taken."""
        taken = self.taken != self._taken
        came = received - self._received - (now - self._grew_at) * CHATTER_BYTES_PER_S
        if not taken and came <= LIFE_BYTES:
            return False
        self._received, self._taken, self._grew_at = received, self.taken, now
        return not taken

    def weigh(self, received: int, now: float, limit: int) -> int:
        """How much memory takes what was not taken, where that may be beyond the ``limit``; else less."""
        unread = self.unread(received, now)
        size, frames = self.taken - self._seen[0], self._frames - self._seen[1]
        self._seen = self.taken, self._frames
        if unread * _MEMORY_PER_BYTE_MAX <= limit:
            self._looks, self._lately = 0, (0.0, 0.0)
        elif frames:
            self._looks += 1
            self._lately = self._lately[0] / 2 + size, self._lately[1] / 2 + frames
            if self._looks >= _LOOKS_AHEAD:
                return unread + int(unread * _FRAME_MEMORY_BYTES * self._lately[1] / self._lately[0])
        return unread


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
