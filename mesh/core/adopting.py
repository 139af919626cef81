"""What a router takes over from another that is lost, whose journal was in the same store.

It is in limbo as after a start of this router's own: the workers that were there are asked what they hold of it.
"""

from __future__ import annotations

from mesh.clock import Now
from mesh.core.afar import Afar
from mesh.core.events import BatchesAdopted, JournalAdopted, JournalClaimed
from mesh.core.firing import Firings
from mesh.core.limbo import Limbo
from mesh.core.membership import Membership
from mesh.core.tasks import TaskTable


class Adopting:
    """Of one router."""

    def __init__(
        self,
        table: TaskTable,
        members: Membership,
        limbo: Limbo,
        afar: Afar,
        firings: Firings,
        counters: dict[str, int],
    ) -> None:
        self._table = table
        self._firings = firings
        self._members = members
        self._limbo = limbo
        self._afar = afar
        self._counters = counters

    def on_claimed(self, event: JournalClaimed, now: Now) -> None:
        """Begin: until all is here, nothing of it is run."""
        self._limbo.hold()
        self._members.ask_claims(event.nodes)
        self._table.functions.adopt(event.functions)

    def on_batches(self, event: BatchesAdopted, now: Now) -> None:
        """Some of it is in our journal."""
        marks = {mark.id: mark for mark in event.marks}
        before = len(self._table.tasks)
        for seq, accepted_at, submit in event.batches:
            self._table.restore(seq, accepted_at, submit, (), marks)
        self._firings.adopt({spec.id for _, _, submit in event.batches for spec in submit.tasks})
        self._counters["adopted"] += len(self._table.tasks) - before

    def on_adopted(self, event: JournalAdopted, now: Now) -> None:
        """All of it is."""
        self._members.tell_adopted(event.router_id, event.boot)
        self._limbo.release()
        self._afar.look_here()
