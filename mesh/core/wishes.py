"""What a client wants routers to do, kept while they are not there: cancels, forgetting, queries, entries."""

from __future__ import annotations

from mesh.messages import Cancel, Message, Query, Schedule, Unwatch
from mesh.model import Peer

WISHES_MAX = 100_000  # ids to be cancelled or forgotten, and queries, kept for routers


Wish = tuple[int, int, Message]
"""What a router is to be told, after the number of the last batch before it, and its own."""


class Wishes:
    """By the router they are kept for; those of None are for the next home."""

    def __init__(self) -> None:
        self._by_router: dict[Peer | None, list[Wish]] = {}
        self._ids = 0  # in them
        self._made = 0

    def keep(self, router: Peer | None, batch: int, message: Message) -> str | None:
        """Keep it for this router, to be told after this batch; why not, where there are too many."""
        self._made += 1
        return self._add(router, (batch, self._made, message))

    def _add(self, router: Peer | None, wish: Wish) -> str | None:
        message = wish[-1]
        size = _size(message)
        if self._ids + size > WISHES_MAX:
            what = type(message).__name__.lower()
            return f"{self._ids} ids are to be cancelled or forgotten once a router is there; this {what} is not kept"
        self._ids += size
        self._by_router.setdefault(router, []).append(wish)
        return None

    def pass_on(self, router: Peer, *, for_good: bool) -> str | None:
        """Keep what is kept for this router for the next home, too, or ``for_good`` instead; why not all of it."""
        passed = self.take(router) if for_good else self.of(router)[:]
        return next((why for wish in passed if (why := self._add(None, wish)) is not None), None)

    def of(self, router: Peer) -> list[Wish]:
        """What is kept for it."""
        return self._by_router.get(router, [])

    def take(self, *routers: Peer | None) -> list[Wish]:
        """Keep no longer what is kept for these: all of it, in the order in which it was wished."""
        taken = [wish for router in routers for wish in self._by_router.pop(router, ())]
        self._ids -= sum(_size(message) for _, _, message in taken)
        return sorted(taken, key=lambda wish: wish[:2])

    def give_up(self, request: int) -> None:
        """Nobody waits for the answer to this."""
        for wish in self.take(None):
            message = wish[-1]
            if not (isinstance(message, Query | Schedule) and message.request == request):
                self._add(None, wish)

    def check(self) -> None:
        """Raise ``AssertionError`` unless they are counted right."""
        assert self._ids == sum(_size(message) for kept in self._by_router.values() for _, _, message in kept)


def _size(message: Message) -> int:
    return len(message.ids) if isinstance(message, (Cancel, Unwatch)) else 1
