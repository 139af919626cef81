"""What a router asks of the others before it fires, where due times must not be fired twice: most of them must agree.

A router that grants a bid takes the due times for fired, whatever becomes of them: so it grants each once, and of two
routers that bid for one only one is granted it by most. What was granted and is not fired, for its router was killed or
parted just then, is missed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import inf

from msgspec.structs import replace

from mesh.clock import Now
from mesh.entries import Firing, Position, firing_id
from mesh.messages import Fire
from mesh.model import Peer, added
from mesh.settings import Settings


class Bid:
    """Of the due times in a FIRE: ``granted`` by these routers, and waited for until ``until`` (monotonic)."""

    def __init__(self, number: int, peer: Peer, fire: Fire, firings: list[Firing], until: float) -> None:
        self.number = number
        self.peer = peer
        self.fire = fire
        self.firings = firings
        self.until = until
        self.granted: set[str] = set()

    @property
    def dues(self) -> list[tuple[str, int]]:
        """What it is for: entries and due times."""
        return [(firing.entry, firing.due_us) for firing in self.firings]

    @property
    def entries(self) -> set[str]:
        """Whose due times it is for."""
        return {firing.entry for firing in self.firings}


class Bids:
    """Of one router, which has one bid out at a time. ``boot`` tells its numbers from those of earlier starts."""

    def __init__(self, settings: Settings, boot: int) -> None:
        self._settings = settings
        self._number = boot << 32
        self.out: Bid | None = None

    @property
    def are_needed(self) -> bool:
        """Whether nothing may be fired that is not granted."""
        return self._settings.schedule_partition == "majority"

    def make(self, peer: Peer, fire: Fire, firings: list[Firing], now: Now) -> None:
        """Bid for these, which the leader ``peer`` fires."""
        self._number += 1
        until = now.mono + self._settings.heartbeat_s
        self.out = Bid(self._number, peer, fire, firings, until)

    def grant(self, dues: Iterable[tuple[str, int]], positions: Mapping[str, Position]) -> list[Position] | None:
        """How far entries are, once another router is granted these due times; None: it is not."""
        by_entry: dict[str, list[int]] = {}
        for name, due_us in dues:
            by_entry.setdefault(name, []).append(due_us)
        if self.out is not None and self.out.entries & by_entry.keys():
            return None
        if any(name not in positions or min(of) <= positions[name].last_due_us for name, of in by_entry.items()):
            return None
        return [fired_elsewhere(positions[name], max(of), len(of)) for name, of in by_entry.items()]

    def on_granted(self, router: str, number: int) -> None:
        """Another router has granted the bid of this number."""
        if self.out is not None and self.out.number == number:
            self.out.granted.add(router)

    def take(self, now: Now, has_room: Callable[[int], bool]) -> tuple[Bid, bool] | None:
        """The bid that is decided now, and whether it is granted.

        One that is granted nobody else fires: it stays out until there is room for its firings.
        """
        bid = self.out
        if bid is None:
            return None
        granted = self._is_granted(bid)
        if not (has_room(len(bid.firings)) if granted else now.mono >= bid.until):
            return None
        self.out = None
        return bid, granted

    def _is_granted(self, bid: Bid) -> bool:
        return 2 * (1 + len(bid.granted)) > self._settings.schedule_routers

    def next_deadline(self) -> float:
        """When a bid is given up."""
        return self.out.until if self.out is not None and not self._is_granted(self.out) else inf


def fired_elsewhere(position: Position, due_us: int, count: int) -> Position:
    """As the router will say that fires ``count`` due times, ``due_us`` the last of them."""
    task_id = firing_id(position.entry, due_us)
    fired = added(position.fired, count)
    return replace(position, last_due_us=due_us, last_task=task_id, last_state="", fired=fired)
