"""Reads and writes one multipart message, without waiting and without needless copies."""

from __future__ import annotations

from collections.abc import Sequence

import zmq

from mesh.errors import ProtocolError
from mesh.model import Buffer
from mesh.net.sockets import FRAME_BYTES_MAX, MORE, NOBLOCK, Socket

FRAMES_MAX = 1_024
"""A message of more frames is dropped: neither ZeroMQ's limits nor its frame size bound the memory of one."""

FRAMES_PER_WAKE_MAX = 1_000  # and the rest of the last message: timers, commits and other sockets get their turn
BYTES_PER_WAKE_MAX = 32 << 20

PROBE: tuple[Buffer, ...] = (b"",)
"""A message of one empty frame: asks ZeroMQ whether a peer is there. Transports keep it from everybody else."""

_COPY_BYTES_MAX = 64 << 10  # copying less is cheaper than sharing it


def read_frames(socket: Socket, first: zmq.Frame) -> list[Buffer] | None:
    """All frames of the message that ``first`` begins; None where there are too many."""
    frames: list[Buffer] = [first.bytes]
    frame, count = first, 1
    while frame.more:
        frame = socket.recv(NOBLOCK, copy=False)
        count += 1
        if count <= FRAMES_MAX:
            frames.append(frame.bytes if len(frame) < _COPY_BYTES_MAX else frame.buffer)
    return frames if count <= FRAMES_MAX else None


def check_frames(frames: Sequence[Buffer]) -> None:
    """Fail at home for what the peer would drop without a word. Raises ``ProtocolError``."""
    if not 0 < len(frames) <= FRAMES_MAX:
        raise ProtocolError(f"a message of {len(frames)} frames; at most {FRAMES_MAX}")
    for frame in frames:
        if len(frame) > FRAME_BYTES_MAX:
            raise ProtocolError(f"a frame of {len(frame)} bytes; at most {FRAME_BYTES_MAX}")


def write_frames(socket: Socket, frames: Sequence[Buffer]) -> bool:
    """Queue the frames as the rest of a message; False where the connection ended in the middle of it.

    Raises ``zmq.Again`` where there is no room for the first one: then nothing was queued.
    """
    last = len(frames) - 1
    whole = True
    for index, frame in enumerate(frames):
        try:
            socket.send(frame, NOBLOCK if index == last else MORE, copy=len(frame) < _COPY_BYTES_MAX)
        except zmq.Again:
            if index == 0:
                raise
            # The pipe died under the message. It must be written to its end all the same: libzmq drops frames up to
            # the next last one, which would otherwise be the next message's.
            whole = False
    return whole


def size_of(frames: Sequence[Buffer]) -> int:
    """Bytes of all frames."""
    return len(frames[0]) if len(frames) == 1 else sum(map(len, frames))
