"""Cancels all that waits in queues, a bounded part of it in each wake-up: a purge of millions stops nobody."""

from __future__ import annotations

from itertools import chain, islice

import msgspec
from msgspec import Struct

from mesh.clock import Now
from mesh.core.ledger import Ledger
from mesh.core.room import Room
from mesh.core.states import CANCELLED
from mesh.core.tasks import TaskTable
from mesh.messages import Query, Reply
from mesh.model import Peer

PURGES_MAX = 100
PURGE_AT_ONCE = 20_000  # tasks cancelled in one wake-up


class Purge(Struct):
    """One that is under way. What came in after it began, behind the order ``last``, is none of its own."""

    peer: Peer
    request: int
    queues: list[str]
    last: int
    done: int = 0


class Purges:
    """Those that are under way, oldest first."""

    def __init__(self, table: TaskTable, ledger: Ledger, room: Room) -> None:
        self._table = table
        self._ledger = ledger
        self._room = room
        self._open: list[Purge] = []

    def __bool__(self) -> bool:
        return bool(self._open)

    def begin(self, peer: Peer, query: Query) -> None:
        """Take on a purge of the queues named in ``query``, of all where it names none.

        It is refused while the store takes nothing: done later, it would be done to whom nobody waits for any more.
        """
        if self._room.halted:
            answer = {"error": f"nothing is purged: {self._room.why}", "code": "overloaded"}
        elif len(self._open) >= PURGES_MAX:
            answer = {"error": f"{PURGES_MAX} purges are under way already; try again later", "code": "overloaded"}
        else:
            self._open.append(Purge(peer, query.request, query.arguments, self._table.last_order))
            return
        self._ledger.send(peer, Reply(query.request, msgspec.json.encode(answer)))

    def go_on(self, now: Now) -> None:
        """Cancel the next part of the oldest purge."""
        purge = self._open.pop(0)
        lanes = (lane for lane in self._table.ready if not purge.queues or lane.queue in purge.queues)
        waiting = (task for task in chain.from_iterable(lanes) if task.order <= purge.last)
        part = list(islice(waiting, PURGE_AT_ONCE))
        for task in part:
            self._table.end(task, CANCELLED, now)
        purge.done += len(part)
        if len(part) == PURGE_AT_ONCE:
            self._open.append(purge)
        else:
            self._ledger.send_after_commit(
                purge.peer, Reply(purge.request, msgspec.json.encode({"purged": purge.done}))
            )
