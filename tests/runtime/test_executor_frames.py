from __future__ import annotations

import mmap
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from mesh.model import Blob, Delivery, Ending, Settlement, TaskOptions
from mesh.runtime.executor_frames import (
    READ_BYTES_MAX,
    Chunk,
    Done,
    FrameReader,
    FrameWriter,
    Reclaimed,
    blobs_of,
    decode_from_agent,
    decode_from_executor,
    encode_frame,
    send_blocking,
    split_buffers,
)
from mesh.wire.memory import MAPPED_FROM

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


def read_until(reader: FrameReader, count: int) -> list[tuple[memoryview, memoryview]]:
    frames: list[tuple[memoryview, memoryview]] = []
    while len(frames) < count and not reader.ended:
        frames += reader.read()
    return frames


def test_frames_come_as_they_went_however_the_stream_is_cut(ends: Ends) -> None:
    left, right = ends
    reader = FrameReader(right)
    stream = b"".join(bytes(b) for i in range(20) for b in encode_frame(Reclaimed(["x" * i]), [b"y" * i]))
    frames: list[tuple[memoryview, memoryview]] = []
    for i in range(0, len(stream), 7):
        left.sendall(stream[i : i + 7])
        frames += reader.read()

    assert [decode_from_executor(envelope) for envelope, _ in frames] == [Reclaimed(["x" * i]) for i in range(20)]
    assert [bytes(raw) for _, raw in frames] == [b"y" * i for i in range(20)]


def test_a_large_frame_is_read_into_memory_that_is_mapped_for_it(ends: Ends) -> None:
    left, right = ends
    data = os.urandom(MAPPED_FROM)
    writer = threading.Thread(target=send_blocking, args=(left, encode_frame(Reclaimed(["x"]), [data])))
    writer.start()
    ((envelope, raw),) = read_until(FrameReader(right), 1)
    writer.join()
    assert decode_from_executor(envelope) == Reclaimed(["x"])
    assert raw == data and not raw.readonly
    assert isinstance(raw.obj, mmap.mmap)


def test_large_parts_cross_without_the_writer_waiting(ends: Ends) -> None:
    left, right = ends
    data = os.urandom(5 << 20)
    blob = Blob("k", [3 << 20, 2 << 20])
    chunk = Chunk({0: TaskOptions("f")}, [Delivery("t", 0, 1, blob)])
    writer = FrameWriter(left)
    writer.send(encode_frame(chunk, [memoryview(data)[: 3 << 20], memoryview(data)[3 << 20 :]]))
    assert writer.pending, "the socket cannot have taken 5 MiB"

    reader = FrameReader(right)
    frames: list[tuple[memoryview, memoryview]] = []
    while not frames:
        writer.flush()
        frames = reader.read()

    ((envelope, raw),) = frames
    assert decode_from_agent(envelope) == chunk
    assert split_buffers(raw, [blob]) == [[data[: 3 << 20], data[3 << 20 :]]]
    assert not writer.pending


def test_many_more_parts_than_one_system_call_takes(ends: Ends) -> None:
    left, right = ends
    parts = [bytes([i % 251]) * (i % 13) for i in range(3_000)]
    sender = threading.Thread(target=send_blocking, args=(left, encode_frame(Reclaimed([]), parts)))
    sender.start()

    ((_, raw),) = read_until(FrameReader(right), 1)
    sender.join()

    assert bytes(raw) == b"".join(parts)


def test_one_read_takes_in_no_more_than_its_bound(ends: Ends) -> None:
    left, right = ends
    frame = encode_frame(Reclaimed([]), [bytes(READ_BYTES_MAX * 3)])
    sender = threading.Thread(target=send_blocking, args=(left, frame), daemon=True)
    sender.start()
    reader = FrameReader(right)
    reads = 1
    while not reader.read():
        reads += 1

    sender.join()
    assert reads >= 3


def test_the_reader_says_when_it_is_drained_and_when_the_other_end_is_closed(ends: Ends) -> None:
    left, right = ends
    reader = FrameReader(right)
    assert (reader.read(), reader.drained, reader.ended) == ([], True, False)

    send_blocking(left, encode_frame(Reclaimed(["last"])))
    left.close()
    frames = read_until(reader, 2)

    assert [decode_from_executor(envelope) for envelope, _ in frames] == [Reclaimed(["last"])]
    assert reader.ended


def test_a_writer_whose_reader_is_gone_keeps_nothing(ends: Ends) -> None:
    left, right = ends
    right.close()
    writer = FrameWriter(left)

    writer.send(encode_frame(Reclaimed([]), [bytes(1 << 20)]))

    assert not writer.pending


def test_blobs_of_settlements_are_found_in_order() -> None:
    one, two = Blob("one", [1]), Blob("two", [2])
    settlements = [
        Settlement("a", 1, Ending.SUCCEEDED, b"small"),
        Settlement("b", 1, Ending.SUCCEEDED, one),
        Settlement("c", 1, Ending.SUCCEEDED, two),
    ]

    envelope = encode_frame(Done(settlements))[0]

    assert list(blobs_of(settlements)) == [one, two]
    assert len(bytes(envelope)) < 200
