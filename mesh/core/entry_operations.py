"""What people ask of a router about periodic tasks: to change them, and to see them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from mesh.clock import Now
from mesh.core.answers import Answers
from mesh.core.commands import Complain
from mesh.core.entries import EntryBook, why_unfit
from mesh.core.few import few
from mesh.core.firing import Firings
from mesh.core.lease import Lease
from mesh.core.ledger import Ledger
from mesh.core.membership import REASON_MAX, Membership
from mesh.core.ownership import Ownership
from mesh.core.packing import MESSAGE_BYTES_MAX
from mesh.core.peers import Session
from mesh.core.room import Room
from mesh.entries import Entry, Listing, Position
from mesh.messages import Reply, Schedule
from mesh.settings import Settings

LOOKS = ("list", "list_from")  # they change nothing
NAMED_MAX = 5  # entries that one line names


class EntryOperations:
    """Of one router: the operations of SCHEDULE."""

    def __init__(
        self,
        settings: Settings,
        book: EntryBook,
        members: Membership,
        lease: Lease,
        firings: Firings,
        ownership: Ownership,
        ledger: Ledger,
        room: Room,
    ) -> None:
        self._settings = settings
        self._book = book
        self._members = members
        self._lease = lease
        self._firings = firings
        self._ownership = ownership
        self._ledger = ledger
        self._room = room
        self._answers = Answers()
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
                    text = f"{message.operation} of {few(names, NAMED_MAX)}, by client {session.name}"
                    self._ledger.add(Complain("changed", f"periodic tasks: {text}", is_wrong=False))
                body = msgspec.json.encode(answer)
                self._answers.keep(session.node_id, message.request, body)
            self._ledger.send_after_commit(session.peer, Reply(message.request, body))
            return
        self._ledger.send(session.peer, Reply(message.request, msgspec.json.encode(answer)))

    def _add(self, session: Session, message: Schedule, now: Now) -> dict[str, Any]:
        there = [entry.name for entry in message.entries if entry.name in self._book.entries]
        if there:
            return _error("exists", f"there is an entry of this name already: {', '.join(there)}")
        return self._put_all([replace(entry, app=None, gone=False, code_paused=None) for entry in message.entries], now)

    def _update(self, session: Session, message: Schedule, now: Now) -> dict[str, Any]:
        if missing := self._missing([entry.name for entry in message.entries]):
            return _unknown(missing)
        for entry in message.entries:
            known = self._book.entries[entry.name]
            if entry.revised_at and (entry.revised_at, entry.written_at) != (known.revised_at, known.written_at):
                return _error("changed", f"entry {entry.name!r} was changed by another meanwhile")
        return self._put_all([_in_place_of(self._book.entries[entry.name], entry) for entry in message.entries], now)

    def _put_all(self, entries: Sequence[Entry], now: Now) -> dict[str, Any]:
        """Take in all of these, or none."""
        there, most = self._book.entries, self._settings.schedule_entries_max
        more = len({entry.name for entry in entries} - there.keys())
        if more and len(there) + more > most:
            full = f"{len(there)} of schedule_entries_max = {most} entries are there: {more} more find no room"
            self._book.refuse(more, full)
            return _error("overloaded", full)
        if unfit := [why for entry in entries if (why := why_unfit(entry)) is not None]:
            self._book.refuse(len(unfit), unfit[0])
            return _error("refused", "; ".join(unfit))
        for entry in entries:
            self._book.put(entry, now, now.wall)
        return {
            "done": [entry.name for entry in entries],
            **({"parked": parked} if (parked := self._parked(entries)) else {}),
        }

    def _pause(self, names: Sequence[str], paused: bool, now: Now) -> dict[str, Any]:
        if missing := self._missing(names):
            return _unknown(missing, names)
        for name in names:
            self._book.put(replace(self._book.entries[name], paused=paused), now, now.wall)
        return {"done": list(names)}

    def _remove(self, session: Session, message: Schedule, now: Now) -> dict[str, Any]:
        if missing := self._missing(message.names):
            return _unknown(missing, message.names)
        for name in dict.fromkeys(message.names):
            self._book.drop(name, now.wall, now)
        return {"done": message.names}

    def _trigger(self, session: Session, message: Schedule, now: Now) -> dict[str, Any]:
        if missing := self._missing(message.names):
            return _unknown(missing)
        key = f"{session.node_id}|{message.request}"
        entries = [self._book.entries[name] for name in dict.fromkeys(message.names)]
        made, why = self._firings.trigger(entries, key, now)
        return {"done": made} if why is None else _error("overloaded", why)

    def _list(self, session: Session, message: Schedule, now: Now) -> dict[str, Any] | Listing:
        if missing := self._missing(message.names):
            return _unknown(missing)
        return self._rows(message.names or sorted(self._book.entries))

    def _list_from(self, session: Session, message: Schedule, now: Now) -> Listing:
        first = message.names[0] if message.names else ""
        return self._rows(sorted(name for name in self._book.entries if name >= first))

    def _rows(self, names: Sequence[str]) -> Listing:
        """Those of these entries that fit into a message."""
        rows: list[tuple[Entry, Position]] = []
        left, after = MESSAGE_BYTES_MAX, ""
        owners: dict[str, str] = {}
        for name in names:
            row = self._book.entries[name], self._firings.positions[name]
            owner = self._ownership.owner_of(name) or ""
            left -= len(msgspec.json.encode((row, name, owner)))
            if left < 0:
                after = name
                break
            rows.append(row)
            owners[name] = owner
        shown = [entry for entry, _ in rows]
        rivals = {entry.name: self._book.rivals[entry.name] for entry in shown if entry.name in self._book.rivals}
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
        return [name for name in names if name not in self._book.entries]


def _in_place_of(known: Entry, entry: Entry) -> Entry:
    """``entry`` as somebody wrote it, of the code that ``known`` is of."""
    return replace(entry, app=known.app, gone=False, code_paused=known.code_paused)


def _unknown(missing: Sequence[str], of: Sequence[str] = ()) -> dict[str, str]:
    others = "; nothing is changed" if len(of) > len(missing) else ""
    return _error("unknown", f"there is no entry of this name: {', '.join(missing)}{others}")


def _error(code: str, why: str) -> dict[str, str]:
    return {"code": code, "error": why}
