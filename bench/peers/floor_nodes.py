"""The router, the worker node and the executors of the floor: they move lists of tasks, and that is all."""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import zmq

# As counted in a mesh that runs no-op tasks with two executors.
WINDOW = 3_400  # deliveries the worker may hold; they come in one message where there are so many
CHUNK = 200  # tasks handed to an executor at once

RESULT = b"\x01\xc0"
OUTCOME_BYTES = b"\0" * 100  # what an OUTCOME has for each task and a SETTLED has not
HEADER = struct.Struct("<I")
RECEIVE_BYTES = 64 << 10

CLIENT, WORKER = b"client", b"worker"
READY, BATCH, TAKEN, DONE = b"R", b"B", b"T", b"D"

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder().decode


def zmq_socket(context: zmq.Context[Any], kind: int, identity: bytes = b"") -> zmq.Socket[bytes]:
    """A socket without limits."""
    made: zmq.Socket[bytes] = context.socket(kind)
    made.set(zmq.SNDHWM, 0)
    made.set(zmq.RCVHWM, 0)
    made.set(zmq.LINGER, 0)
    if identity:
        made.set(zmq.ROUTING_ID, identity)
    return made


def received(connection: zmq.Socket[bytes]) -> list[list[bytes]]:
    """All messages there are."""
    messages = []
    while True:
        try:
            messages.append(connection.recv_multipart(zmq.NOBLOCK))
        except zmq.Again:
            return messages


def run_router(address: str) -> None:
    """Take batches from the client, give them to the worker within its window, pass back what is done."""
    router = zmq_socket(zmq.Context(), zmq.ROUTER)
    router.bind(address)
    waiting: deque[Any] = deque()
    room = 0
    while True:
        router.poll()
        taken, done = 0, []
        for sender, verb, body in received(router):
            if verb == BATCH:
                waiting.extend(decode(body))
                taken += 1
            elif verb == DONE:
                done += decode(body)
            elif sender == WORKER:
                room = WINDOW
        room += len(done)
        while waiting and room:
            tasks = take(waiting, room)
            room -= len(tasks)
            router.send_multipart([WORKER, BATCH, encode(tasks)])
        if taken:
            router.send_multipart([CLIENT, TAKEN, encode(taken)])
        if done:
            router.send_multipart([CLIENT, DONE, encode(done), OUTCOME_BYTES * len(done)])


def run_worker(address: str, executors: Sequence[socket.socket]) -> None:
    """Cut deliveries into chunks for idle executors; pass back what is done, per wake-up in one message."""
    dealer = zmq_socket(zmq.Context(), zmq.DEALER, WORKER)
    dealer.connect(address)
    streams = {end.fileno(): Stream(end) for end in executors}
    idle = list(streams)
    waiting: deque[Any] = deque()
    poller = zmq.Poller()
    for ready in (dealer, *streams):
        poller.register(ready, zmq.POLLIN)
    dealer.send_multipart([READY, b""])
    while True:
        done: list[Any] = []
        for ready, _ in poller.poll():
            if ready is dealer:
                for _, body in received(dealer):
                    waiting.extend(decode(body))
                continue
            frames = streams[ready].read()
            for frame in frames:
                done += decode(frame)
            idle += [ready] * len(frames)
        while waiting and idle:
            share = -(-len(waiting) // len(streams))
            streams[idle.pop(0)].send(encode(take(waiting, min(share, CHUNK))))
        if done:
            dealer.send_multipart([DONE, encode(done)])


def run_executor(connection: socket.socket, function: Callable[[], None]) -> None:
    """Call ``function`` for each task of each chunk, for ever."""
    stream = Stream(connection)
    while True:
        for frame in stream.read():
            done = []
            for task in decode(frame):
                function()
                done.append([task[0], 1, 0, RESULT, 0.0, 0.0])
            stream.send(encode(done))


def take(waiting: deque[Any], count: int) -> list[Any]:
    """The first ``count`` that wait."""
    if count >= len(waiting):
        taken = list(waiting)
        waiting.clear()
        return taken
    return [waiting.popleft() for _ in range(count)]


class Stream:
    """Frames over a stream socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = bytearray()

    def read(self) -> list[bytes]:
        """Wait for bytes; the frames that are whole by then. Raises ``EOFError`` when the other end is closed."""
        came = self._connection.recv(RECEIVE_BYTES)
        if not came:
            raise EOFError("the other end is closed")
        self._buffer += came
        frames = []
        at = 0
        while len(self._buffer) - at >= HEADER.size:
            (size,) = HEADER.unpack_from(self._buffer, at)
            end = at + HEADER.size + size
            if end > len(self._buffer):
                break
            frames.append(bytes(self._buffer[at + HEADER.size : end]))
            at = end
        del self._buffer[:at]
        return frames

    def send(self, body: bytes) -> None:
        """Send one frame, waiting for room."""
        self._connection.sendall(HEADER.pack(len(body)) + body)
