"""Who waits for the outcome of which unfinished task, besides the client that submitted it."""

from __future__ import annotations

from mesh.model import Peer


class Watching:
    """By task and by peer, so that either end can let go; holds nothing of tasks that are finished.

    ``peers``: by task id, who waits for it.
    """

    def __init__(self) -> None:
        self.peers: dict[str, list[Peer]] = {}
        self._tasks: dict[Peer, set[str]] = {}

    def count(self, peer: Peer) -> int:
        """How many tasks ``peer`` waits for."""
        return len(self._tasks.get(peer, ()))

    def of(self, peer: Peer) -> list[str]:
        """The tasks ``peer`` waits for."""
        return sorted(self._tasks.get(peer, ()))

    def add(self, peer: Peer, task_id: str) -> None:
        tasks = self._tasks.setdefault(peer, set())
        if task_id not in tasks:
            tasks.add(task_id)
            self.peers.setdefault(task_id, []).append(peer)

    def remove(self, peer: Peer, task_id: str) -> None:
        """``peer`` waits no longer for this task."""
        tasks = self._tasks.get(peer)
        if tasks is None or task_id not in tasks:
            return
        tasks.discard(task_id)
        if not tasks:
            del self._tasks[peer]
        peers = self.peers[task_id]
        peers.remove(peer)
        if not peers:
            del self.peers[task_id]

    def leave(self, peer: Peer) -> None:
        """``peer`` is gone."""
        for task_id in list(self._tasks.get(peer, ())):
            self.remove(peer, task_id)

    def finish(self, task_id: str) -> list[Peer]:
        """The task is finished: who is to be told."""
        peers = list(self.peers.get(task_id, ()))
        for peer in peers:
            self.remove(peer, task_id)
        return peers

    @property
    def watched(self) -> set[str]:
        """The tasks somebody waits for."""
        return set(self.peers)
