"""Which periodic tasks there are: those in the code of apps, as nodes declare them, and those added at run time.

Of an app the newest declaration counts: what is not in it goes, what is in it unchanged keeps everything, what is
changed goes on from where it was, with due times that are still to come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from mesh.clock import Now
from mesh.core.commands import Complain, DropEntry, SaveApp, SaveEntry
from mesh.core.firing import Firings
from mesh.core.lease import Lease
from mesh.core.ledger import Ledger
from mesh.core.membership import Membership
from mesh.core.packing import MESSAGE_BYTES_MAX, entry_bytes, pack
from mesh.core.peers import Session
from mesh.entries import Entry, Listing, Position
from mesh.messages import Declare, Entries, Reply, Schedule
from mesh.model import INSTANT_MAX, Peer
from mesh.settings import Settings

APPS_MAX = 1_000  # whose declarations are remembered, besides those that have entries


class _Declaration:
    """What has come of one until its last part."""

    def __init__(self, message: Declare, now: Now) -> None:
        self.app = message.app
        self.said = message.declared_at
        self.declared_at = min(now.wall, now.wall - (message.at - message.declared_at))  # by our clock
        self.entries: list[Entry] = []


class EntryBook:
    """The entries of one router, by name."""

    def __init__(
        self,
        settings: Settings,
        entries: dict[str, Entry],
        members: Membership,
        lease: Lease,
        firings: Firings,
        ledger: Ledger,
        counters: dict[str, int],
    ) -> None:
        self._settings = settings
        self.entries = entries
        self._members = members
        self._lease = lease
        self._firings = firings
        self._ledger = ledger
        self._counters = counters
        self._apps: dict[str, float] = {}  # when the code of each was loaded whose entries these are; the oldest first
        self._parts: dict[Peer, _Declaration] = {}
        self._changed: dict[str, None] = {}  # since the leader was last told
        self._operations: dict[str, Callable[[Session, Schedule, Now], Any]] = {
            "add": self._add,
            "update": self._update,
            "pause": lambda session, message, now: self._pause(message.names, True, now),
            "resume": lambda session, message, now: self._pause(message.names, False, now),
            "remove": self._remove,
            "trigger": self._trigger,
            "list": self._list,
            "list_from": self._list_from,
        }

    def restore(self, apps: Mapping[str, float], entries: Iterable[Entry], positions: Iterable[Position]) -> None:
        """Begin with what the store had."""
        self._apps = dict(sorted(apps.items(), key=lambda item: item[1]))
        self.entries.update((entry.name, entry) for entry in entries)
        self._firings.restore(positions)

    # from nodes that have the code

    def on_declare(self, session: Session, message: Declare, now: Now) -> None:
        """Take in the entries of an app, once all parts are there."""
        peer = session.peer
        if message.first:
            there = self._members.workers
            self._parts = {one: part for one, part in self._parts.items() if one in there}
            self._parts[peer] = _Declaration(message, now)
        part = self._parts.get(peer)
        if part is None or (part.app, part.said) != (message.app, message.declared_at):
            return
        room = self._settings.schedule_entries_max - len(part.entries)
        if len(message.entries) > room:
            self._refuse(len(message.entries) - room, f"app {message.app}: more entries than schedule_entries_max")
        part.entries += message.entries[:room]
        if message.last:
            del self._parts[peer]
            self._take(part, now)

    def forget(self, peer: Peer) -> None:
        """The session is over: no further parts will come."""
        self._parts.pop(peer, None)

    def _take(self, declared: _Declaration, now: Now) -> None:
        app, entries = declared.app, {entry.name: entry for entry in declared.entries}
        if (
            declared.declared_at < self._apps.get(app, 0.0) <= now.wall
        ):  # what is in the future, a clock that was set says
            return  # of a node that has older code
        gone = [name for name, known in self.entries.items() if known.app == app and name not in entries]
        if entries or app in self._apps:
            self._remember(app, declared.declared_at)
        for name in gone:
            self._drop(name)
        for name, entry in entries.items():
            known = self.entries.get(name)
            if known is not None and known.app != app:
                owner = "one that was added at run time" if known.app is None else f"one of app {known.app}"
                self._refuse(1, f"entry {name!r} of app {app} is not taken: there is {owner} of that name")
                continue
            entry = replace(entry, app=app, paused=known.paused if known is not None else entry.paused)
            self._put(entry, now)

    def _remember(self, app: str, declared_at: float) -> None:
        if self._apps.pop(app, None) != declared_at:
            self._ledger.entries.append(SaveApp(app, declared_at))
        self._apps[app] = declared_at
        if len(self._apps) > APPS_MAX:
            used = {entry.app for entry in self.entries.values()}
            spare = next((name for name in self._apps if name not in used and name != app), None)
            if spare is not None:
                del self._apps[spare]
                self._ledger.entries.append(SaveApp(spare, 0.0))

    def _refuse(self, count: int, why: str) -> None:
        self._counters["entries_refused"] += count
        self._ledger.add(Complain("entries", f"{why}; refused: {count}"))

    # one entry

    def _put(self, entry: Entry, now: Now) -> str | None:
        """Take an entry in, in the place of one of its name; why not."""
        known = self.entries.get(entry.name)
        if known is None and len(self.entries) >= self._settings.schedule_entries_max:
            why = f"{len(self.entries)} entries are kept, schedule_entries_max: {entry.name!r} is not taken"
            self._refuse(1, why)
            return why
        if entry.options.function is not None:
            why = f"entry {entry.name!r} is not taken: its task must be known to workers by its name"
            self._refuse(1, why)
            return why
        if known is not None and replace(entry, revised_at=known.revised_at) == known:
            return None
        # Two forms of an entry are told apart by their times, whatever the clock does.
        revised_at = now.wall if known is None else max(now.wall, known.revised_at + 1e-6)
        entry = replace(entry, revised_at=min(revised_at, INSTANT_MAX))
        self.entries[entry.name] = entry
        self._ledger.entries.append(SaveEntry(entry))
        self._firings.keep(entry)
        self._changed[entry.name] = None
        return None

    def _drop(self, name: str) -> None:
        del self.entries[name]
        self._ledger.entries.append(DropEntry(name))
        self._firings.drop(name)
        self._changed[name] = None

    # from people

    def on_schedule(self, session: Session, message: Schedule, now: Now) -> None:
        """Do what somebody asks for, and answer."""
        operation = self._operations.get(message.operation)
        if operation is None:
            known = ", ".join(sorted(self._operations))
            answer: Any = _error("invalid", f"unknown operation {message.operation!r}; known: {known}")
        else:
            answer = operation(session, message, now)
        self._ledger.send_after_commit(session.peer, Reply(message.request, msgspec.json.encode(answer)))

    def _add(self, session: Session, message: Schedule, now: Now) -> dict[str, Any]:
        there = [entry.name for entry in message.entries if entry.name in self.entries]
        if there:
            return _error("exists", f"there is an entry of this name already: {', '.join(there)}")
        return self._put_all([replace(entry, app=None) for entry in message.entries], now)

    def _update(self, session: Session, message: Schedule, now: Now) -> dict[str, Any]:
        missing = [entry.name for entry in message.entries if entry.name not in self.entries]
        if missing:
            return _unknown(missing)
        for entry in message.entries:
            if entry.revised_at not in (0.0, self.entries[entry.name].revised_at):
                return _error("changed", f"entry {entry.name!r} was changed by another meanwhile")
        return self._put_all([replace(entry, app=self.entries[entry.name].app) for entry in message.entries], now)

    def _put_all(self, entries: Sequence[Entry], now: Now) -> dict[str, Any]:
        refused = [why for entry in entries if (why := self._put(entry, now)) is not None]
        if refused:
            full = len(self.entries) >= self._settings.schedule_entries_max
            return _error("overloaded" if full else "refused", "; ".join(refused))
        return {"done": [entry.name for entry in entries]}

    def _pause(self, names: Sequence[str], paused: bool, now: Now) -> dict[str, Any]:
        if missing := self._missing(names):
            return _unknown(missing)
        for name in names:
            self._put(replace(self.entries[name], paused=paused), now)
        return {"done": list(names)}

    def _remove(self, session: Session, message: Schedule, now: Now) -> dict[str, Any]:
        if missing := self._missing(message.names):
            return _unknown(missing)
        for name in dict.fromkeys(message.names):
            self._drop(name)
        return {"done": message.names}

    def _trigger(self, session: Session, message: Schedule, now: Now) -> dict[str, Any]:
        if missing := self._missing(message.names):
            return _unknown(missing)
        key = f"{session.node_id}|{message.request}"
        made, why = self._firings.trigger([self.entries[name] for name in message.names], key, now)
        return {"done": made} if why is None else _error("overloaded", why)

    def _list(self, session: Session, message: Schedule, now: Now) -> dict[str, Any] | Listing:
        if missing := self._missing(message.names):
            return _unknown(missing)
        return self._rows(message.names or sorted(self.entries))

    def _list_from(self, session: Session, message: Schedule, now: Now) -> Listing:
        first = message.names[0] if message.names else ""
        return self._rows(sorted(name for name in self.entries if name >= first))

    def _rows(self, names: Sequence[str]) -> Listing:
        """Those of these entries that fit into a message."""
        rows: list[tuple[Entry, Position]] = []
        left, after = MESSAGE_BYTES_MAX, ""
        for name in names:
            row = self.entries[name], self._firings.positions[name]
            left -= len(msgspec.json.encode(row)) + 1
            if left < 0:
                after = name
                break
            rows.append(row)
        return Listing(rows, after, self._lease.holder_name, self._lease.term)

    def _missing(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if name not in self.entries]

    # telling the leader

    def tell_leader(self) -> None:
        """Say what is new, or all to a new leader; after all that may change entries."""
        holder, lease = self._lease.holder, self._lease
        first, lease.fresh = lease.fresh, False
        changed, self._changed = self._changed, {}
        if holder is None or not (first or changed):
            return
        names = self.entries if first else [name for name in changed if name in self.entries]
        gone = [] if first else [name for name in changed if name not in self.entries]
        told = [(self.entries[name], self._firings.after_us(self.entries[name])) for name in names]
        parts = list(pack(told, lambda one: entry_bytes(one[0]))) or [[]]
        for part in parts:
            self._ledger.send_after_commit(holder, Entries(lease.term, list(part), gone, first))
            first, gone = False, []

    def check(self) -> None:
        """Raise ``AssertionError`` if an invariant is broken."""
        assert set(self._firings.positions) == set(self.entries), "entries and positions differ"


def _unknown(names: Sequence[str]) -> dict[str, str]:
    return _error("unknown", f"there is no entry of this name: {', '.join(names)}")


def _error(code: str, why: str) -> dict[str, str]:
    return {"code": code, "error": why}
