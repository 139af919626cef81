"""Makes tasks of due times: each due time of an entry at most one, whoever fires it and however often.

An entry's position only grows, and goes into the commit that has the task: so what was fired is behind it, and refused.
Whether the task of the due time before is finished is judged here, where the truth about it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from msgspec.structs import replace

from mesh.clock import Now
from mesh.core.bids import Bid, Bids, fired_elsewhere
from mesh.core.commands import Complain, DueSpan
from mesh.core.events import BidAnswered, DueGrant
from mesh.core.lease import Lease
from mesh.core.ledger import Ledger
from mesh.core.peers import Session
from mesh.core.store_bids import AGAIN_S, PendingFire, StoreBids
from mesh.core.tasks import TaskTable
from mesh.cron import SECOND_US
from mesh.entries import (
    Entry,
    Firing,
    Position,
    firing_id,
    first_position,
    jitter_s,
    merged_position,
    trigger_id,
)
from mesh.messages import Fire, Fired, Submit
from mesh.model import Peer, TaskOptions, TaskSpec, added
from mesh.schedules import microseconds
from mesh.settings import Settings

BEHIND = "this due time is behind it"
LOST_NAMED = 10  # entries that one line names
Made = list[tuple[TaskOptions, TaskSpec]]


class Firings:
    """The positions of all entries. ``no_room(count)``: why so many new tasks cannot be taken now.

    ``owns(entry)``: whether it is for this router to fire it, and not for another. ``store_bids``: of a router whose
    store is another's, too, which fires nothing that the store has not granted.
    """

    def __init__(
        self,
        settings: Settings,
        entries: Mapping[str, Entry],
        lease: Lease,
        table: TaskTable,
        no_room: Callable[[int], str | None],
        owns: Callable[[str], bool],
        bids: Bids,
        ledger: Ledger,
        counters: dict[str, int],
        store_bids: StoreBids | None = None,
    ) -> None:
        self._settings = settings
        self._store_bids = store_bids
        self._lease = lease
        self._table = table
        self._no_room = no_room
        self._owns = owns
        self._bids = bids
        self._ledger = ledger
        self._counters = counters
        self._entries = entries
        self.positions: dict[str, Position] = {}
        self._tracked: dict[str, str] = {}  # the last task of an entry, while it is not finished, and the entry
        self._lost: list[str] = []  # entries whose positions the store had not
        self._queued: dict[str, None] = {}  # entries whose last task is finished, and whose queued due time is to fire

    def restore(self, positions: Iterable[Position]) -> None:
        """Begin with what the store had; the entries and the unfinished tasks are there already."""
        found = {position.entry: position for position in positions}
        for name, entry in self._entries.items():
            if name not in found:
                self._lost.append(name)
            position = found.get(name) or first_position(entry)
            self.positions[name] = position
            if position.last_task in self._table.tasks:
                self._tracked[position.last_task] = name
            elif position.queued_due_us is not None:
                self._queued[name] = None

    def begin(self, now: Now) -> None:
        """Let entries of which the store does not say how far they had come begin now: nothing is fired twice."""
        for name in self._lost:
            begun = Position(name, microseconds(now.wall))
            self._set(replace(begun, last_due_us=max(begun.last_due_us, self.after_us(self._entries[name]))))
        if self._lost:
            names = ", ".join(map(repr, self._lost[:LOST_NAMED]))
            more = f" and {len(self._lost) - LOST_NAMED} more" if len(self._lost) > LOST_NAMED else ""
            why = "the store does not say how far they had come, so they begin now; nothing missed is made good"
            self._ledger.add(Complain("positions", f"entries {names}{more}: {why}"))
        self._lost = []

    def keep(self, entry: Entry) -> None:
        """There is such an entry now: a new one begins here, one that was changed goes on from where it was."""
        position = self.positions.get(entry.name)
        if position is None:
            self._set(first_position(entry))
        elif position.queued_due_us is not None and position.last_task not in self._tracked:
            self._queued[entry.name] = None  # it may have been paused

    def drop(self, name: str) -> None:
        """There is no such entry any more."""
        position = self.positions.pop(name)
        self._ledger.positions.pop(name, None)
        self._tracked.pop(position.last_task, None)
        self._queued.pop(name, None)

    def merge(self, heard: Position) -> bool:
        """Another router has come so far with an entry; whether that is news."""
        known = self.positions.get(heard.entry)
        if known is None or (merged := merged_position(known, heard)) == known:
            return False
        if merged.last_task != known.last_task:
            self._tracked.pop(known.last_task, None)
            if merged.last_task in self._table.tasks:
                self._tracked[merged.last_task] = merged.entry
        if merged.queued_due_us is not None and merged.last_task not in self._tracked:
            self._queued[merged.entry] = None
        self._set(merged)
        return True

    def adopt(self, ids: Collection[str]) -> None:
        """These tasks of another router are here now: those it fired last are to end before what may not overlap."""
        for name, position in self.positions.items():
            if position.last_task in ids and position.last_task in self._table.tasks:
                self._tracked[position.last_task] = name
                self._queued.pop(name, None)

    def after_us(self, entry: Entry) -> int:
        """What is due next of an entry is due after that."""
        return max(self.positions[entry.name].last_due_us, microseconds(entry.revised_at), entry.after_us)

    def fired_us(self, name: str) -> int:
        """Up to when an entry was due and that was dealt with; 0 where it was not due yet."""
        position = self.positions[name]
        return position.last_due_us if position.was_due else 0

    def is_under_way(self, name: str) -> bool:
        """Whether the last task of an entry is not finished, or another waits for it."""
        position = self.positions[name]
        return position.last_task in self._tracked or position.queued_due_us is not None

    def miss(self, entry: Entry, due_us: int) -> None:
        """This due time was not fired, and will not be."""
        self._tell_missed(entry, Firing(entry.name, due_us, skipped=1))

    # firing

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
                self._fire_all(taken, now)
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
        positions = [(name, self.after_us(self._entries[name])) for name in here]
        self._ledger.send_after_commit(peer, Fired(message.number, False, positions, reason))

    def _fire_all(self, firings: Iterable[Firing], now: Now) -> None:
        """Fire these, of one entry the earliest first."""
        made: Made = []
        for firing in firings:
            self._fire(firing, made, now)
        self._accept(made, now)

    def _decide(self, bid: Bid, granted: bool, now: Now) -> None:
        """Fire what was bid for, or tell the leader why not: it says it again."""
        why = "most of the routers have not agreed to it"
        if granted:
            # Whatever others said meanwhile of how far these are: it was granted to us, so nobody else fires it.
            firings, why = self._still_wanted(bid.firings)
            self._fire_all(firings, now)
        self._answer(bid.peer, bid.fire, why)

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

    def _why_unwanted(self, firing: Firing) -> str | None:
        entry = self._entries.get(firing.entry)
        if entry is None:
            return "it is gone"
        if entry.paused:
            return "it is paused"
        return None if firing.revised_at == entry.revised_at else "it was changed since"

    def on_bid_answered(self, event: BidAnswered, now: Now) -> None:
        """Fire what the store has granted; what another router has fired is so here, too."""
        bids = self._store_bids
        assert bids is not None, "only a router that shares its store bids there"
        answers = list(zip(bids.take(event.number), event.grants, strict=True))
        due = {span.entry: grant for span, grant in answers if not span.queued}
        pending = bids.pending
        if pending is not None and due and now.mono >= pending.stale_at:
            bids.pending = None
            bids.give_back()
            self._answer(pending.peer, pending.fire, "the store was away, and what was missed is to be chosen anew")
        elif pending is not None and due and (full := self._no_room(len(pending.firings))) is not None:
            bids.pending = None
            bids.give_back()
            self._answer(pending.peer, pending.fire, full)
        elif pending is not None and due:
            self._fire_granted(pending, due, now)
            if not pending.firings or now.mono >= pending.until:
                bids.pending = None
                held = "another router is firing due times before these" if pending.firings else ""
                self._answer(pending.peer, pending.fire, pending.refused or held)
        self._make_granted([(span, grant) for span, grant in answers if span.queued], now)

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
            self._pass(name, grants[name].done_us, count)
        # Whatever others said meanwhile of how far these are: it was granted to us, so nobody else fires it.
        fired, why = self._still_wanted(granted)
        pending.refused = pending.refused or why
        self._fire_all(fired, now)
        last = {firing.entry: firing.due_us for firing in fired}
        self._ledger.fired += [DueSpan(name, due_us, due_us) for name, due_us in last.items()]
        if len(fired) < len(granted) and self._store_bids is not None:
            self._store_bids.give_back()
        pending.firings = left
        is_held = any(not grants[firing.entry].done_us for firing in left)
        pending.ask_at = now.mono + AGAIN_S if is_held else now.mono

    def _pass(self, name: str, done_us: int, count: int) -> None:
        """Another router has fired ``count`` due times that we were to fire."""
        self._counters["firings_elsewhere"] += count
        position = self.positions.get(name)
        if position is not None and position.last_due_us < done_us:
            self._tracked.pop(position.last_task, None)
            self._set(fired_elsewhere(position, done_us, count))

    def _make_granted(self, answers: Sequence[tuple[DueSpan, DueGrant]], now: Now) -> None:
        """As ``_fire_granted``, of due times that waited for the task before them."""
        assert self._store_bids is not None
        made: list[str] = []
        for span, grant in answers:
            position = self.positions.get(span.entry)
            if not grant.is_granted and not grant.done_us:
                self._store_bids.queued_at = now.mono + AGAIN_S
            elif (
                span.entry not in self._queued
                or position is None
                or position.queued_due_us != span.last_us
                or (grant.is_granted and (self._entries[span.entry].paused or self._no_room(len(made) + 1) is not None))
            ):
                self._store_bids.give_back()
            elif grant.is_granted:
                made.append(span.entry)
                self._ledger.fired.append(span)
            else:
                self._counters["firings_elsewhere"] += 1
                del self._queued[span.entry]
                self._set(replace(position, queued_due_us=None, fired=position.fired + 1))
        self._make_queued(made, now)

    def grant(self, dues: Sequence[tuple[str, int]]) -> bool:
        """Let another router fire these due times: here they count as fired. Whether it may."""
        moved = self._bids.grant(dues, self.positions)
        for position in moved or ():
            self._tracked.pop(self.positions[position.entry].last_task, None)
            self._set(position)
        return moved is not None

    def behind(self, dues: Sequence[tuple[str, int]]) -> set[str]:
        """Those of these entries that are as far as one of their due times here."""
        return {name for name, due_us in dues if name in self.positions and due_us <= self.positions[name].last_due_us}

    def _why_not(self, firing: Firing, now: Now) -> str | None:
        if (why := self._why_unwanted(firing)) is not None:
            return why
        if not self._owns(firing.entry):
            return "another router fires it, or none may now"
        if firing.due_us <= self.after_us(self._entries[firing.entry]):
            return BEHIND
        if firing.due_us > (now.wall + self._settings.schedule_ahead_s) * SECOND_US:
            return f"this due time is more than {self._settings.schedule_ahead_s:g} s ahead of the router's clock"
        return None

    def _fire(self, firing: Firing, made: Made, now: Now) -> None:
        entry, position = self._entries[firing.entry], self.positions[firing.entry]
        changes = replace(
            position,
            last_due_us=max(firing.due_us, position.last_due_us),
            skipped=added(position.skipped, firing.skipped),
            caught_up=added(position.caught_up, firing.caught_up),
        )
        self._counters["firings_caught_up"] += firing.caught_up
        self._tell_missed(entry, firing)
        if entry.overlap == "allow" or position.last_task not in self._tracked:
            self._make(entry, changes, firing.due_us, made, now)
        elif entry.overlap == "queue_one" and position.queued_due_us is None:
            self._set(replace(changes, queued_due_us=firing.due_us))
        else:
            self._tell_skipped(entry, 1, f"the task before is not finished (overlap={entry.overlap!r})")
            self._set(replace(changes, skipped=added(changes.skipped, 1)))

    def _make(self, entry: Entry, position: Position, due_us: int, made: Made, now: Now) -> None:
        task_id = firing_id(entry.name, due_us)
        due = due_us / SECOND_US
        eta = due + jitter_s(task_id, entry.jitter_s)
        expires_at = None if entry.expires_s is None else eta + entry.expires_s
        spec = TaskSpec(task_id, 0, entry.payload, eta if eta > now.wall else None, expires_at)
        self._tracked.pop(position.last_task, None)
        self._tracked[task_id] = entry.name
        made.append((entry.options, spec))
        self._counters["firings"] += 1
        lateness_s = now.wall - due
        fired = added(position.fired, 1)
        self._set(replace(position, last_task=task_id, last_state="", fired=fired, lateness_s=lateness_s))

    def _accept(self, made: Made, now: Now) -> None:
        """Take the tasks in, as any others; one commit has them and the positions."""
        made = [(options, spec) for options, spec in made if spec.id not in self._table.tasks]
        if not made:
            return
        options = {one: place for place, one in enumerate(dict.fromkeys(one for one, _ in made))}
        specs = [replace(spec, option=options[one]) for one, spec in made]
        self._table.accept(None, Submit(0, list(options), specs), None, (), now)

    def trigger(self, entries: Sequence[Entry], key: str, now: Now) -> tuple[dict[str, str], str | None]:
        """Make a task of each entry now, beside its schedule; their ids by name, or why not. ``key`` makes the ids."""
        why = self._no_room(len(entries))
        if why is not None:
            return {}, why
        made: Made = []
        for entry in entries:
            made.append((entry.options, TaskSpec(trigger_id(entry.name, key), 0, entry.payload)))
        self._accept(made, now)
        return {entry.name: spec.id for entry, (_, spec) in zip(entries, made)}, None

    # how they end

    def tick(self, now: Now) -> None:
        """Take note of tasks that were finished in this wake-up, and fire what waited for that, or for a bid."""
        if (decided := self._bids.take(now, lambda count: self._no_room(count) is None)) is not None:
            self._decide(*decided, now)
        if self._tracked:
            for outcome in self._ledger.outcomes:
                name = self._tracked.pop(outcome.id, None)
                if name is not None:
                    position = self.positions[name]
                    self._set(replace(position, last_state=str(outcome.state)))
                    if position.queued_due_us is not None:
                        self._queued[name] = None
        queued = self._ready_queued() if self._queued else []
        if self._store_bids is None:
            self._make_queued([name for name, _ in queued], now)
        else:
            self._store_bids.go_on(queued, now)

    def _ready_queued(self) -> list[tuple[str, int]]:
        """The entries whose queued due time is to fire and may be, and that due time."""
        ready: list[tuple[str, int]] = []
        for name in list(self._queued):
            due_us = self.positions[name].queued_due_us
            if not self._owns(name):
                continue
            if self._entries[name].paused or due_us is None:
                del self._queued[name]
            elif self._no_room(len(ready) + 1) is not None:
                break
            else:
                ready.append((name, due_us))
        return ready

    def _make_queued(self, names: Iterable[str], now: Now) -> None:
        made: Made = []
        for name in names:
            position = self.positions[name]
            assert position.queued_due_us is not None, f"entry {name} has no due time that waits"
            del self._queued[name]
            self._make(self._entries[name], replace(position, queued_due_us=None), position.queued_due_us, made, now)
        self._accept(made, now)

    def _set(self, position: Position) -> None:
        self.positions[position.entry] = self._ledger.positions[position.entry] = position

    def _tell_missed(self, entry: Entry, firing: Firing) -> None:
        if entry.catchup == "skip":
            self._tell_skipped(entry, firing.skipped, "missed, and not made good (catchup='skip')")
        elif entry.catchup == "latest" and firing.caught_up:
            self._tell_skipped(entry, firing.skipped, "missed, and only the newest made good (catchup='latest')")
        else:
            why, fields = f"missed more than {entry.catchup_window_s:g} s ago", "catchup_window"
            if entry.catchup == "all":
                why, fields = f"{why}, or before the newest {entry.catchup_max}", f"{fields}, catchup_max"
            self._tell_skipped(entry, firing.skipped, f"{why} ({fields})", as_asked=False)

    def _tell_skipped(self, entry: Entry, count: int, why: str, *, as_asked: bool = True) -> None:
        if count:
            self._counters["firings_skipped"] = added(self._counters["firings_skipped"], count)
            kind = "skipped" if as_asked else "lost"
            text = f"entry {entry.name!r}: {count} due time{'s' * (count != 1)} {kind}: {why}"
            self._ledger.add(Complain(f"firings {kind}", text, is_wrong=not as_asked))

    def check(self) -> None:
        """Raise ``AssertionError`` if an invariant is broken."""
        for task_id, name in self._tracked.items():
            assert task_id in self._table.tasks, f"entry {name} waits for {task_id}, which is not there"
            assert self.positions[name].last_task == task_id, f"entry {name} waits for a task that is not its last"
