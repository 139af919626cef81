"""A node's sessions with routers over a transport that refuses what no peer would take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from mesh.messages import Cancel, Heartbeat, Hello
from mesh.model import Peer, Role
from mesh.net.frames import check_frames
from mesh.runtime.channels import RouterChannels

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
