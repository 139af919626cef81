"""What a router decides about periodic tasks: who takes in what, and in which order the parts have their turns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from math import inf
from typing import Any

from mesh.clock import Now
from mesh.core.bids import Bids
from mesh.core.commands import Record
from mesh.core.declaring import Declarations
from mesh.core.entries import EntryBook
from mesh.core.entry_operations import EntryOperations
from mesh.core.events import BidAnswered, GossipHeard, OthersFound
from mesh.core.fire_admission import FireAdmission
from mesh.core.firing import Firings
from mesh.core.gossip import Gossips
from mesh.core.leader_news import LeaderNews
from mesh.core.lease import Lease
from mesh.core.ledger import Ledger
from mesh.core.membership import Membership
from mesh.core.ownership import Ownership
from mesh.core.peers import Worker
from mesh.core.room import Room
from mesh.core.store_bids import StoreBids
from mesh.core.tasks import TaskTable
from mesh.entries import Entry, Position
from mesh.messages import AskLease, Declare, Fire, Schedule
from mesh.model import Peer
from mesh.settings import Settings


class Periodic:
    """Of one router; ``boot``, ``shared`` and ``no_room`` as in ``RouterMachine`` and ``Firings``.

    ``events`` and ``verbs``: who takes in which of those that are of periodic tasks alone.
    """

    def __init__(
        self,
        settings: Settings,
        router_id: str,
        boot: int,
        members: Membership,
        table: TaskTable,
        no_room: Callable[[int], str | None],
        ledger: Ledger,
        counters: dict[str, int],
        room: Room,
        *,
        shared: bool,
    ) -> None:
        entries: dict[str, Entry] = {}
        self.lease = lease = Lease(settings, boot, members, ledger)
        self.ownership = ownership = Ownership(settings, router_id, shared=shared)
        self._bids = bids = Bids(settings, boot)
        self._store_bids = store_bids = StoreBids(settings, boot, ledger) if shared else None
        owns = ownership.owns
        self.firings = firings = Firings(entries, table, no_room, owns, ledger, counters)
        self._admission = admission = FireAdmission(
            settings, entries, lease, firings, no_room, owns, bids, ledger, counters, store_bids
        )
        self.book = book = EntryBook(settings, entries, firings, ownership, ledger, counters)
        self._declarations = Declarations(settings, book, members, ledger, counters)
        operations = EntryOperations(settings, book, members, lease, firings, ownership, ledger, room)
        self._leader_news = LeaderNews(settings, book, lease, firings, ownership, ledger)
        self._gossips = gossips = Gossips(members.get, ownership, book, firings, bids, ledger)
        self.events: dict[type, Callable[[Any, Now], None]] = {
            BidAnswered: admission.on_bid_answered,
            GossipHeard: gossips.on_heard,
        }
        self.verbs: dict[type, Callable[[Any, Any, Now], None]] = {
            AskLease: self._on_ask_lease,
            Declare: self._declarations.on_declare,
            Fire: admission.on_fire,
            Schedule: operations.on_schedule,
        }

    # at a start, and for a store that has lost all

    def restore(
        self, apps: Mapping[str, float], entries: Iterable[Entry], positions: Iterable[Position], *, others: bool
    ) -> None:
        """Begin with what the store had; the unfinished tasks are there already."""
        self.book.restore(apps, entries, positions)
        self.ownership.begin(others=others)

    def expect_others(self) -> None:
        """There may be other routers, which have first to be found."""
        self.ownership.begin(others=True)

    def contents(self) -> Iterator[Record]:
        """All that is to be durable of them."""
        return self.book.contents()

    # sessions

    def greet(self, peer: Peer) -> None:
        """A session was opened."""
        self._gossips.greet(peer)

    def forget(self, peer: Peer) -> None:
        """The session is over, or another begins, which knows nothing of what was said in the last."""
        self.lease.release(peer)
        self._declarations.forget(peer)

    def on_others_found(self, event: OthersFound, now: Now) -> None:
        """Other routers came or went."""
        self._gossips.on_others_found(event, now)

    def _on_ask_lease(self, worker: Worker, message: AskLease, now: Now) -> None:
        self.lease.on_ask(worker.peer, message, now)

    # the turns of a wake-up, in this order

    def begin(self, now: Now) -> None:
        """The first wake-up: before any event."""
        self.firings.begin(now)
        self.ownership.tick(now.mono)

    def wake(self, away_s: float, now: Now) -> None:
        """Every other, ``away_s`` after the last: before any event."""
        self.ownership.excuse(away_s, now.mono)
        self.ownership.tick(now.mono)

    def lead(self, now: Now) -> None:
        """See to it that somebody leads: after all events."""
        self.lease.tick(now)
        self.ownership.follow(leads=self.lease.holder is not None, now=now.mono)

    def fire(self, now: Now) -> None:
        """Fire what waited, and remove what is due no more: after all that ends tasks."""
        self._admission.decide(now)
        self.firings.note_ended()
        self._admission.fire_queued(now)
        self.book.tick(now)

    def tell(self) -> None:
        """Say what is new to the leader and to other routers: after all that may change it."""
        self._leader_news.tell()
        self._gossips.tell()

    def next_deadline(self, now: Now) -> float:
        """The monotonic second at which a turn has something to do, even if nothing happens."""
        store_at = inf if self._store_bids is None else self._store_bids.next_deadline()
        own = self.lease.next_deadline(), self.ownership.next_deadline(now.mono), self._bids.next_deadline()
        return min(store_at, *own)

    def check(self) -> None:
        """Raise ``AssertionError`` if an invariant is broken."""
        self.lease.check()
        self.book.check()
        self.firings.check()
