"""Batches that were out at a router when it refused a message: it cannot read one of them, and does not say which.

They are sent to it one by one; the next refusal then names the one to give up. Until all of them are answered that
router is told of nothing else. Other routers have nothing to do with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mesh.model import Peer


class Suspects:
    """``by_router``: the numbers of suspect batches, the one that is out first; never empty."""

    def __init__(self) -> None:
        self.by_router: dict[Peer, list[int]] = {}
        self._refusals: dict[Peer, int] = {}  # of messages, since one taught us something

    def first(self, router: Peer) -> int | None:
        """The one that is out, or is to be sent next, while there are any."""
        numbers = self.by_router.get(router)
        return numbers[0] if numbers else None

    def accuse(self, router: Peer, numbers: Sequence[int]) -> int:
        """It refused a message while these were out; how often it did so before with none out, and taught us nothing.

        With some out the next refusal names one: so it is asked again before it can count as gone.
        """
        if numbers:
            self.by_router[router] = list(numbers)
            self.relent(router)
            return 0
        refusals = self._refusals.get(router, 0)
        self._refusals[router] = refusals + 1
        return refusals

    def relent(self, router: Peer) -> None:
        """What it refuses is being found out: ask it again soon."""
        self._refusals.pop(router, None)

    def clear(self, router: Peer, number: int) -> bool:
        """This one is answered; whether the next may be sent."""
        numbers = self.by_router.get(router)
        if numbers is None or number not in numbers:
            return False
        first = numbers[0] == number
        numbers.remove(number)
        if not numbers:
            del self.by_router[router]
        return first

    def acquit(self, router: Peer) -> None:
        """What was sent to it is another's, or is sent to it anew."""
        self.by_router.pop(router, None)

    def forget(self, router: Peer) -> None:
        """It is no more."""
        self.acquit(router)
        self.relent(router)

    def check(self, out: Iterable[tuple[Peer, int]]) -> None:
        """Raise ``AssertionError`` unless all are among what is ``out``: pairs of a router and a batch."""
        mine = {(router, number) for router, numbers in self.by_router.items() for number in numbers}
        assert mine <= set(out), "a suspect that is not at its router"
        assert all(self.by_router.values())
