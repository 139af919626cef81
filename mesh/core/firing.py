"""Makes tasks of due times, and keeps how far each entry has come.

A position only grows, and goes into the commit that has the task. Whether the task of the due time before is finished
is judged here, where the truth about it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from msgspec.structs import replace

from mesh.clock import Now
from mesh.core.commands import Complain
from mesh.core.few import few
from mesh.core.ledger import Ledger
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
from mesh.messages import Submit
from mesh.model import TaskOptions, TaskSpec, added
from mesh.schedules import microseconds

LOST_NAMED = 10  # entries that one line names
Made = list[tuple[TaskOptions, TaskSpec]]


class Firings:
    """The positions of all entries. ``no_room(count)``: why so many new tasks cannot be taken now.

    ``owns(entry)``: whether it is for this router to fire it, and not for another.
    """

    def __init__(
        self,
        entries: Mapping[str, Entry],
        table: TaskTable,
        no_room: Callable[[int], str | None],
        owns: Callable[[str], bool],
        ledger: Ledger,
        counters: dict[str, int],
    ) -> None:
        self._table = table
        self._no_room = no_room
        self._owns = owns
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
            names = few(list(map(repr, self._lost)), LOST_NAMED)
            why = "the store does not say how far they had come, so they begin now; nothing missed is made good"
            self._ledger.add(Complain("positions", f"entries {names}: {why}"))
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

    def fire_all(self, firings: Iterable[Firing], now: Now) -> None:
        """Fire these, of one entry the earliest first."""
        made: Made = []
        for firing in firings:
            self._fire(firing, made, now)
        self._accept(made, now)

    def leave(self, position: Position) -> None:
        """Another router fires an entry, which is as far as this then."""
        self._tracked.pop(self.positions[position.entry].last_task, None)
        self._set(position)

    def behind(self, dues: Sequence[tuple[str, int]]) -> set[str]:
        """Those of these entries that are as far as one of their due times here."""
        return {name for name, due_us in dues if name in self.positions and due_us <= self.positions[name].last_due_us}

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

    def note_ended(self) -> None:
        """Take note of tasks that were finished in this wake-up: a queued due time may wait for that."""
        if self._tracked:
            for outcome in self._ledger.outcomes:
                name = self._tracked.pop(outcome.id, None)
                if name is not None:
                    position = self.positions[name]
                    self._set(replace(position, last_state=str(outcome.state)))
                    if position.queued_due_us is not None:
                        self._queued[name] = None

    def ready_queued(self) -> list[tuple[str, int]]:
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

    def is_queued(self, name: str, due_us: int) -> bool:
        """Whether the task before this due time is finished, and it is not fired."""
        return name in self._queued and self.positions[name].queued_due_us == due_us

    def leave_queued(self, name: str) -> None:
        """Another router has fired the queued due time of this entry."""
        del self._queued[name]
        position = self.positions[name]
        self._set(replace(position, queued_due_us=None, fired=added(position.fired, 1)))

    def make_queued(self, names: Iterable[str], now: Now) -> None:
        """Fire the queued due times of these entries."""
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
