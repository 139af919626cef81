"""What a router knows of the nodes that have a session with it."""

from __future__ import annotations

from mesh.core.clocks import ClockDifference
from mesh.core.queues import Need
from mesh.core.record import TaskRecord
from mesh.messages import Hello, WorkerInfo
from mesh.model import Peer, Role


class Session:
    """A node that said HELLO: who it is, and when it was last heard (monotonic seconds)."""

    __slots__ = ("clock", "heard", "name", "node_id", "peer", "python", "role", "since", "told", "version")

    def __init__(self, peer: Peer, hello: Hello, role: Role, now: float) -> None:
        self.peer = peer
        self.role = role
        self.node_id = hello.node_id
        self.name = hello.name
        self.python = hello.python
        self.version = hello.version
        self.since = now
        self.heard = now
        self.clock = ClockDifference()
        self.told = now  # when it was last sent a heartbeat


class Worker(Session):
    """A worker node: what it can run, what it holds, and how much more it will take."""

    __slots__ = (
        "_tasks",
        "acks",
        "at_most_once",
        "draining",
        "info",
        "leases",
        "recalled",
        "settled",
        "window",
    )

    def __init__(self, peer: Peer, hello: Hello, info: WorkerInfo, now: float) -> None:
        super().__init__(peer, hello, Role.WORKER, now)
        self.leases: dict[str, TaskRecord] = {}
        self.window = max(0, info.window)
        self.draining = False
        self.recalled = False  # a RECALL is unanswered
        self.settled = 0
        self.acks: list[int] = []  # batches of settlements, not yet acknowledged
        self.introduce(hello, info)

    def introduce(self, hello: Hello, info: WorkerInfo) -> None:
        """Take over what a HELLO says, the first or a later one."""
        self.info = info
        self.python = hello.python
        self.window = max(0, info.window)
        self._tasks = frozenset(info.tasks)
        self.at_most_once = frozenset(info.at_most_once)
        self.recalled = False

    @property
    def slots(self) -> int:
        return max(1, self.info.slots)

    @property
    def held(self) -> int:
        return len(self.leases)

    @property
    def credit(self) -> int:
        """How many more deliveries it has promised to accept."""
        return 0 if self.draining else max(0, self.window - len(self.leases))

    def lack(self, queue: str, need: Need) -> str | None:
        """Why it cannot run such a task; None when it can."""
        if queue not in self.info.queues:
            return f"no worker serves queue {queue!r}"
        if need.name in self._tasks:
            return None
        if need.function is None:
            return f"no worker of queue {queue!r} knows task {need.name!r}"
        if need.python != self.python:
            return f"no worker of queue {queue!r} has Python {need.python}, which the shipped {need.name!r} needs"
        return None
