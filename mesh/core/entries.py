"""Which periodic tasks there are: those in the code of apps, as nodes declare them, and those added at run time.

Of an app the newest declaration counts: what is not in it goes, what is in it unchanged keeps everything, what is
changed goes on from where it was, with due times that are still to come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec
from msgspec.structs import replace

from mesh.clock import Now
from mesh.core.answers import Answers
from mesh.core.commands import Complain, DropEntry, Record, SaveApp, SaveEntry, SavePositions
from mesh.core.firing import Firings
from mesh.core.lease import Lease
from mesh.core.ledger import Ledger
from mesh.core.membership import REASON_MAX, Membership
from mesh.core.moments import Moments
from mesh.core.ownership import Ownership
from mesh.core.packing import MESSAGE_BYTES_MAX, entry_bytes, pack, text_bytes
from mesh.core.peers import Session
from mesh.core.room import Room
from mesh.entries import Entry, Listing, Position, merged_entry
from mesh.messages import Declare, Entries, Gossip, Refuse, Reply, Schedule
from mesh.model import INSTANT_MAX, Peer
from mesh.schedules import Once, microseconds
from mesh.settings import Settings

REFUSED_TOLD_MAX = 5  # entries of one declaration that are not taken, and why
REFUSED_NAMES_MAX = 100  # of them that are named at all
LOOKS = ("list", "list_from")  # they change nothing
APPS_MAX = 1_000  # whose declarations are remembered, besides those that have entries


_Told = str | tuple[Entry, int]  # to the leader: an entry that is gone, or one that is there and what it has fired


class _Declaration:
    """What has come of one until its last part."""

    def __init__(self, message: Declare, now: Now) -> None:
        self.app = message.app
        self.said = message.declared_at
        self.declared_at = min(now.wall, now.wall - (message.at - message.declared_at))  # by our clock
        self.entries: list[Entry] = []
        self.refused: dict[str, str] = {}  # why they are not taken
        self.beyond = 0  # so many more than may be kept

    @property
    def why_beyond(self) -> str:
        return f"app {self.app}: more entries than schedule_entries_max"


class EntryBook:
    """The entries of one router, by name."""

    def __init__(
        self,
        settings: Settings,
        entries: dict[str, Entry],
        members: Membership,
        lease: Lease,
        firings: Firings,
        ownership: Ownership,
        ledger: Ledger,
        counters: dict[str, int],
        room: Room,
    ) -> None:
        self._settings = settings
        self._room = room
        self.entries = entries
        self._members = members
        self._lease = lease
        self._firings = firings
        self._ownership = ownership
        self._ledger = ledger
        self._counters = counters
        self.gone: dict[str, Entry] = {}  # those that were removed, the first to be forgotten first
        self._answers = Answers()
        self._onces = Moments[float]()  # when to look at what is due once and goes by itself: UTC seconds
        self.apps: dict[str, float] = {}  # when the code of each was loaded whose entries these are; the oldest first
        self._rivals: dict[str, str] = {}  # by entry: an app whose code has one of that name, too
        self._parts: dict[Peer, _Declaration] = {}
        self._changed: dict[str, None] = {}  # since the leader was last told
        self._told: set[str] = set()  # the entries that the leader knows, while there is one
        self._told_version = 0  # of who owns what
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
        self.apps = dict(sorted(apps.items(), key=lambda item: item[1]))
        for entry in sorted(entries, key=lambda entry: entry.written_at):
            (self.gone if entry.gone else self.entries)[entry.name] = entry
            self._watch(entry)
        positions = list(positions)
        loose = (one.entry for one in positions if one.entry not in self.entries and one.entry not in self.gone)
        self._ledger.entries += [DropEntry(name) for name in loose]
        self._firings.restore(positions)

    def contents(self) -> Iterator[Record]:
        """The apps, the entries that are there and those that were removed, and how far each has come."""
        yield from [SaveApp(app, declared_at) for app, declared_at in self.apps.items()]
        yield from [SaveEntry(entry) for entry in (*self.entries.values(), *self.gone.values())]
        yield SavePositions(list(self._firings.positions.values()))

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
        beyond = message.entries[room:]
        part.beyond += len(beyond)
        unnamed = REFUSED_NAMES_MAX - len(part.refused)
        part.refused |= {entry.name: part.why_beyond for entry in beyond[:unnamed]}
        part.entries += message.entries[:room]
        if message.last:
            del self._parts[peer]
            if part.beyond:
                self._refuse(part.beyond, part.why_beyond)
            before = self._of_app(part.app)
            self._take(part, now)
            self._tell_change(part.app, before, session.name)
            self._tell_refused(peer, part)

    def forget(self, peer: Peer) -> None:
        """The session is over: no further parts will come."""
        self._parts.pop(peer, None)

    def _take(self, declared: _Declaration, now: Now) -> None:
        app, entries = declared.app, {entry.name: entry for entry in declared.entries}
        if (
            declared.declared_at < self.apps.get(app, 0.0) <= now.wall
        ):  # what is in the future, a clock that was set says
            return  # of a node that has older code
        gone = [name for name, known in self.entries.items() if known.app == app and name not in entries]
        self._rivals = {name: rival for name, rival in self._rivals.items() if rival != app}
        if entries or app in self.apps:
            self._remember(app, declared.declared_at)
        for name in gone:
            self._drop(name, declared.declared_at, now)
        for name, entry in entries.items():
            known = self.entries.get(name)
            form = known or self.gone.get(name)
            if form is not None and form.app == app and declared.declared_at <= form.written_at <= now.wall:
                continue  # somebody changed or removed it since this code was loaded
            if known is not None and known.app != app:
                owner = (
                    "one that was added at run time has this name"
                    if known.app is None
                    else f"app {known.app} has one of this name"
                )
                advice = "names are mesh-wide: give it another"
                declared.refused[name] = f"entry {name!r} of app {app} is not taken: {owner}, and {advice}"
                self._counters["entries_refused"] += 1
                self._rivals[name] = app
                continue
            said = entry.paused
            is_kept = known is not None and known.code_paused in (None, said)  # what somebody did, if anybody
            paused = known.paused if known is not None and is_kept else said
            entry = replace(entry, app=app, paused=paused, code_paused=said)
            why = self._put(entry, now, declared.declared_at if form is not None else 0.0)
            if why is not None:
                declared.refused[name] = why

    def _of_app(self, app: str) -> dict[str, Entry]:
        return {name: entry for name, entry in self.entries.items() if entry.app == app}

    def _tell_change(self, app: str, before: Mapping[str, Entry], worker: str) -> None:
        """Let the log say what another code of an app has changed."""
        after = self._of_app(app)
        changes = {
            "added": len(after.keys() - before.keys()),
            "removed": len(before.keys() - after.keys()),
            "changed": sum(after[name] is not before[name] for name in after.keys() & before.keys()),
        }
        if any(changes.values()):
            text = ", ".join(f"{count} {what}" for what, count in changes.items() if count)
            self._ledger.add(Complain("declared", f"entries of app {app}: {text}, by worker {worker}", is_wrong=False))

    def _tell_refused(self, peer: Peer, declared: _Declaration) -> None:
        """Let who declared entries say in its own log which are not taken."""
        refused = declared.refused
        if refused:
            reasons = [*dict.fromkeys(islice(refused.values(), REFUSED_TOLD_MAX))]
            named = sum(why == declared.why_beyond for why in refused.values())
            if (more := len(refused) - named + declared.beyond - REFUSED_TOLD_MAX) > 0:
                reasons.append(f"and {more} more of app {declared.app} are not taken")
            names = list(islice(refused, REFUSED_NAMES_MAX))
            self._ledger.send_after_commit(peer, Refuse("entries", "; ".join(reasons), names))

    def _remember(self, app: str, declared_at: float) -> None:
        if self.apps.pop(app, None) != declared_at:
            self._ledger.entries.append(SaveApp(app, declared_at))
        self.apps[app] = declared_at
        if len(self.apps) > APPS_MAX:
            used = {entry.app for entry in self.entries.values()}
            spare = next((name for name in self.apps if name not in used and name != app), None)
            if spare is not None:
                del self.apps[spare]
                self._ledger.entries.append(SaveApp(spare, 0.0))

    def _refuse(self, count: int, why: str) -> None:
        self._counters["entries_refused"] += count
        self._ledger.add(Complain("entries", f"{why}; refused: {count}"))

    # one entry

    def _put(self, entry: Entry, now: Now, written_at: float) -> str | None:
        """Take an entry in, in the place of one of its name; why not."""
        known = self.entries.get(entry.name)
        if known is None and len(self.entries) >= self._settings.schedule_entries_max:
            why = f"{len(self.entries)} entries are kept, schedule_entries_max: {entry.name!r} is not taken"
            self._refuse(1, why)
            return why
        if (unfit := _why_unfit(entry)) is not None:
            self._refuse(1, unfit)
            return unfit
        form = known or self.gone.get(entry.name)
        entry = replace(entry, after_us=form.after_us if form is not None else 0)
        if form is not None:
            if replace(entry, revised_at=form.revised_at, written_at=form.written_at) == form:
                return None
            written_at = max(written_at, form.written_at + 1e-6)
        if known is not None and _same_but_for_arguments(entry, known):
            revised_at = known.revised_at
        else:  # Two forms of an entry are told apart by their times, whatever the clock does.
            revised_at = now.wall if known is None else max(now.wall, known.revised_at + 1e-6)
        self._keep(
            replace(entry, revised_at=min(revised_at, INSTANT_MAX), written_at=min(written_at, INSTANT_MAX), gone=False)
        )
        return None

    def _keep(self, entry: Entry) -> None:
        if self._rivals.get(entry.name) == entry.app:
            self._rivals.pop(entry.name, None)
        self.gone.pop(entry.name, None)
        self.entries[entry.name] = entry
        self._ledger.entries.append(SaveEntry(entry))
        self._firings.keep(entry)
        self._watch(entry)
        self._changed[entry.name] = None

    def _drop(self, name: str, written_at: float, now: Now) -> None:
        entry = self.entries[name]
        written_at = min(max(written_at, entry.written_at + 1e-6), INSTANT_MAX)
        self._bury(replace(entry, payload=b"", written_at=written_at, gone=True), now)

    def _bury(self, entry: Entry, now: Now) -> None:
        """Keep in mind that an entry was removed, and how far it had come: a router that was away may still have it."""
        name = entry.name
        if self.entries.pop(name, None) is not None:
            entry = replace(entry, after_us=max(entry.after_us, self._firings.fired_us(name)))
            self._ledger.entries.append(DropEntry(name))
            self._firings.drop(name)
            self._ownership.forget(name)
            self._rivals.pop(name, None)
            self._onces.forget(name)
            self._changed[name] = None
        self.gone.pop(name, None)
        self.gone[name] = entry
        self._ledger.entries.append(SaveEntry(entry))
        self._forget_gone(now)

    def _forget_gone(self, now: Now) -> None:
        while self.gone:
            first = next(iter(self.gone.values()))
            if len(self.gone) <= self._settings.schedule_entries_max and not self._is_old(first, now):
                return
            del self.gone[first.name]
            self._ledger.entries.append(DropEntry(first.name))

    def _is_old(self, gone: Entry, now: Now) -> bool:
        return gone.written_at + self._settings.schedule_gone_s < now.wall

    # what is due no more

    def _watch(self, entry: Entry) -> None:
        if isinstance(entry.schedule, Once) and entry.app is None and not entry.gone:
            self._onces.put(entry.name, entry.schedule.at + self._settings.schedule_done_s)

    def tick(self, now: Now) -> None:
        """Remove what was due once, some time after it was; not what stands in code, or is held back by somebody."""
        for name in [*iter(lambda: self._onces.take(now.wall), None)]:  # some are to be looked at again at once
            entry = self.entries[name]
            if isinstance(entry.schedule, Once) and entry.app is None and not entry.paused:
                self._end_once(entry, entry.schedule.at, now)

    def _end_once(self, entry: Entry, at: float, now: Now) -> None:
        stays_s = self._settings.schedule_done_s
        was_due = microseconds(at) <= self._firings.after_us(entry)
        over_at = (at if was_due else at + entry.catchup_window_s) + stays_s
        if now.wall < over_at:
            self._onces.put(entry.name, over_at)
        elif self._firings.is_under_way(entry.name) or not self._ownership.owns(entry.name):
            self._onces.put(entry.name, now.wall + stays_s)
        else:
            if not was_due:
                self._firings.miss(entry, microseconds(at))
            self._drop(entry.name, now.wall, now)

    # from other routers

    def merge(self, heard: Gossip, now: Now) -> None:
        """Take in what another router has, where it is newer."""
        for app, declared_at in heard.apps.items():
            if declared_at > self.apps.get(app, 0.0):
                self._remember(app, declared_at)
        for entry in heard.entries:
            self._merge(entry, now)
        moved = [position.entry for position in heard.positions if self._firings.merge(position)]
        self._changed.update(dict.fromkeys(moved))

    def _merge(self, entry: Entry, now: Now) -> None:
        known = self.entries.get(entry.name) or self.gone.get(entry.name)
        if known is not None:
            entry = merged_entry(known, entry)
            if known == entry:
                return
        if entry.gone:
            if known is not None or not self._is_old(entry, now):
                self._bury(entry, now)
        elif entry.name not in self.entries and len(self.entries) >= self._settings.schedule_entries_max:
            self._refuse(1, f"{len(self.entries)} entries are kept, schedule_entries_max: another router has more")
        else:
            self._keep(entry)

    # from people

    def on_schedule(self, session: Session, message: Schedule, now: Now) -> None:
        """Do what somebody asks for, and answer. A look is answered at once, whatever the store takes."""
        operation = self._operations.get(message.operation)
        body = self._answers.get(session.node_id, message.request)
        if operation is None:
            known = ", ".join(sorted(self._operations))
            answer: Any = _error("invalid", f"unknown operation {message.operation!r}; known: {known}")
        elif message.operation in LOOKS:
            answer = operation(session, message, now)
        elif body is None and self._room.halted:
            answer = _error("overloaded", f"nothing is changed: {self._room.why}")
        else:
            if body is None:
                answer = operation(session, message, now)
                if "done" in answer:
                    names = message.names or [entry.name for entry in message.entries]
                    text = f"{message.operation} of {_few(names)}, by client {session.name}"
                    self._ledger.add(Complain("changed", f"periodic tasks: {text}", is_wrong=False))
                body = msgspec.json.encode(answer)
                self._answers.keep(session.node_id, message.request, body)
            self._ledger.send_after_commit(session.peer, Reply(message.request, body))
            return
        self._ledger.send(session.peer, Reply(message.request, msgspec.json.encode(answer)))

    def _add(self, session: Session, message: Schedule, now: Now) -> dict[str, Any]:
        there = [entry.name for entry in message.entries if entry.name in self.entries]
        if there:
            return _error("exists", f"there is an entry of this name already: {', '.join(there)}")
        return self._put_all([replace(entry, app=None, gone=False, code_paused=None) for entry in message.entries], now)

    def _update(self, session: Session, message: Schedule, now: Now) -> dict[str, Any]:
        missing = [entry.name for entry in message.entries if entry.name not in self.entries]
        if missing:
            return _unknown(missing)
        for entry in message.entries:
            known = self.entries[entry.name]
            if entry.revised_at and (entry.revised_at, entry.written_at) != (known.revised_at, known.written_at):
                return _error("changed", f"entry {entry.name!r} was changed by another meanwhile")
        return self._put_all([_in_place_of(self.entries[entry.name], entry) for entry in message.entries], now)

    def _put_all(self, entries: Sequence[Entry], now: Now) -> dict[str, Any]:
        """Take in all of these, or none."""
        most, more = self._settings.schedule_entries_max, len({entry.name for entry in entries} - self.entries.keys())
        if more and len(self.entries) + more > most:
            full = f"{len(self.entries)} of schedule_entries_max = {most} entries are there: {more} more find no room"
            self._refuse(more, full)
            return _error("overloaded", full)
        if unfit := [why for entry in entries if (why := _why_unfit(entry)) is not None]:
            self._refuse(len(unfit), unfit[0])
            return _error("refused", "; ".join(unfit))
        for entry in entries:
            self._put(entry, now, now.wall)
        return {
            "done": [entry.name for entry in entries],
            **({"parked": parked} if (parked := self._parked(entries)) else {}),
        }

    def _pause(self, names: Sequence[str], paused: bool, now: Now) -> dict[str, Any]:
        if missing := self._missing(names):
            return _unknown(missing, names)
        for name in names:
            self._put(replace(self.entries[name], paused=paused), now, now.wall)
        return {"done": list(names)}

    def _remove(self, session: Session, message: Schedule, now: Now) -> dict[str, Any]:
        if missing := self._missing(message.names):
            return _unknown(missing, message.names)
        for name in dict.fromkeys(message.names):
            self._drop(name, now.wall, now)
        return {"done": message.names}

    def _trigger(self, session: Session, message: Schedule, now: Now) -> dict[str, Any]:
        if missing := self._missing(message.names):
            return _unknown(missing)
        key = f"{session.node_id}|{message.request}"
        entries = [self.entries[name] for name in dict.fromkeys(message.names)]
        made, why = self._firings.trigger(entries, key, now)
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
        owners: dict[str, str] = {}
        for name in names:
            row = self.entries[name], self._firings.positions[name]
            owner = self._ownership.owner_of(name) or ""
            left -= len(msgspec.json.encode((row, name, owner)))
            if left < 0:
                after = name
                break
            rows.append(row)
            owners[name] = owner
        shown = [entry for entry, _ in rows]
        rivals = {entry.name: self._rivals[entry.name] for entry in shown if entry.name in self._rivals}
        leader, term, full = self._lease.holder_name, self._lease.term, (self._room.why or "")[:REASON_MAX]
        return Listing(rows, after, leader, term, self._parked(shown), rivals, owners, full)

    def _parked(self, entries: Sequence[Entry]) -> dict[str, str]:
        """Why no worker that is there could run the tasks of these, where none could; nobody leads where none is."""
        workers = self._members.workers.values()
        queues = {queue for worker in workers for queue in worker.info.queues}
        able = {(queue, name) for worker in workers for queue in worker.info.queues for name in worker.info.tasks}
        found: dict[str, str] = {}
        for entry in entries if workers else ():
            queue, name = entry.options.queue, entry.options.name
            if (queue, name) not in able:
                found[entry.name] = "no worker has this task" if queue in queues else "no worker serves its queue"
        return found

    def _missing(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if name not in self.entries]

    # telling the leader

    def tell_leader(self) -> None:
        """Say what is new of the entries that are ours to fire, or all to a new leader; after all that may change them.

        An entry that is another router's now is gone, for the leader.
        """
        holder, lease = self._lease.holder, self._lease
        first, lease.fresh = lease.fresh, False
        changed, self._changed = self._changed, {}
        is_other = self._told_version != self._ownership.version
        self._told_version = self._ownership.version
        if self._ownership.hears_too_few and (is_other or first):
            most = f"most of schedule_routers = {self._settings.schedule_routers} are not heard"
            self._ledger.add(Complain("periodic tasks", f"no periodic task is fired here: {most}"))
        if first:
            self._told = set()
        if holder is None or not (first or changed or is_other):
            return
        names: list[str] = []
        gone: list[_Told] = []
        for name in self.entries | changed if first or is_other else changed:
            if name in self.entries and self._ownership.owns(name):
                if name in changed or name not in self._told:
                    names.append(name)
            elif name in self._told:
                gone.append(name)
        if not (first or names or gone):
            return
        self._told = self._told.union(names).difference(gone)
        known: list[_Told] = [(self.entries[name], self._firings.after_us(self.entries[name])) for name in names]
        parts = list(pack(gone + known, _told_bytes)) or [[]]
        for part in parts:
            new, old = [one for one in part if not isinstance(one, str)], [one for one in part if isinstance(one, str)]
            self._ledger.send_after_commit(holder, Entries(lease.term, new, old, first))
            first = False

    def check(self) -> None:
        """Raise ``AssertionError`` if an invariant is broken."""
        assert set(self._firings.positions) == set(self.entries), "entries and positions differ"
        assert self._rivals.keys() <= self.entries.keys(), "an entry is not taken for one that is not there"
        assert not self.entries.keys() & self.gone.keys(), "an entry is there, and is gone"


def _why_unfit(entry: Entry) -> str | None:
    if entry.options.function is None:
        return None
    return f"entry {entry.name!r} is not taken: its task must be known to workers by its name"


def _told_bytes(told: _Told) -> int:
    return text_bytes(told) if isinstance(told, str) else entry_bytes(told[0])


def _same_but_for_arguments(entry: Entry, known: Entry) -> bool:
    """Whether ``entry`` is due when ``known`` is, to do the same.

    Arguments with a set in them are pickled otherwise by each process, and so would be changed by each that starts.
    """
    return entry == replace(
        known,
        payload=entry.payload,
        code_paused=entry.code_paused,
        after_us=entry.after_us,
        revised_at=entry.revised_at,
        written_at=entry.written_at,
    )


def _in_place_of(known: Entry, entry: Entry) -> Entry:
    """``entry`` as somebody wrote it, of the code that ``known`` is of."""
    return replace(entry, app=known.app, gone=False, code_paused=known.code_paused)


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(islice(names, REFUSED_TOLD_MAX))
    return shown if len(names) <= REFUSED_TOLD_MAX else f"{shown} and {len(names) - REFUSED_TOLD_MAX} more"


def _unknown(missing: Sequence[str], of: Sequence[str] = ()) -> dict[str, str]:
    others = "; nothing is changed" if len(of) > len(missing) else ""
    return _error("unknown", f"there is no entry of this name: {', '.join(missing)}{others}")


def _error(code: str, why: str) -> dict[str, str]:
    return {"code": code, "error": why}
