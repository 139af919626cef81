"""Which periodic tasks there are, and which there were: one form of each, by its name.

One that is put in the place of another goes on from where that was, with due times that are still to come. One that is
removed is kept in mind for a while, for routers that were away.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from msgspec.structs import replace

from mesh.clock import Now
from mesh.core.commands import Complain, DropEntry, Record, SaveApp, SaveEntry, SavePositions
from mesh.core.firing import Firings
from mesh.core.ledger import Ledger
from mesh.core.onces import Onces
from mesh.core.ownership import Ownership
from mesh.entries import Entry, Position, merged_entry
from mesh.messages import Gossip
from mesh.model import INSTANT_MAX
from mesh.settings import Settings

APPS_MAX = 1_000  # whose declarations are remembered, besides those that have entries


class EntryBook:
    """The entries of one router, by name."""

    def __init__(
        self,
        settings: Settings,
        entries: dict[str, Entry],
        firings: Firings,
        ownership: Ownership,
        ledger: Ledger,
        counters: dict[str, int],
    ) -> None:
        self._settings = settings
        self.entries = entries
        self._firings = firings
        self._ownership = ownership
        self._ledger = ledger
        self._counters = counters
        self.gone: dict[str, Entry] = {}  # those that were removed, the first to be forgotten first
        self._onces = Onces(settings, firings, ownership)
        self.apps: dict[str, float] = {}  # when the code of each was loaded whose entries these are; the oldest first
        self.rivals: dict[str, str] = {}  # by entry: an app whose code has one of that name, too
        self._changed: dict[str, None] = {}  # or removed, since the leader was last told

    def restore(self, apps: Mapping[str, float], entries: Iterable[Entry], positions: Iterable[Position]) -> None:
        """Begin with what the store had."""
        self.apps = dict(sorted(apps.items(), key=lambda item: item[1]))
        for entry in sorted(entries, key=lambda entry: entry.written_at):
            (self.gone if entry.gone else self.entries)[entry.name] = entry
            self._onces.watch(entry)
        positions = list(positions)
        loose = (one.entry for one in positions if one.entry not in self.entries and one.entry not in self.gone)
        self._ledger.entries += [DropEntry(name) for name in loose]
        self._firings.restore(positions)

    def contents(self) -> Iterator[Record]:
        """The apps, the entries that are there and those that were removed, and how far each has come."""
        yield from [SaveApp(app, declared_at) for app, declared_at in self.apps.items()]
        yield from [SaveEntry(entry) for entry in (*self.entries.values(), *self.gone.values())]
        yield SavePositions(list(self._firings.positions.values()))

    # the code they are of

    def remember_app(self, app: str, declared_at: float) -> None:
        """The code of ``app`` that counts was loaded then."""
        if self.apps.pop(app, None) != declared_at:
            self._ledger.entries.append(SaveApp(app, declared_at))
        self.apps[app] = declared_at
        if len(self.apps) > APPS_MAX:
            used = {entry.app for entry in self.entries.values()}
            spare = next((name for name in self.apps if name not in used and name != app), None)
            if spare is not None:
                del self.apps[spare]
                self._ledger.entries.append(SaveApp(spare, 0.0))

    def of_app(self, app: str) -> dict[str, Entry]:
        """The entries of the code of ``app``."""
        return {name: entry for name, entry in self.entries.items() if entry.app == app}

    def forget_rival(self, app: str) -> None:
        """Which names the code of ``app`` has that are taken is found anew."""
        self.rivals = {name: rival for name, rival in self.rivals.items() if rival != app}

    # one entry

    def put(self, entry: Entry, now: Now, written_at: float) -> str | None:
        """Take an entry in, in the place of one of its name; why not."""
        known = self.entries.get(entry.name)
        if known is None and len(self.entries) >= self._settings.schedule_entries_max:
            why = f"{len(self.entries)} entries are kept, schedule_entries_max: {entry.name!r} is not taken"
            self.refuse(1, why)
            return why
        if (unfit := why_unfit(entry)) is not None:
            self.refuse(1, unfit)
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
        if self.rivals.get(entry.name) == entry.app:
            self.rivals.pop(entry.name, None)
        self.gone.pop(entry.name, None)
        self.entries[entry.name] = entry
        self._ledger.entries.append(SaveEntry(entry))
        self._firings.keep(entry)
        self._onces.watch(entry)
        self._changed[entry.name] = None

    def drop(self, name: str, written_at: float, now: Now) -> None:
        """Remove an entry."""
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
            self.rivals.pop(name, None)
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

    def tick(self, now: Now) -> None:
        """Remove what is due no more."""
        for name in self._onces.over(self.entries, now):
            self.drop(name, now.wall, now)

    def take_changed(self) -> dict[str, None]:
        """The names of what was changed or removed since this was called last."""
        changed, self._changed = self._changed, {}
        return changed

    def refuse(self, count: int, why: str) -> None:
        """Count so many that are not taken, and say why."""
        self._counters["entries_refused"] += count
        self._ledger.add(Complain("entries", f"{why}; refused: {count}"))

    # from other routers

    def merge(self, heard: Gossip, now: Now) -> None:
        """Take in what another router has, where it is newer."""
        for app, declared_at in heard.apps.items():
            if declared_at > self.apps.get(app, 0.0):
                self.remember_app(app, declared_at)
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
            self.refuse(1, f"{len(self.entries)} entries are kept, schedule_entries_max: another router has more")
        else:
            self._keep(entry)

    def check(self) -> None:
        """Raise ``AssertionError`` if an invariant is broken."""
        assert set(self._firings.positions) == set(self.entries), "entries and positions differ"
        assert self.rivals.keys() <= self.entries.keys(), "an entry is not taken for one that is not there"
        assert not self.entries.keys() & self.gone.keys(), "an entry is there, and is gone"


def why_unfit(entry: Entry) -> str | None:
    """Why no entry can be like this; None where it can."""
    if entry.options.function is None:
        return None
    return f"entry {entry.name!r} is not taken: its task must be known to workers by its name"


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
