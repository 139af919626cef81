"""What a worker node knows of one router, besides their session: what it owes it, and the window it was told."""

from __future__ import annotations

from mesh.core.clocks import ClockDifference
from mesh.core.sessions import RouterSession
from mesh.model import Peer, Settlement


class WorkerRouter:
    """``unacked``: settlements it has not acknowledged, by batch, ``owed`` in number.

    Of the batches with large payloads ``large_out`` were sent in this session, and ``large_unsent`` wait: their bytes.
    """

    __slots__ = (
        "adopted",
        "batch",
        "boot",
        "clock",
        "fresh",
        "large_out",
        "large_unsent",
        "owed",
        "session",
        "unacked",
        "window",
    )

    def __init__(self, session: RouterSession) -> None:
        self.session = session
        self.unacked: dict[int, list[Settlement]] = {}
        self.owed = 0
        self.large_out: dict[int, int] = {}
        self.large_unsent: dict[int, int] = {}
        self.fresh: list[Settlement] = []
        self.batch = 0
        self.clock = ClockDifference()
        self.window = 0  # as it was last told
        self.boot = 0  # which of its lives the last session was with
        self.adopted: dict[Peer, int] = {}  # routers whose deliveries are its own now, up to that life of theirs

    @property
    def peer(self) -> Peer:
        return self.session.peer
