"""What a router asks of the store that it shares with others before it fires: to be granted the due times.

The store grants each to one bid, and a router has one out. What was granted is fired by the commit of the wake-up that
has the answer; what is not is free again with the next bid, as all is that was granted in a life that has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from mesh.clock import Now
from mesh.core.commands import BidAtStore, DueSpan
from mesh.core.ledger import Ledger
from mesh.entries import Firing
from mesh.messages import Fire
from mesh.model import Peer
from mesh.settings import Settings

AGAIN_S = 0.05  # what another router is firing at this moment is asked for again after that
PATIENCE_S = 0.5  # and for so long: it may be held up, and the leader has more to fire
STALE_S = 2.0  # an answer that comes later is none: the store was away, and what was missed the leader is to say anew


class PendingFire:
    """A FIRE that is not answered; ``firings``: those of it that are not decided."""

    def __init__(self, peer: Peer, fire: Fire, firings: list[Firing], now: Now) -> None:
        self.peer = peer
        self.fire = fire
        self.firings = firings
        self.refused = ""  # why some that were granted are not fired
        self.ask_at = now.mono
        self.until = now.mono + PATIENCE_S
        self.stale_at = now.mono + STALE_S


class StoreBids:
    """Of one router. ``boot`` tells the numbers of its bids from those of earlier lives."""

    def __init__(self, settings: Settings, boot: int, ledger: Ledger) -> None:
        self._most = settings.schedule_firings_max
        self._ledger = ledger
        self._number = boot << 32
        self._out: list[DueSpan] | None = None  # that the store was not heard of yet
        self.pending: PendingFire | None = None
        self.queued_at = -inf  # before that, no queued due time is asked for
        self._gives_back = False  # what was granted, and is not fired

    def go_on(self, queued: Sequence[tuple[str, int]], now: Now) -> None:
        """Ask for what is to be asked for now; ``queued``: due times that waited, by entry."""
        if self._out is not None:
            return
        spans: list[DueSpan] = []
        if self.pending is not None and now.mono >= self.pending.ask_at:
            dues: dict[str, list[int]] = {}
            for firing in self.pending.firings:
                dues.setdefault(firing.entry, []).append(firing.due_us)
            spans += [DueSpan(name, min(of), max(of)) for name, of in dues.items()]
        if now.mono >= self.queued_at:
            self.queued_at = -inf
            spans += [DueSpan(name, due_us, due_us, queued=True) for name, due_us in queued[: self._most]]
        if spans or self._gives_back:
            self._gives_back = False
            self._number += 1
            self._out = spans
            self._ledger.add(BidAtStore(self._number, spans))

    def take(self, number: int) -> list[DueSpan]:
        """What the bid of this number was for: the store has answered it."""
        assert number == self._number and self._out is not None, f"bid {number} is not out"
        spans, self._out = self._out, None
        return spans

    def give_back(self) -> None:
        """Something was granted that is not fired."""
        self._gives_back = True

    def next_deadline(self) -> float:
        """When ``go_on`` has something to ask for again."""
        if self._out is not None:
            return inf
        pending = self.pending.ask_at if self.pending is not None else inf
        return min(pending, self.queued_at if self.queued_at > -inf else inf)
