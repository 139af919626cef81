"""What the leader is told: which entries it is to fire, and how far they are."""

from __future__ import annotations

from mesh.core.commands import Complain
from mesh.core.entries import EntryBook
from mesh.core.firing import Firings
from mesh.core.lease import Lease
from mesh.core.ledger import Ledger
from mesh.core.ownership import Ownership
from mesh.core.packing import entry_bytes, pack, text_bytes
from mesh.entries import Entry
from mesh.messages import Entries
from mesh.settings import Settings

Told = str | tuple[Entry, int]  # an entry that is gone, or one that is there and what it has fired


class LeaderNews:
    """Of one router."""

    def __init__(
        self,
        settings: Settings,
        book: EntryBook,
        lease: Lease,
        firings: Firings,
        ownership: Ownership,
        ledger: Ledger,
    ) -> None:
        self._settings = settings
        self._book = book
        self._lease = lease
        self._firings = firings
        self._ownership = ownership
        self._ledger = ledger
        self._told: set[str] = set()  # the entries that the leader knows, while there is one
        self._told_version = 0  # of who owns what

    def tell(self) -> None:
        """Say what is new of the entries that are ours to fire, or all to a new leader; after all that may change them.

        An entry that is another router's now is gone, for the leader.
        """
        holder, lease = self._lease.holder, self._lease
        first, lease.fresh = lease.fresh, False
        changed, entries = self._book.take_changed(), self._book.entries
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
        gone: list[Told] = []
        for name in entries | changed if first or is_other else changed:
            if name in entries and self._ownership.owns(name):
                if name in changed or name not in self._told:
                    names.append(name)
            elif name in self._told:
                gone.append(name)
        if not (first or names or gone):
            return
        self._told = self._told.union(names).difference(gone)
        known: list[Told] = [(entries[name], self._firings.after_us(entries[name])) for name in names]
        parts = list(pack(gone + known, _bytes)) or [[]]
        for part in parts:
            new, old = [one for one in part if not isinstance(one, str)], [one for one in part if isinstance(one, str)]
            self._ledger.send_after_commit(holder, Entries(lease.term, new, old, first))
            first = False


def _bytes(told: Told) -> int:
    return text_bytes(told) if isinstance(told, str) else entry_bytes(told[0])
