"""Builders for the tests of periodic tasks at a router: entries, and a router with two workers, one of which leads."""

from __future__ import annotations

from typing import Any

import msgspec

from mesh.core.commands import BidAtStore, Complain
from mesh.core.events import BidAnswered, DueGrant
from mesh.entries import Entry, Firing
from mesh.messages import AskLease, Declare, Fire, Fired, Reply, Schedule
from mesh.model import TaskOptions
from mesh.schedules import Every, microseconds
from mesh.settings import Settings
from tests.core.make import C1, W1, W2, WALL, Driven, hello_client, hello_worker, sent

TTL = 10.0  # of a lease, as it is set


def due(seconds: float) -> int:
    """The due time so many seconds after the test began."""
    return microseconds(WALL + seconds)


def entry(name: str = "e", seconds: float = 10.0, **fields: Any) -> Entry:
    return Entry(name, Every(seconds), TaskOptions("work"), **fields)


def declare(app: str, loaded_at: float, entries: list[Entry], **fields: Any) -> Declare:
    """Said just now, of code that was loaded so many seconds after some moment."""
    return Declare(app, loaded_at, entries, at=1_000.0, **fields)


class Periodic(Driven):
    """A router with workers, the first of which leads."""

    def __init__(self, *entries: Entry, settings: Settings | None = None, **options: Any) -> None:
        super().__init__(settings or Settings(heartbeat_s=1_000.0, schedule_lease_ttl_s=1_000.0), **options)
        for peer, name in ((W1, "one"), (W2, "two")):
            self.hear(peer, hello_worker(name, window=0))
        self.hear(W1, declare("app", 1.0, list(entries)))
        self.hear(W2, AskLease())  # it leads, and lets go
        self.hear(W1, AskLease())
        self.hear(W2, AskLease(keep=False))
        self.number = self.requests = 0
        self.started: list[Any] = []  # what was to be done at a start

    @property
    def term(self) -> int:
        return self.machine.periodic.lease.term

    def fire(self, *dues: int, name: str = "e", peer: Any = W1, term: int | None = None, **fields: Any) -> Fired:
        known = self.machine.periodic.book.entries.get(name)
        fields = {"revised_at": known.revised_at if known is not None else 0.0, **fields}
        self.number += 1
        firings = [Firing(name, at, **fields) for at in dues]
        self.commands = self.granted(self.hear(peer, Fire(self.term if term is None else term, self.number, firings)))
        (answer,) = (message for message in sent(self.commands, peer) if isinstance(message, Fired))
        return answer

    def granted(self, commands: list[Any]) -> list[Any]:
        """A shared store grants whatever it was asked for."""
        for bid in [command for command in commands if isinstance(command, BidAtStore)]:
            commands = commands + self.do(BidAnswered(bid.number, [DueGrant(True)] * len(bid.spans)))
        return commands

    def tasks(self) -> list[str]:
        return list(self.machine.table.tasks)

    def position(self, name: str = "e") -> Any:
        return self.machine.periodic.firings.positions[name]


def said(mesh: Periodic) -> list[tuple[str, bool]]:
    """What was told of the last FIRE, and whether something is wrong."""
    return [(command.text, command.is_wrong) for command in mesh.commands if isinstance(command, Complain)]


def one(messages: list[Any], kind: type) -> Any:
    (found,) = (message for message in messages if isinstance(message, kind))
    return found


def ask(mesh: Periodic, operation: str, *names: str, entries: Any = (), again: bool = False) -> Any:
    """What a client is answered; ``again``: it says the last once more, in a new session."""
    if again or C1 not in mesh.machine.clients:
        mesh.hear(C1, hello_client())
    mesh.requests += not again
    reply = one(sent(mesh.hear(C1, Schedule(mesh.requests, operation, list(names), list(entries))), C1), Reply)
    assert reply.request == mesh.requests
    return msgspec.json.decode(reply.body)
