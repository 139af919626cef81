"""A scheduler's decisions: for which routers this node leads, what is due there, and what it fires.

No I/O, no clock, no randomness. It lives beside the worker machine, in the same sessions. All that is known of a router
is void with the session or the term: the truth is the router's, and it tells it anew.

A leader that was stopped between its look at the clock and its FIRE does no harm, for the router refuses a term that is
over. So the time it trusts in, counted from before the asking, only saves work.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Sequence
from math import inf

from mesh.clock import Now
from mesh.core.catchup import choose, next_due_us
from mesh.core.commands import Command, Complain, Send
from mesh.core.events import Event, ExecutorStarted, MessageReceived, StopRequested
from mesh.core.packing import entry_bytes, pack
from mesh.cron import SECOND_US
from mesh.entries import Entry, Firing
from mesh.errors import ConfigError
from mesh.messages import AskLease, Declare, Entries, Fire, Fired, Leased, Shutdown
from mesh.model import Peer
from mesh.settings import Settings

RENEWALS = 3  # a lease is asked for so often in its time
MARGIN = 0.1  # of a lease's time: trusted in that much shorter than the router does
REFUSED_PAUSE_S = 1.0  # after a router took nothing, or not all, of a FIRE


class _Plan:
    """An entry, and what is due next of it. ``after_us``: all up to there is fired or left out."""

    __slots__ = ("after_us", "due_us", "entry", "skipped")

    def __init__(self, entry: Entry, after_us: int) -> None:
        self.entry = entry
        self.after_us = after_us
        self.due_us: int | None = None
        self.skipped = 0  # left out, and not told to the router yet


class _Side:
    """What is between this scheduler and one router. All times are monotonic, but for ``wall``."""

    def __init__(self, now: float) -> None:
        self.term = 0
        self.until = 0.0  # we trust to lead until then
        self.wall = 0.0  # the router's UTC seconds when our monotonic clock is 0
        self.asked_at = now
        self.is_asking = False
        self.ask_at = now
        self.plans: dict[str, _Plan] = {}
        self.heap: list[tuple[int, str]] = []  # due times; those that are no longer so are passed over
        self.number = 0
        self.fired: dict[str, Firing] = {}  # by the FIRE that is not answered: the last one of each entry
        self.pause_until = 0.0

    def forget(self) -> None:
        """Nothing that this router said of entries counts any more."""
        self.term = 0
        self.plans.clear()
        self.heap.clear()
        self.fired.clear()


class SchedulerMachine:
    """``sessions`` at each call: the routers there is a session with."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sides: dict[Peer, _Side] = {}
        self._app: str | None = None
        self._entries: list[Entry] = []
        self._loaded_at = 0.0  # monotonic
        self._stopping = False
        self._out: list[Command] = []

    # the machine

    def handle(self, events: Sequence[Event], sessions: Collection[Peer], now: Now) -> list[Command]:
        """Take in what happened and the time; return what is to be done about it, in order."""
        for peer in [peer for peer in self._sides if peer not in sessions]:
            del self._sides[peer]
        for event in events:
            if type(event) is MessageReceived:
                self._on_message(event, now)
            elif type(event) is ExecutorStarted and self._app is None and event.app is not None:
                self._app, self._entries, self._loaded_at = event.app, list(event.entries), now.mono
            elif type(event) is StopRequested:
                self._stop()
        if self._app is not None and not self._stopping:
            for peer in sessions:
                if peer not in self._sides:
                    self._sides[peer] = _Side(now.mono)
                    self._declare(peer, now)
            for peer, side in self._sides.items():
                self._tick(peer, side, now)
        out, self._out = self._out, []
        return out

    def next_deadline(self) -> float:
        """The monotonic second at which ``handle`` must be called even if nothing happens."""
        return inf if self._stopping else min(map(_deadline, self._sides.values()), default=inf)

    @property
    def leads(self) -> list[Peer]:
        """The routers that gave us their lease, as far as we know."""
        return [peer for peer, side in self._sides.items() if side.term]

    def _declare(self, peer: Peer, now: Now) -> None:
        assert self._app is not None
        loaded_at = max(0.0, now.wall - (now.mono - self._loaded_at))
        parts: list[Sequence[Entry]] = list(pack(self._entries, entry_bytes)) or [[]]
        for place, part in enumerate(parts, 1):
            first, last = place == 1, place == len(parts)
            self._out.append(Send(peer, Declare(self._app, loaded_at, list(part), first, last, now.wall)))

    def _tick(self, peer: Peer, side: _Side, now: Now) -> None:
        if now.mono >= side.ask_at and not side.is_asking:
            side.asked_at, side.is_asking = now.mono, True
            self._out.append(Send(peer, AskLease()))
        if side.term and not side.fired and side.pause_until <= now.mono < side.until:
            self._fire(peer, side, now)

    def _stop(self) -> None:
        """Let others lead."""
        if not self._stopping:
            self._stopping = True
            self._out += [Send(peer, AskLease(keep=False)) for peer in self._sides]
            self._sides.clear()

    # what routers say

    def _on_message(self, event: MessageReceived, now: Now) -> None:
        message = event.message
        verb = type(message)
        if verb is Shutdown:
            self._stop()
        side = self._sides.get(event.peer)
        if side is None:
            return
        if verb is Leased:
            self._on_leased(side, message, now)  # type: ignore[arg-type]
        elif verb is Entries:
            self._on_entries(side, message)  # type: ignore[arg-type]
        elif verb is Fired:
            self._on_fired(side, message, now)  # type: ignore[arg-type]

    def _on_leased(self, side: _Side, message: Leased, now: Now) -> None:
        # One that was not asked for may be taken for the answer to what is asked: it was said earlier, so the time
        # that is trusted in is no longer for that.
        side.ask_at = side.asked_at + message.ttl_s / RENEWALS if side.is_asking else now.mono
        side.is_asking = False
        side.until = side.asked_at + message.ttl_s * (1 - MARGIN)
        side.wall = message.at - now.mono
        if message.term != side.term:
            side.forget()
            side.term = message.term

    def _on_entries(self, side: _Side, message: Entries) -> None:
        if not side.term or message.term != side.term:
            return
        if message.first:
            side.plans.clear()
            side.heap.clear()
        for name in message.gone:
            side.plans.pop(name, None)
        for entry, after_us in message.entries:
            side.plans[entry.name] = plan = _Plan(entry, after_us)
            self._plan_next(side, plan)

    def _on_fired(self, side: _Side, message: Fired, now: Now) -> None:
        if message.number != side.number or not side.fired:
            return
        if message.stale:
            side.forget()
            side.ask_at = now.mono
            return
        fired = side.fired
        side.fired = {}
        taken = True
        for name, after_us in message.positions:
            plan = side.plans.get(name)
            if plan is None or plan.entry.revised_at != fired[name].revised_at:
                continue  # it was changed meanwhile, and we were told
            taken = taken and after_us >= fired[name].due_us
            plan.after_us = after_us
            self._plan_next(side, plan)
        if not taken:
            side.pause_until = now.mono + REFUSED_PAUSE_S
            side.ask_at = min(side.ask_at, now.mono)  # its clock may not be what we take it for

    # firing

    def _plan_next(self, side: _Side, plan: _Plan) -> None:
        plan.due_us = None
        if plan.entry.paused:
            return
        try:
            plan.due_us = next_due_us(plan.entry.schedule, plan.after_us)
        except ConfigError as error:
            self._complain(plan.entry, error)
        if plan.due_us is not None:
            heapq.heappush(side.heap, (plan.due_us, plan.entry.name))

    def _fire(self, peer: Peer, side: _Side, now: Now) -> None:
        """Say what is due by the router's clock: no more than fits a FIRE, the rest when that is answered."""
        now_us = round((side.wall + now.mono) * SECOND_US)
        most = self._settings.schedule_firings_max
        firings: list[Firing] = []
        while side.heap and side.heap[0][0] <= now_us and len(firings) < most:
            due_us, name = heapq.heappop(side.heap)
            plan = side.plans.get(name)
            if plan is not None and plan.due_us == due_us:
                firings += self._choose(side, plan, now_us, most - len(firings))
        if firings:
            side.number += 1
            side.fired = {firing.entry: firing for firing in firings}
            self._out.append(Send(peer, Fire(side.term, side.number, firings)))

    def _choose(self, side: _Side, plan: _Plan, now_us: int, most: int) -> Iterable[Firing]:
        """The firings of one entry that is due; with none of it, go on to what is due next."""
        entry = plan.entry
        plan.due_us = None
        try:
            chosen = choose(entry, plan.after_us, now_us, most)
        except ConfigError as error:
            self._complain(entry, error)
            return
        skipped, plan.skipped = plan.skipped + chosen.skipped, 0
        plan.after_us = chosen.after_us
        for due_us, is_late in chosen.firings:
            yield Firing(entry.name, due_us, skipped, is_late, entry.revised_at)
            skipped = 0
        if not chosen.firings:
            plan.skipped = skipped
            self._plan_next(side, plan)

    def _complain(self, entry: Entry, error: ConfigError) -> None:
        self._out.append(Complain("schedules", f"entry {entry.name!r} cannot be fired from here: {error}"))

    def check(self) -> None:
        """Raise ``AssertionError`` if an invariant is broken."""
        for side in self._sides.values():
            due = {plan.entry.name: plan.due_us for plan in side.plans.values() if plan.due_us is not None}
            assert set(due) <= {name for at, name in side.heap if due.get(name) == at}, (
                "something due is not waited for"
            )


def _deadline(side: _Side) -> float:
    deadline = inf if side.is_asking else side.ask_at
    if side.term and not side.fired and side.heap:
        due_at = max(side.heap[0][0] / SECOND_US - side.wall, side.pause_until)
        if due_at < side.until:
            return min(deadline, due_at)
    return deadline
