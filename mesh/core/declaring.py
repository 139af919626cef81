"""Which entries are in the code of apps, as nodes declare them.

Of an app the newest declaration counts: what is not in it goes, what is in it unchanged keeps everything, what is
changed goes on from where it was, with due times that are still to come.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from msgspec.structs import replace

from mesh.clock import Now
from mesh.core.commands import Complain
from mesh.core.entries import EntryBook
from mesh.core.ledger import Ledger
from mesh.core.membership import Membership
from mesh.core.peers import Session
from mesh.entries import Entry
from mesh.messages import Declare, Refuse
from mesh.model import Peer
from mesh.settings import Settings

REFUSED_TOLD_MAX = 5  # entries of one declaration that are not taken, and why
REFUSED_NAMES_MAX = 100  # of them that are named at all


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


class Declarations:
    """Of one router."""

    def __init__(
        self, settings: Settings, book: EntryBook, members: Membership, ledger: Ledger, counters: dict[str, int]
    ) -> None:
        self._settings = settings
        self._book = book
        self._members = members
        self._ledger = ledger
        self._counters = counters
        self._parts: dict[Peer, _Declaration] = {}

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
                self._book.refuse(part.beyond, part.why_beyond)
            before = self._book.of_app(part.app)
            self._take(part, now)
            self._tell_change(part.app, before, session.name)
            self._tell_refused(peer, part)

    def forget(self, peer: Peer) -> None:
        """The session is over: no further parts will come."""
        self._parts.pop(peer, None)

    def _take(self, declared: _Declaration, now: Now) -> None:
        book, app, entries = self._book, declared.app, {entry.name: entry for entry in declared.entries}
        newest = book.apps.get(app, 0.0)
        if declared.declared_at < newest <= now.wall:  # what is in the future, a clock that was set says
            return  # of a node that has older code
        gone = [name for name in book.of_app(app) if name not in entries]
        book.forget_rival(app)
        if entries or app in book.apps:
            book.remember_app(app, declared.declared_at)
        for name in gone:
            book.drop(name, declared.declared_at, now)
        for name, entry in entries.items():
            known = book.entries.get(name)
            form = known or book.gone.get(name)
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
                book.rivals[name] = app
                continue
            said = entry.paused
            is_kept = known is not None and known.code_paused in (None, said)  # what somebody did, if anybody
            paused = known.paused if known is not None and is_kept else said
            entry = replace(entry, app=app, paused=paused, code_paused=said)
            why = book.put(entry, now, declared.declared_at if form is not None else 0.0)
            if why is not None:
                declared.refused[name] = why

    def _tell_change(self, app: str, before: Mapping[str, Entry], worker: str) -> None:
        """Let the log say what another code of an app has changed."""
        after = self._book.of_app(app)
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
