"""What an agent and its executors say to each other, over one stream socket pair.

A frame is a header (length of the envelope, length of all parts), an envelope (one struct below, MessagePack) and
the raw parts of its Blobs in their order of appearance. Both ends are ours and on one host, so there are no
versions here; a frame that cannot be read is a broken invariant.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from mesh.entries import Entry
from mesh.model import Blob, Buffer, Delivery, FunctionCode, Settlement, TaskOptions
from mesh.wire.memory import new_memory

HEADER = struct.Struct("<IQ")
RECEIVE_BYTES = 64 << 10
READ_BYTES_MAX = 8 << 20
"""What one ``read`` takes in at the most, so that one executor cannot keep the agent's loop for itself."""
BUFFERS_PER_CALL = 512
"""Fewer than any system's IOV_MAX (1024 on Linux)."""


class ExecutorSetup(Struct, frozen=True):
    """What an executor is started with, as JSON on its command line."""

    agent_pid: int
    worker_name: str
    app: str | None
    include: list[str]
    loglevel: str
    inline_bytes_max: int
    payload_bytes_max: int


# agent → executor


class Chunk(Struct, frozen=True, array_like=True, gc=False, tag="CHUNK"):
    """Run these, in this order. ``depot``: the directory of large payloads of the router they are from."""

    options: dict[int, TaskOptions]
    tasks: list[Delivery]
    depot: str | None = None
    sync: bool = False


class Code(Struct, frozen=True, array_like=True, gc=False, tag="CODE"):
    """A shipped function that a later chunk needs."""

    code: FunctionCode


class Reclaim(Struct, frozen=True, array_like=True, gc=False, tag="RECLAIM"):
    """Give back what you have not started."""


class Stop(Struct, frozen=True, array_like=True, gc=False, tag="STOP"):
    """Finish what you have, then exit."""


# executor → agent


class Ready(Struct, frozen=True, array_like=True, gc=False, tag="READY"):
    """Loaded and waiting, with these task functions; or, with ``error``, unable to.

    Of those: seconds a task may run where its definition says so, and which are delivered at most once. ``app``: the
    app's name, where there is one; ``entries``: the periodic tasks in its code.
    """

    tasks: list[str]
    error: str | None = None
    time_limits: dict[str, float] = {}
    at_most_once: list[str] = []
    app: str | None = None
    entries: list[Entry] = []


class Done(Struct, frozen=True, array_like=True, gc=False, tag="DONE"):
    """These are finished. ``depot``: the directory in which large results were left."""

    settlements: list[Settlement]
    depot: str | None = None


class Reclaimed(Struct, frozen=True, array_like=True, gc=False, tag="RECLAIMED"):
    """These were not started and will not be."""

    ids: list[str]


FromAgent = Chunk | Code | Reclaim | Stop
FromExecutor = Ready | Done | Reclaimed

_encode = msgspec.msgpack.Encoder().encode
_decode_from_agent = msgspec.msgpack.Decoder(FromAgent).decode
_decode_from_executor = msgspec.msgpack.Decoder(FromExecutor).decode


def decode_from_agent(envelope: Buffer) -> FromAgent:
    """Read a frame's envelope in the executor."""
    message: FromAgent = _decode_from_agent(envelope)
    return message


def decode_from_executor(envelope: Buffer) -> FromExecutor:
    """Read a frame's envelope in the agent."""
    message: FromExecutor = _decode_from_executor(envelope)
    return message


def encode_frame(message: FromAgent | FromExecutor, parts: Sequence[Buffer] = ()) -> list[Buffer]:
    """The buffers of one frame. The parts are not copied."""
    envelope = _encode(message)
    if not parts:
        return [HEADER.pack(len(envelope), 0) + envelope]
    views = [memoryview(part).cast("B") for part in parts]
    return [HEADER.pack(len(envelope), sum(map(len, views))) + envelope, *views]


def blobs_of(settlements: Iterable[Settlement]) -> Iterator[Blob]:
    """The large payloads of settlements, in their order of appearance."""
    for settlement in settlements:
        if type(settlement.payload) is Blob:
            yield settlement.payload
        if settlement.retry is not None and type(settlement.retry.payload) is Blob:
            yield settlement.retry.payload


def with_blob(settlement: Settlement, blob: Blob) -> Settlement:
    """``settlement`` with ``blob`` where it has one of the same key."""
    retry = settlement.retry
    if retry is not None and type(retry.payload) is Blob and retry.payload.key == blob.key:
        return replace(settlement, retry=replace(retry, payload=blob))
    return replace(settlement, payload=blob)


def split_buffers(raw: memoryview, blobs: Iterable[Blob]) -> list[list[Buffer]]:
    """The buffers of each blob, whole, as views of ``raw``."""
    found: list[list[Buffer]] = []
    at = 0
    for blob in blobs:
        buffers: list[Buffer] = []
        for size in blob.sizes:
            buffers.append(raw[at : at + size])
            at += size
        found.append(buffers)
    assert at == len(raw), f"a frame with {len(raw)} bytes of parts whose blobs hold {at}"
    return found


def send_blocking(connection: socket.socket, buffers: list[Buffer]) -> None:
    """Send all of a frame. Raises ``OSError`` when the other end is gone."""
    for buffer in buffers:
        connection.sendall(buffer)


class FrameWriter:
    """Sends frames without waiting; what the socket does not take stays here.

    The agent gives an executor a chunk only when it has finished the last one, so this holds a chunk at the most.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._pending: deque[memoryview] = deque()

    @property
    def pending(self) -> bool:
        """True while there is something left to send."""
        return bool(self._pending)

    def send(self, buffers: list[Buffer]) -> None:
        self._pending.extend(memoryview(buffer) for buffer in buffers)
        self.flush()

    def flush(self) -> None:
        """Send what the socket takes now. An end that is gone takes everything: its reader will tell."""
        try:
            while self._pending:
                _drop_sent(self._pending, self._connection.sendmsg(_first(self._pending), (), socket.MSG_DONTWAIT))
        except BlockingIOError:
            pass
        except OSError:
            self._pending.clear()


class FrameReader:
    """Cuts a stream into frames, without waiting.

    ``ended``: the other end has closed it. ``drained``: the last ``read`` took all there was.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.ended = False
        self.drained = False
        self._connection = connection
        self._buffer = b""  # the beginning of a frame
        self._body: memoryview | None = None  # a large frame being filled in place
        self._filled = 0
        self._envelope_bytes = 0

    def read(self) -> list[tuple[memoryview, memoryview]]:
        """The (envelope, parts) of the frames that are complete by now; takes in no more than a bound."""
        frames: list[tuple[memoryview, memoryview]] = []
        self.drained = False
        taken = 0
        while taken < READ_BYTES_MAX and not self.drained:
            wanted = RECEIVE_BYTES if self._body is None else len(self._body) - self._filled
            try:
                received = self._receive(frames)
                self.ended = received == 0
            except BlockingIOError:
                received = 0
            except OSError:
                received = 0
                self.ended = True
            taken += received
            self.drained = received < wanted
        return frames

    def _receive(self, frames: list[tuple[memoryview, memoryview]]) -> int:
        if self._body is None:
            data = self._connection.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)
            self._cut(self._buffer + data, frames)
            return len(data)
        count = self._connection.recv_into(self._body[self._filled :], 0, socket.MSG_DONTWAIT)
        self._filled += count
        if self._filled == len(self._body):
            frames.append((self._body[: self._envelope_bytes], self._body[self._envelope_bytes :]))
            self._body = None
        return count

    def _cut(self, buffer: bytes, frames: list[tuple[memoryview, memoryview]]) -> None:
        at, whole = 0, memoryview(buffer)
        while len(buffer) - at >= HEADER.size:
            envelope_bytes, parts_bytes = HEADER.unpack_from(buffer, at)
            start = at + HEADER.size
            total = envelope_bytes + parts_bytes
            at = start + total
            if at > len(buffer):
                self._body = new_memory(total)
                self._filled = len(buffer) - start
                self._body[: self._filled] = whole[start:]
                self._envelope_bytes = envelope_bytes
                break
            view = whole[start:at]
            if parts_bytes:
                view = memoryview(bytearray(view))  # a task may change the arrays it is given
            frames.append((view[:envelope_bytes], view[envelope_bytes:]))
        self._buffer = buffer[at:]


def _first(pending: deque[memoryview]) -> list[memoryview]:
    if len(pending) <= BUFFERS_PER_CALL:
        return list(pending)
    return [pending[i] for i in range(BUFFERS_PER_CALL)]


def _drop_sent(pending: deque[memoryview], sent: int) -> None:
    while sent:
        size = len(pending[0])
        if sent < size:
            pending[0] = pending[0][sent:]
            return
        sent -= size
        pending.popleft()
