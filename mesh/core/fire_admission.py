"""Which of what a leader fires is fired: what is its to say, was not fired before, and is granted where that is needed.

What was fired is behind the position of its entry, and refused: so each due time is fired once at most, whoever says it
and however often.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from mesh.clock import Now
from mesh.core.bids import Bids, fired_elsewhere
from mesh.core.commands import Complain, DueSpan
from mesh.core.events import BidAnswered, DueGrant
from mesh.core.firing import Firings
from mesh.core.lease import Lease
from mesh.core.ledger import Ledger
from mesh.core.peers import Session
from mesh.core.store_bids import AGAIN_S, PendingFire, StoreBids
from mesh.cron import SECOND_US
from mesh.entries import Entry, Firing
from mesh.messages import Fire, Fired
from mesh.model import Peer
from mesh.settings import Settings

BEHIND = "this due time is behind it"


class FireAdmission:
    """Of one router. ``no_room`` and ``owns`` as in ``Firings``.

    ``store_bids``: of a router whose store is another's, too, which fires nothing that the store has not granted.
    """

    def __init__(
        self,
        settings: Settings,
        entries: Mapping[str, Entry],
        lease: Lease,
        firings: Firings,
        no_room: Callable[[int], str | None],
        owns: Callable[[str], bool],
        bids: Bids,
        ledger: Ledger,
        counters: dict[str, int],
        store_bids: StoreBids | None,
    ) -> None:
        self._settings = settings
        self._entries = entries
        self._lease = lease
        self._firings = firings
        self._no_room = no_room
        self._owns = owns
        self._bids = bids
        self._ledger = ledger
        self._counters = counters
        self._store_bids = store_bids

    def on_fire(self, session: Session, message: Fire, now: Now) -> None:
        """Make the tasks of what is due, as far as it is the leader's to say and was not said before."""
        peer, firings = session.peer, message.firings
        if not self._lease.is_held(peer, message.term, now):
            self._counters["firings_stale"] += len(firings)
            text = f"{session.name} fired {len(firings)} due times in term {message.term}, which is over"
            self._ledger.add(Complain("stale firings", text))
            self._ledger.send_after_commit(peer, Fired(message.number, True, reason="another leads now, or nobody"))
            return
        reason = self._no_room(len(firings)) or ""
        if not reason:
            taken: list[Firing] = []
            last: dict[str, int] = {}
            for firing in firings:
                why = self._why_not(firing, now) or (BEHIND if firing.due_us <= last.get(firing.entry, 0) else None)
                if why is not None:
                    self._counters["firings_refused"] += 1
                    reason = reason or f"entry {firing.entry!r}: {why}"
                else:
                    last[firing.entry] = firing.due_us
                    taken.append(firing)
            if taken and self._store_bids is not None:
                if self._store_bids.pending is None:
                    self._store_bids.pending = PendingFire(peer, message, taken, now)
                    return
                reason = reason or "the store is being asked for due times before these"
            elif not (taken and self._bids.are_needed):
                self._firings.fire_all(taken, now)
            elif self._bids.out is None:
                self._bids.make(peer, message, taken, now)
                return
            else:
                reason = reason or "most of the routers are being asked for due times before these"
        self._answer(peer, message, reason)

    def _answer(self, peer: Peer, message: Fire, reason: str) -> None:
        if reason:
            self._ledger.add(Complain("refused firings", f"what a leader fired is not taken: {reason}"))
        names = dict.fromkeys(firing.entry for firing in message.firings)
        here = [name for name in names if name in self._entries and self._owns(name)]
        positions = [(name, self._firings.after_us(self._entries[name])) for name in here]
        self._ledger.send_after_commit(peer, Fired(message.number, False, positions, reason))

    def _why_not(self, firing: Firing, now: Now) -> str | None:
        if (why := self._why_unwanted(firing)) is not None:
            return why
        if not self._owns(firing.entry):
            return "another router fires it, or none may now"
        if firing.due_us <= self._firings.after_us(self._entries[firing.entry]):
            return BEHIND
        if firing.due_us > (now.wall + self._settings.schedule_ahead_s) * SECOND_US:
            return f"this due time is more than {self._settings.schedule_ahead_s:g} s ahead of the router's clock"
        return None

    def _why_unwanted(self, firing: Firing) -> str | None:
        entry = self._entries.get(firing.entry)
        if entry is None:
            return "it is gone"
        if entry.paused:
            return "it is paused"
        return None if firing.revised_at == entry.revised_at else "it was changed since"

    def _still_wanted(self, firings: Iterable[Firing]) -> tuple[list[Firing], str]:
        """Those of these whose entry is as it was when they were bid for; and why others are not."""
        wanted: list[Firing] = []
        reason = ""
        for firing in firings:
            if (why := self._why_unwanted(firing)) is None:
                wanted.append(firing)
            else:
                self._counters["firings_refused"] += 1
                reason = reason or f"entry {firing.entry!r}: {why}"
        return wanted, reason

    # what most of the routers grant

    def decide(self, now: Now) -> None:
        """Once it is decided, fire what was bid for, or tell the leader why not: it says it again."""
        decided = self._bids.take(now, lambda count: self._no_room(count) is None)
        if decided is None:
            return
        bid, granted = decided
        why = "most of the routers have not agreed to it"
        if granted:
            # Whatever others said meanwhile of how far these are: it was granted to us, so nobody else fires it.
            firings, why = self._still_wanted(bid.firings)
            self._firings.fire_all(firings, now)
        self._answer(bid.peer, bid.fire, why)

    # what the store grants

    def on_bid_answered(self, event: BidAnswered, now: Now) -> None:
        """Fire what the store has granted; what another router has fired is so here, too."""
        bids = self._store_bids
        assert bids is not None, "only a router that shares its store bids there"
        answers = list(zip(bids.take(event.number), event.grants, strict=True))
        due = {span.entry: grant for span, grant in answers if not span.queued}
        if bids.pending is not None and due:
            self._take_grants(bids, bids.pending, due, now)
        self._make_granted([(span, grant) for span, grant in answers if span.queued], now)

    def _take_grants(self, bids: StoreBids, pending: PendingFire, grants: Mapping[str, DueGrant], now: Now) -> None:
        why = self._no_room(len(pending.firings))
        if now.mono >= pending.stale_at:
            why = "the store was away, and what was missed is to be chosen anew"
        if why is not None:
            bids.give_back()
        else:
            self._fire_granted(pending, grants, now)
            if pending.firings and now.mono < pending.until:
                return
            why = pending.refused or ("another router is firing due times before these" if pending.firings else "")
        bids.pending = None
        self._answer(pending.peer, pending.fire, why)

    def _fire_granted(self, pending: PendingFire, grants: Mapping[str, DueGrant], now: Now) -> None:
        granted: list[Firing] = []
        elsewhere: dict[str, int] = {}
        left: list[Firing] = []
        for firing in pending.firings:
            grant = grants[firing.entry]
            if grant.is_granted:
                granted.append(firing)
            elif firing.due_us <= grant.done_us:
                elsewhere[firing.entry] = elsewhere.get(firing.entry, 0) + 1
            else:
                left.append(firing)
        for name, count in elsewhere.items():
            self._leave(name, grants[name].done_us, count)
        # Whatever others said meanwhile of how far these are: it was granted to us, so nobody else fires it.
        fired, why = self._still_wanted(granted)
        pending.refused = pending.refused or why
        self._firings.fire_all(fired, now)
        last = {firing.entry: firing.due_us for firing in fired}
        self._ledger.fired += [DueSpan(name, due_us, due_us) for name, due_us in last.items()]
        if len(fired) < len(granted) and self._store_bids is not None:
            self._store_bids.give_back()
        pending.firings = left
        is_held = any(not grants[firing.entry].done_us for firing in left)
        pending.ask_at = now.mono + AGAIN_S if is_held else now.mono

    def _leave(self, name: str, done_us: int, count: int) -> None:
        """Another router has fired ``count`` due times that we were to fire."""
        self._counters["firings_elsewhere"] += count
        position = self._firings.positions.get(name)
        if position is not None and position.last_due_us < done_us:
            self._firings.leave(fired_elsewhere(position, done_us, count))

    def _make_granted(self, answers: Sequence[tuple[DueSpan, DueGrant]], now: Now) -> None:
        """As ``_fire_granted``, of due times that waited for the task before them."""
        assert self._store_bids is not None
        made: list[str] = []
        for span, grant in answers:
            if not grant.is_granted and not grant.done_us:
                self._store_bids.queued_at = now.mono + AGAIN_S
            elif not self._firings.is_queued(span.entry, span.last_us) or (
                grant.is_granted and (self._entries[span.entry].paused or self._no_room(len(made) + 1) is not None)
            ):
                self._store_bids.give_back()
            elif grant.is_granted:
                made.append(span.entry)
                self._ledger.fired.append(span)
            else:
                self._counters["firings_elsewhere"] += 1
                self._firings.leave_queued(span.entry)
        self._firings.make_queued(made, now)

    # what waited for the task before

    def fire_queued(self, now: Now) -> None:
        """Fire the due times that waited; a shared store is asked first, for these and for what else is open."""
        queued = self._firings.ready_queued()
        if self._store_bids is None:
            self._firings.make_queued([name for name, _ in queued], now)
        else:
            self._store_bids.go_on(queued, now)
