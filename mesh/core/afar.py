"""Tasks of other routers on the same store that a client of this one waits for: the others are asked, and it is told.

The store has their outcomes when there are any, but not who works at what. A client that reaches all routers asks them
itself, and hears of it here a second time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mesh.core.commands import AskOthers, LookUpOutcomes
from mesh.core.ledger import Ledger
from mesh.core.packing import pack, text_bytes
from mesh.core.tasks import TaskTable
from mesh.messages import Unknown
from mesh.model import Peer
from mesh.settings import Settings


class Afar:
    """``others``: how many routers are connected."""

    def __init__(self, settings: Settings, table: TaskTable, ledger: Ledger) -> None:
        self._most = settings.watched_ids_max
        self._table = table
        self._ledger = ledger
        self._peers: dict[str, dict[Peer, None]] = {}
        self.others = 0

    def ask(self, peer: Peer, ids: Sequence[str]) -> list[str]:
        """Ask the other routers for these, that ``peer`` waits for; those that nobody can be asked for."""
        if not self.others:
            return list(ids)
        room = max(0, self._most - len(self._peers))
        asked, rest = ids[:room], list(ids[room:])
        for task_id in asked:
            self._peers.setdefault(task_id, {})[peer] = None
        if asked:
            self._ledger.add(AskOthers(list(asked), wait=False))
        return rest

    def forget(self, peer: Peer, ids: Iterable[str]) -> None:
        """``peer`` waits for these no longer."""
        for task_id in ids:
            peers = self._peers.get(task_id)
            if peers is not None:
                peers.pop(peer, None)
                if not peers:
                    del self._peers[task_id]

    def look_up(self, ids: Iterable[str]) -> None:
        """These have ended, or are here now: whoever waits for them has what the store says, or is told by us."""
        for peer, known in self._take(ids).items():
            self._ledger.add(LookUpOutcomes(peer, known))

    def look_here(self) -> None:
        """Tasks have come from elsewhere."""
        self.look_up([task_id for task_id in self._peers if task_id in self._table.tasks])

    def deny(self, ids: Iterable[str]) -> None:
        """No other router knows these."""
        for peer, unknown in self._take(ids).items():
            for part in pack(unknown, text_bytes):
                self._ledger.send(peer, Unknown(list(part)))

    def _take(self, ids: Iterable[str]) -> dict[Peer, list[str]]:
        taken: dict[Peer, list[str]] = {}
        for task_id in ids:
            for peer in self._peers.pop(task_id, ()):
                taken.setdefault(peer, []).append(task_id)
        return taken
