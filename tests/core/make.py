"""Builders for the tests of the role machines: small events, and a machine whose invariants are checked each step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mesh.clock import Now
from mesh.core.commands import Command, Send
from mesh.core.events import Event, MessageReceived
from mesh.core.router import RouterMachine
from mesh.messages import Hello, Message, Submit, Welcome, WorkerInfo
from mesh.model import Delivery, Ending, ErrorInfo, Peer, Retrying, Role, Settlement, TaskOptions, TaskSpec
from mesh.settings import Settings

WALL, MONO = 1_800_000_000.0, 1_000.0
WORK = TaskOptions("work")
C1, C2, W1, W2 = Peer(b"c1"), Peer(b"c2"), Peer(b"w1"), Peer(b"w2")
WELCOME = Welcome("r", "router", "0", "memory", boot=1)


def at(seconds: float) -> Now:
    """The time ``seconds`` after the start of a test."""
    return Now(WALL + seconds, MONO + seconds)


def got(peer: Peer, message: Message, role: Role | None = None) -> MessageReceived:
    return MessageReceived(peer, message, None, role)


def sent(commands: Sequence[Command], peer: Peer | None = None) -> list[Message]:
    """The messages among the commands, to one peer or to all."""
    return [c.message for c in commands if isinstance(c, Send) and (peer is None or c.peer == peer)]


class Driven:
    """A router machine, its clock in seconds from 0, and its invariants checked after each step."""

    def __init__(self, settings: Settings | None = None, **options: Any) -> None:
        self.machine = RouterMachine("r", "router", settings or Settings(), **options)
        self.seconds = 0.0
        self.set_s = 0.0  # by how much the clock on the wall was set

    def do(self, *events: Event, wait: float = 0.0) -> list[Command]:
        self.seconds += wait
        now = at(self.seconds)
        commands = self.machine.handle(events, Now(now.wall + self.set_s, now.mono))
        self.machine.check()
        return commands

    def hear(self, peer: Peer, *messages: Message, wait: float = 0.0) -> list[Command]:
        return self.do(*(got(peer, message) for message in messages), wait=wait)


def hello_client(node_id: str = "client") -> Hello:
    return Hello(Role.CLIENT, node_id, node_id, "3.11", "0")


def hello_worker(
    node_id: str = "worker",
    window: int = 1,
    *,
    held: Sequence[tuple[str, int]] = (),
    slots: int = 1,
    queues: Sequence[str] = ("default",),
    tasks: Sequence[str] = ("work",),
    python: str = "3.11",
    at_most_once: Sequence[str] = (),
) -> Hello:
    info = WorkerInfo(list(queues), list(tasks), slots, window, list(held), {}, list(at_most_once))
    return Hello(Role.WORKER, node_id, node_id, python, "0", info)


def submit(
    *ids: str,
    batch: int = 1,
    options: TaskOptions = WORK,
    repeated: bool = False,
    elsewhere: bool = False,
    **fields: Any,
) -> Submit:
    return Submit(batch, [options], [TaskSpec(i, 0, b"", **fields) for i in ids], repeated, elsewhere)


def delivery(task_id: str, attempt: int = 1, option: int = 1, **fields: Any) -> Delivery:
    return Delivery(task_id, option, attempt, b"", **fields)


def settlement(task_id: str, attempt: int = 1, ending: Ending = Ending.SUCCEEDED, **fields: Any) -> Settlement:
    if ending is Ending.RETRY:
        fields.setdefault("retry", Retrying(WALL))
    elif ending is Ending.LOST:
        fields.setdefault("error", ErrorInfo("WorkerLost", "executor of worker: SIGKILL"))
    return Settlement(task_id, attempt, ending, **fields)
