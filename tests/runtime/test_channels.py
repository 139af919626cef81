"""A node's sessions with routers over a transport that refuses what no peer would take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from mesh.messages import Cancel, Heartbeat, Hello, Submit
from mesh.model import Blob, Peer, Role, TaskOptions, TaskSpec
from mesh.net.frames import check_frames
from mesh.runtime.channels import RouterChannels
from mesh.runtime.depot import Depot
from mesh.wire.codec import decode_from_node
from mesh.wire.payload import GONE

ROUTER = Peer(b"router")
HELLO = Hello(Role.CLIENT, "c", "c", "3.11", "0")


class Wire:
    """Takes messages by the rules of the real transports, and keeps them."""

    def __init__(self) -> None:
        self.sent: list[Sequence[Any]] = []

    def send(self, peer: Peer, frames: Sequence[Any]) -> bool:
        check_frames(frames)
        self.sent.append(frames)
        return True

    def receive(self, timeout_s: float | None) -> Any: ...

    def disconnect(self, peer: Peer) -> None: ...

    def wake(self) -> None: ...

    def close(self) -> None: ...


def test_a_message_that_is_too_large_ends_the_session_and_not_the_process(caplog: pytest.LogCaptureFixture) -> None:
    wire = Wire()
    channels = RouterChannels(wire, lambda blob: None)
    channels.send(ROUTER, HELLO)
    channels.send(ROUTER, Cancel(["x" * 255] * 10_000))
    assert "Cancel is too large" in caplog.text and "bytes" in caplog.text

    channels.send(ROUTER, Heartbeat())
    assert len(wire.sent) == 1, "there is no session to send in"
    channels.send(ROUTER, HELLO)
    channels.send(ROUTER, Heartbeat())
    assert len(wire.sent) == 3


def test_a_payload_that_was_left_is_named_once_and_sent_in_parts_from_then_on(tmp_path: Path) -> None:
    wire, depot = Wire(), Depot(str(tmp_path))
    blob = Blob("t1", [5])
    channels = RouterChannels(wire, lambda blob: [b"abcde"])
    channels.depots[ROUTER] = depot
    left = depot.leave(blob, [b"abcde"])
    assert left is not None
    channels.offer(depot, left)
    channels.send(ROUTER, HELLO)
    for _ in range(2):
        channels.send(ROUTER, submit_of(blob))
    hello, first, second = [decode_from_node(frames) for frames in wire.sent]
    assert hello.message == replace(HELLO, maps=True)
    assert [(found, [bytes(part) for part in parts]) for found, parts in first.blobs] == [(left, [])]
    assert [(found, [bytes(part) for part in parts]) for found, parts in second.blobs] == [(blob, [b"abcde"])]


def test_what_was_left_for_another_router_is_taken_back_and_sent(tmp_path: Path) -> None:
    wire, depot = Wire(), Depot(str(tmp_path))
    blob = Blob("t1", [5])
    channels = RouterChannels(wire, lambda blob: [b"abcde"])
    left = depot.leave(blob, [b"abcde"])
    assert left is not None
    channels.offer(depot, left)
    channels.send(ROUTER, HELLO)
    channels.send(ROUTER, submit_of(blob))
    assert decode_from_node(wire.sent[1]).blobs[0][0] == blob
    assert list(tmp_path.iterdir()) == []


def test_a_router_that_is_forgotten_takes_what_was_left_for_it_along_and_nobody_elses(tmp_path: Path) -> None:
    channels = RouterChannels(Wire(), lambda blob: None)
    for peer, name in ((ROUTER, "ours"), (Peer(b"other"), "theirs")):
        (tmp_path / name).mkdir()
        depot = channels.depots[peer] = Depot(str(tmp_path / name))
        left = depot.leave(Blob(name, [5]), [b"abcde"])
        assert left is not None
        channels.offer(Depot(depot.directory), left)  # as it was before the connection was made anew
    channels.forget(ROUTER)
    assert list(channels.depots) == [Peer(b"other")]
    assert list((tmp_path / "ours").iterdir()) == []
    assert len(list((tmp_path / "theirs").iterdir())) == 1


def test_a_payload_that_is_gone_fails_its_task_and_not_the_node(caplog: pytest.LogCaptureFixture) -> None:
    wire = Wire()
    channels = RouterChannels(wire, lambda blob: None)
    channels.send(ROUTER, HELLO)
    channels.send(ROUTER, submit_of(Blob("t1", [5])))
    sent = decode_from_node(wire.sent[1])
    assert isinstance(sent.message, Submit) and sent.message.tasks[0].payload == GONE
    assert "t1" in caplog.text


def submit_of(blob: Blob) -> Submit:
    return Submit(1, [TaskOptions("x")], [TaskSpec("t1", 0, blob)])
