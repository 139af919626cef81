"""Who may fire: of the workers that would, one at a time, under a term that grows with each new holder.

That a stale holder fires nothing is the term's doing: the lease only keeps several from doing the same work. So it goes
to the next in line as soon as its holder is gone, and needs no certainty that the holder knows.
"""

from __future__ import annotations

from math import inf

from mesh.clock import Now
from mesh.core.ledger import Ledger
from mesh.core.membership import Membership
from mesh.messages import AskLease, Leased
from mesh.model import Peer
from mesh.settings import Settings

TERM_BITS = 32  # of the holders since the start; above them stands how often the router was started on its store


class Lease:
    """Of one router; ``boot`` is how often it was started on its store, so that its terms grow across starts."""

    def __init__(self, settings: Settings, boot: int, members: Membership, ledger: Ledger) -> None:
        self._ttl_s = settings.schedule_lease_ttl_s
        self._members = members
        self._ledger = ledger
        self.holder: Peer | None = None
        self.term = boot << TERM_BITS  # of the holder, or of the last there was
        self.fresh = False  # the holder is new, and has not been told of the entries
        self._until = 0.0  # monotonic
        self._line: dict[Peer, float] = {}  # who else would be the holder, in order; when that was last said

    @property
    def holder_name(self) -> str:
        """Whose lease it is, for people; empty where nobody's."""
        worker = self._members.workers.get(self.holder) if self.holder is not None else None
        return worker.name if worker is not None else ""

    def is_held(self, peer: Peer, term: int, now: Now) -> bool:
        """Whether ``peer`` may fire in this term now."""
        return peer == self.holder and term == self.term and now.mono < self._until

    def on_ask(self, peer: Peer, message: AskLease, now: Now) -> None:
        """Renew the lease, give it, or keep the asker in mind."""
        if not message.keep:
            self.release(peer)
        elif peer == self.holder and now.mono < self._until:
            self._until = now.mono + self._ttl_s
        else:
            self._line[peer] = now.mono
        if self._pass_on(now) != peer:
            self._tell(peer, now)

    def release(self, peer: Peer) -> None:
        """``peer`` leads no more, and does not want to: it said so, or its session is over."""
        self._line.pop(peer, None)
        if peer == self.holder:
            self.holder = None

    def tick(self, now: Now) -> None:
        """Give the lease to the next in line where its holder is gone, or was silent too long."""
        self._pass_on(now)

    def next_deadline(self) -> float:
        """The monotonic second at which ``tick`` has something to do."""
        return inf if self.holder is None else self._until

    def _pass_on(self, now: Now) -> Peer | None:
        """Who was given the lease just now."""
        workers = self._members.workers
        if self.holder is not None and (self.holder not in workers or now.mono >= self._until):
            self.holder = None
        if self.holder is not None or not self._line:
            return None
        self._line = {peer: at for peer, at in self._line.items() if peer in workers and now.mono < at + self._ttl_s}
        if not self._line:
            return None
        self.holder = next(iter(self._line))
        del self._line[self.holder]
        self.term += 1
        self.fresh = True
        self._until = now.mono + self._ttl_s
        self._tell(self.holder, now)
        return self.holder

    def _tell(self, peer: Peer, now: Now) -> None:
        term = self.term if peer == self.holder else 0
        self._ledger.send(peer, Leased(term, self._ttl_s, now.wall, self.holder_name))

    def check(self) -> None:
        """Raise ``AssertionError`` if an invariant is broken."""
        assert self.holder not in self._line, "the holder of the lease waits for it"
