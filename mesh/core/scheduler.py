"""A scheduler's decisions: for which routers this node leads, what is due there, and what it fires.

No I/O, no clock, no randomness. It lives beside the worker machine, in the same sessions. All that is known of a router
is void with the session or the term: the truth is the router's, and it tells it anew.

A leader that was stopped between its look at the clock and its FIRE does no harm, for the router refuses a term that is
over. So the time it trusts in, counted from before the asking, only saves work.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from math import inf

from mesh.clock import Now
from mesh.core.catchup import choose, next_due_us
from mesh.core.commands import Command, Complain, Send
from mesh.core.events import Event, ExecutorStarted, MessageReceived, StopRequested
from mesh.core.moments import Moments
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
    """An entry, of which all up to ``after_us`` is fired or left out."""

    __slots__ = ("after_us", "entry", "skipped")

    def __init__(self, entry: Entry, after_us: int) -> None:
        self.entry = entry
        self.after_us = after_us
        self.skipped = 0  # left out, and not told to the router yet


class _Router:
    """What is between this scheduler and one router. All times are monotonic, but for ``wall``."""

    def __init__(self, now: float) -> None:
        self.term = 0
        self.until = 0.0  # we trust to lead until then
        self.wall = 0.0  # the router's UTC seconds when our monotonic clock is 0
        self.asked_at = now
        self.is_asking = False
        self.ask_at = now
        self.plans: dict[str, _Plan] = {}
        self.dues = Moments[int]()  # what is due next of each
        self.number = 0
        self.fired: dict[str, Firing] = {}  # by the FIRE that is not answered: the last one of each entry
        self.pause_until = 0.0

    def forget(self) -> None:
        """Nothing that this router said of entries counts any more."""
        self.term = 0
        self.plans.clear()
        self.dues.clear()
        self.fired.clear()


class SchedulerMachine:
    """``sessions`` at each call: the routers there is a session with. ``leads``: else it only says what code it has."""

    def __init__(self, settings: Settings, *, leads: bool = True) -> None:
        self._settings = settings
        self._leads = leads
        self._routers: dict[Peer, _Router] = {}
        self._app: str | None = None
        self._entries: list[Entry] = []
        self._loaded_at = 0.0  # monotonic
        self._stopping = False
        self._out: list[Command] = []

    # the machine

    def handle(self, events: Sequence[Event], sessions: Collection[Peer], now: Now) -> list[Command]:
        """Take in what happened and the time; return what is to be done about it, in order."""
        for peer in [peer for peer in self._routers if peer not in sessions]:
            del self._routers[peer]
        for event in events:
            if type(event) is MessageReceived:
                self._on_message(event, now)
            elif type(event) is ExecutorStarted and self._app is None and event.app is not None:
                self._app, self._entries, self._loaded_at = event.app, list(event.entries), now.mono
            elif type(event) is StopRequested:
                self._stop()
        if self._app is not None and not self._stopping:
            for peer in sessions:
                if peer not in self._routers:
                    self._routers[peer] = _Router(now.mono)
                    self._declare(peer, now)
            if self._leads:
                for peer, router in self._routers.items():
                    self._tick(peer, router, now)
        out, self._out = self._out, []
        return out

    def next_deadline(self) -> float:
        """The monotonic second at which ``handle`` must be called even if nothing happens."""
        return inf if self._stopping or not self._leads else min(map(_deadline, self._routers.values()), default=inf)

    @property
    def leads(self) -> list[Peer]:
        """The routers that gave us their lease, as far as we know."""
        return [peer for peer, router in self._routers.items() if router.term]

    def _declare(self, peer: Peer, now: Now) -> None:
        assert self._app is not None
        loaded_at = max(0.0, now.wall - (now.mono - self._loaded_at))
        parts: list[Sequence[Entry]] = list(pack(self._entries, entry_bytes)) or [[]]
        for place, part in enumerate(parts, 1):
            first, last = place == 1, place == len(parts)
            self._out.append(Send(peer, Declare(self._app, loaded_at, list(part), first, last, now.wall)))

    def _tick(self, peer: Peer, router: _Router, now: Now) -> None:
        if now.mono >= router.ask_at and not router.is_asking:
            router.asked_at, router.is_asking = now.mono, True
            self._out.append(Send(peer, AskLease()))
        if router.term and not router.fired and router.pause_until <= now.mono < router.until:
            self._fire(peer, router, now)

    def _stop(self) -> None:
        """Let others lead."""
        if not self._stopping:
            self._stopping = True
            self._out += [Send(peer, AskLease(keep=False)) for peer in self._routers]
            self._routers.clear()

    # what routers say

    def _on_message(self, event: MessageReceived, now: Now) -> None:
        message = event.message
        verb = type(message)
        if verb is Shutdown:
            self._stop()
        router = self._routers.get(event.peer)
        if router is None:
            return
        if verb is Leased:
            self._on_leased(router, message, now)  # type: ignore[arg-type]
        elif verb is Entries:
            self._on_entries(router, message)  # type: ignore[arg-type]
        elif verb is Fired:
            self._on_fired(router, message, now)  # type: ignore[arg-type]

    def _on_leased(self, router: _Router, message: Leased, now: Now) -> None:
        # One that was not asked for may be taken for the answer to what is asked: it was said earlier, so the time
        # that is trusted in is no longer for that.
        router.ask_at = router.asked_at + message.ttl_s / RENEWALS if router.is_asking else now.mono
        router.is_asking = False
        router.until = router.asked_at + message.ttl_s * (1 - MARGIN)
        router.wall = message.at - now.mono
        if message.term != router.term:
            router.forget()
            router.term = message.term

    def _on_entries(self, router: _Router, message: Entries) -> None:
        if not router.term or message.term != router.term:
            return
        if message.first:
            router.plans.clear()
            router.dues.clear()
        for name in message.gone:
            router.plans.pop(name, None)
            router.dues.forget(name)
        for entry, after_us in message.entries:
            router.plans[entry.name] = plan = _Plan(entry, after_us)
            self._plan_next(router, plan)

    def _on_fired(self, router: _Router, message: Fired, now: Now) -> None:
        if message.number != router.number or not router.fired:
            return
        if message.stale:
            router.forget()
            router.ask_at = now.mono
            return
        fired = router.fired
        router.fired = {}
        taken = True
        for name, after_us in message.positions:
            plan = router.plans.get(name)
            firing = fired.get(name)
            if plan is None or firing is None or plan.entry.revised_at != firing.revised_at:
                continue  # it was changed meanwhile, and we were told
            taken = taken and after_us >= firing.due_us
            plan.after_us = after_us
            self._plan_next(router, plan)
        if not taken:
            router.pause_until = now.mono + REFUSED_PAUSE_S
            router.ask_at = min(router.ask_at, now.mono)  # its clock may not be what we take it for

    # firing

    def _plan_next(self, router: _Router, plan: _Plan) -> None:
        due_us = None
        if not plan.entry.paused:
            try:
                due_us = next_due_us(plan.entry.schedule, plan.after_us)
            except ConfigError as error:
                self._complain(plan.entry, error)
        if due_us is None:
            router.dues.forget(plan.entry.name)
        else:
            router.dues.put(plan.entry.name, due_us)

    def _fire(self, peer: Peer, router: _Router, now: Now) -> None:
        """Say what is due by the router's clock: no more than fits a FIRE, the rest when that is answered."""
        now_us = round((router.wall + now.mono) * SECOND_US)
        most = self._settings.schedule_firings_max
        firings: list[Firing] = []
        while len(firings) < most:
            due_us, name = router.dues.first(), router.dues.take(now_us)
            if due_us is None or name is None:
                break
            firings += self._choose(router, router.plans[name], due_us, now_us, most - len(firings))
        if firings:
            router.number += 1
            router.fired = {firing.entry: firing for firing in firings}
            self._out.append(Send(peer, Fire(router.term, router.number, firings)))

    def _choose(self, router: _Router, plan: _Plan, due_us: int, now_us: int, most: int) -> Iterable[Firing]:
        """The firings of one entry that is due; with none of it, go on to what is due next."""
        entry = plan.entry
        try:
            chosen = choose(entry, plan.after_us, due_us, now_us, most)
        except ConfigError as error:
            self._complain(entry, error)
            return
        skipped, plan.skipped = plan.skipped + chosen.skipped, 0
        plan.after_us = chosen.after_us
        for at_us, is_late in chosen.firings:
            yield Firing(entry.name, at_us, skipped, is_late, entry.revised_at)
            skipped = 0
        if not chosen.firings:
            plan.skipped = skipped
            self._plan_next(router, plan)

    def _complain(self, entry: Entry, error: ConfigError) -> None:
        self._out.append(Complain("schedules", f"entry {entry.name!r} cannot be fired from here: {error}"))

    def check(self) -> None:
        """Raise ``AssertionError`` if an invariant is broken."""
        for router in self._routers.values():
            assert all(name in router.plans for name in router.dues), "something is due that is not there"


def _deadline(router: _Router) -> float:
    deadline = inf if router.is_asking else router.ask_at
    due_us = router.dues.first() if router.term and not router.fired else None
    if due_us is not None:
        due_at = max(due_us / SECOND_US - router.wall, router.pause_until)
        if due_at < router.until:
            return min(deadline, due_at)
    return deadline
