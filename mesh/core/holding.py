"""The deliveries that a worker node answers for: those that wait, and those that an executor has."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from mesh.core.executors import Held
from mesh.model import Delivery, Peer, TaskOptions


class Holding:
    """``held``: by task id, all we answer for. ``waiting``: not in an executor; may hold some that we gave up."""

    def __init__(self) -> None:
        self.held: dict[str, Held] = {}
        self.waiting: deque[Held] = deque()
        self.id_bytes = 1  # of the longest id seen

    def add(self, router: Peer, deliveries: list[Delivery], options: Mapping[int, TaskOptions]) -> None:
        """Take what a router delivers; it waits behind what waits already."""
        held, waiting = self.held, self.waiting
        for delivery in deliveries:
            one = Held(router, delivery, options[delivery.option])
            held[delivery.id] = one
            waiting.append(one)
        ids = [delivery.id for delivery in deliveries]
        if ids:
            self.id_bytes = max(self.id_bytes, max(map(len, ids)) * (1 if "".join(ids).isascii() else 4))

    def answers_for(self, one: Held) -> bool:
        """Whether this delivery is still ours to settle."""
        return self.held.get(one.delivery.id) is one

    def give_up(self, one: Held) -> None:
        """It is settled, given back, or another's now."""
        if self.answers_for(one):
            del self.held[one.delivery.id]

    def put_first(self, back: Iterable[Held]) -> None:
        """These wait again, in this order, before all others."""
        self.waiting.extendleft(reversed(list(back)))

    def take_last(self, router: Peer, count: int) -> list[Held]:
        """Take up to ``count`` of those of this router that would have been run last."""
        taken: list[Held] = []
        kept: list[Held] = []
        while self.waiting and len(taken) < count:
            one = self.waiting.pop()
            if self.answers_for(one):
                (taken if one.router == router else kept).append(one)
        self.waiting.extend(reversed(kept))
        return taken

    def of(self, router: Peer) -> list[Held]:
        """All we answer for to this router, oldest first."""
        return [one for one in self.held.values() if one.router == router]
