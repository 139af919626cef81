"""What a router tells the others of periodic tasks: all it has when one says HELLO, and from then on what is new.

What is said is merged so that all come to the same, in whatever order and however often it is heard. A message that is
lost ends the session, as any does, and the next begins with all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from mesh.clock import Now
from mesh.core.bids import Bid, Bids
from mesh.core.commands import SaveApp, SaveEntry
from mesh.core.entries import EntryBook
from mesh.core.events import GossipHeard, OthersFound
from mesh.core.firing import Firings
from mesh.core.ledger import Ledger
from mesh.core.ownership import Ownership
from mesh.core.packing import entry_bytes, pack, text_bytes
from mesh.core.peers import Session
from mesh.entries import Entry, Position, first_position
from mesh.messages import Gossip
from mesh.model import Peer, Role

GRANTED_MAX = 64  # routers of which the last bid that was granted is remembered
Item = Entry | Position | tuple[str, float]


class Gossips:
    """Of one router. ``session(peer)``: the session with a node, None where there is none."""

    def __init__(
        self,
        session: Callable[[Peer], Session | None],
        ownership: Ownership,
        book: EntryBook,
        firings: Firings,
        bids: Bids,
        ledger: Ledger,
    ) -> None:
        self._session = session
        self._ownership = ownership
        self._book = book
        self._firings = firings
        self._bids = bids
        self._last_bid = 0  # the last of ours that was told
        self._granted: dict[str, int] = {}  # by router: the bid of it that is granted now
        self._last: dict[str, int] = {}  # by router: the last that was, for it may not have heard
        self._refused: dict[str, set[str]] = {}  # by router: what is further than it bids for
        self._ledger = ledger
        self._listeners: dict[Peer, str] = {}  # sessions of other routers, and their ids
        self._fresh: dict[Peer, None] = {}  # those that are to be told all
        self._heard: dict[Entry | Position, str] = {}  # in this wake-up, and the router that has it so
        self._told: frozenset[str] = ownership.fires

    def greet(self, peer: Peer) -> None:
        """A session was opened: where it is another router's, all is to be told."""
        session = self._session(peer)
        if session is not None and session.role is Role.ROUTER:
            self._listeners[peer] = session.node_id.partition(".")[0]
            self._fresh[peer] = None

    def on_others_found(self, event: OthersFound, now: Now) -> None:
        """Other routers came or went."""
        self._ownership.see(event.routers, event.lost, now.mono)

    def on_heard(self, event: GossipHeard, now: Now) -> None:
        """Another router has said this."""
        message = event.message
        self._book.merge(message, now)
        has: list[Entry | Position] = [*message.entries, *message.positions, *map(first_position, message.entries)]
        self._heard.update(dict.fromkeys(has, event.router))
        if message.fires is not None:
            if not self._ownership.says(event.router) <= set(message.fires):
                # It may have missed what those said whom it gave up, and what it hears of them is not told to it here.
                self._fresh.update((peer, None) for peer, router in self._listeners.items() if router == event.router)
            self._ownership.hear(event.router, message.fires, now.mono)
        if message.granted:
            self._bids.on_granted(event.router, message.granted)
        if message.bid and (message.bid == self._last.get(event.router) or self._grant(message.bids)):
            self._last.pop(event.router, None)
            self._last[event.router] = message.bid
            if len(self._last) > GRANTED_MAX:
                del self._last[next(iter(self._last))]
            self._granted[event.router] = message.bid
            positions = self._firings.positions
            self._heard.update((positions[name], event.router) for name, _ in message.bids if name in positions)
        elif message.bid:  # it may not have heard how far these are, and would bid for the same for ever
            self._refused[event.router] = self._firings.behind(message.bids)

    def _grant(self, dues: Sequence[tuple[str, int]]) -> bool:
        """Let another router fire these due times: here they count as fired. Whether it may."""
        moved = self._bids.grant(dues, self._firings.positions)
        for position in moved or ():
            self._firings.leave(position)
        return moved is not None

    def tell(self) -> None:
        """Say what this wake-up has changed; after all that may change it."""
        heard, self._heard = self._heard, {}
        granted, self._granted = self._granted, {}
        refused, self._refused = self._refused, {}
        fires, told = self._ownership.fires, self._told
        self._told = fires
        if not self._listeners:
            return
        ledger, bid = self._ledger, self._bids.out
        is_new_bid = bid is not None and bid.number != self._last_bid
        entries = {one.entry.name: one.entry for one in ledger.entries if isinstance(one, SaveEntry)}
        apps = [(one.app, one.declared_at) for one in ledger.entries if isinstance(one, SaveApp) and one.declared_at]
        if not (
            self._fresh or entries or apps or ledger.positions or fires != told or is_new_bid or granted or refused
        ):
            return
        for peer, router in list(self._listeners.items()):
            if self._session(peer) is None:
                del self._listeners[peer]
            elif peer in self._fresh:
                self._say(peer, self._everything(), fires, bid, self._last.get(router, 0))
            else:
                hears = {router, *self._ownership.says(router)}  # what these said it knows, or is told by them
                positions = self._firings.positions
                behind = {name: positions[name] for name in refused.get(router, ()) if name in positions}
                moved = {name: one for name, one in ledger.positions.items() if heard.get(one) not in hears} | behind
                changed = [one for one in entries.values() if heard.get(one) not in hears]
                new: list[Item] = [*apps, *changed, *moved.values()]
                grant, new_bid = granted.get(router, 0), bid if is_new_bid else None
                if new or fires != told or new_bid or grant:
                    self._say(peer, new, fires if fires != told else None, new_bid, grant)
        self._fresh = {}
        self._last_bid = bid.number if bid is not None else 0

    def _everything(self) -> list[Item]:
        book = self._book
        kept: list[Item] = [*book.apps.items(), *book.entries.values(), *book.gone.values()]
        return kept + list(self._firings.positions.values())

    def _say(
        self, peer: Peer, items: Sequence[Item], fires: frozenset[str] | None, bid: Bid | None, granted: int
    ) -> None:
        parts = list(pack(items, _bytes)) or [[]]
        for place, part in enumerate(parts, 1):
            message = Gossip(
                [item for item in part if isinstance(item, Entry)],
                [item for item in part if isinstance(item, Position)],
                dict(item for item in part if isinstance(item, tuple)),
            )
            if place == len(parts):
                number, dues = (bid.number, bid.dues) if bid is not None else (0, [])
                last = sorted(fires) if fires is not None else None
                message = replace(message, fires=last, bid=number, bids=dues, granted=granted)
            self._ledger.send_after_commit(peer, message)


def _bytes(item: Item) -> int:
    return text_bytes(item[0]) if isinstance(item, tuple) else entry_bytes(item)
