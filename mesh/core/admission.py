"""What a router accepts and what it rejects, and who asks for which outcomes."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mesh.clock import Now
from mesh.core.afar import Afar
from mesh.core.clocks import submitted
from mesh.core.commands import LookUpOutcomes
from mesh.core.events import OutcomesLookedUp
from mesh.core.ledger import Ledger
from mesh.core.limbo import Limbo
from mesh.core.membership import Membership
from mesh.core.packing import outcome_bytes, pack, text_bytes
from mesh.core.peers import Session
from mesh.core.room import Room
from mesh.core.tasks import TaskTable
from mesh.entries import NOT_TO_CHOOSE, OWN_IDS
from mesh.messages import Outcomes, Rejected, Submit, Unknown, Unwatch, Watch
from mesh.model import Peer, Role
from mesh.settings import Settings

_MARK = OWN_IDS[-1:].encode()


def takes_own_ids(submit: Submit, raw: bytes | None) -> bool:
    """Whether a task in a batch has an id that is for a router to give."""
    if raw is not None and _MARK not in raw:  # one look at the bytes, and none at each task of most batches
        return False
    return any(spec.id.startswith(OWN_IDS) for spec in submit.tasks)


class Admission:
    """``afar``: where others share the store."""

    def __init__(
        self,
        settings: Settings,
        table: TaskTable,
        members: Membership,
        limbo: Limbo,
        ledger: Ledger,
        counters: dict[str, int],
        afar: Afar | None,
        room: Room,
    ) -> None:
        self._afar = afar
        self._settings = settings
        self._table = table
        self._members = members
        self._limbo = limbo
        self._ledger = ledger
        self._counters = counters
        self._room = room

    def on_submit(self, session: Session, submit: Submit, raw: bytes | None, now: Now) -> None:
        """Take in a batch, reject it, or look up first which of its tasks are finished already."""
        peer = session.peer
        if takes_own_ids(submit, raw):
            self._reject(peer, submit, ("invalid", NOT_TO_CHOOSE))
            return
        submit, raw = submitted(submit, raw, self._members.later(session, submit.at, now))
        tasks = self._table.tasks
        fresh = [spec.id for spec in submit.tasks if spec.id not in tasks] if submit.repeated else None
        rejection = self._rejection(submit, len(submit.tasks) if fresh is None else len(fresh))
        if rejection is not None and (fresh is None or rejection[0] == "invalid"):
            self._reject(peer, submit, rejection)
        elif fresh:  # those that are finished are not new, and not to be rejected
            self._ledger.add(LookUpOutcomes(peer, fresh, submit, raw))
        else:
            self._accept(peer, submit, raw, (), now)

    def _accept(self, peer: Peer, submit: Submit, raw: bytes | None, known: Collection[str], now: Now) -> None:
        self._table.accept(peer, submit, raw, known, now)
        self._ledger.accepted[peer].append(submit.batch)

    def _reject(self, peer: Peer, submit: Submit, rejection: tuple[str, str]) -> None:
        self._counters["rejected"] += 1
        self._ledger.send(peer, Rejected(submit.batch, *rejection))

    def _rejection(self, submit: Submit, fresh: int) -> tuple[str, str] | None:
        """(code, reason) when this batch, with so many tasks that are not here yet, cannot be taken."""
        count = len(submit.options)
        if not all(0 <= option < count for option in {spec.option for spec in submit.tasks}):
            return "invalid", "a task refers to options that were not sent with it"
        if not fresh:
            return None
        if (why := self.no_room(fresh)) is not None:
            return "overloaded", why
        table, settings = self._table, self._settings
        if (digest := table.functions.missing(submit.options)) is not None:
            if len(table.functions.kept) >= settings.functions_max:
                return "overloaded", f"{len(table.functions.kept)} shipped functions are kept, functions_max"
            return "function", f"the router does not have the shipped function {digest}: it is to be sent again"
        return None

    def no_room(self, fresh: int) -> str | None:
        """Why so many new tasks cannot be taken now; None where they can."""
        table, settings = self._table, self._settings
        if self._room.why is not None:
            return self._room.why
        if len(table.tasks) + fresh > settings.queued_tasks_max:
            return f"{len(table.tasks)} tasks are queued; the limit is {settings.queued_tasks_max}"
        if table.bytes >= settings.queued_bytes_max:
            return f"{table.bytes} bytes are queued; the limit is {settings.queued_bytes_max}"
        return None

    def on_outcomes_looked_up(self, event: OutcomesLookedUp, now: Now) -> None:
        """Go on with the batch, or with the watching, that the outcomes were looked up for."""
        peer = event.peer
        known = {outcome.id for outcome in event.outcomes}
        if event.submit is not None:
            known.update(event.elsewhere)
        if event.submit is not None:
            if event.outcomes:
                self._ledger.news[peer] += event.outcomes
            self._counters["duplicates"] += len(known)
            fresh = sum(1 for i in event.ids if i not in known and i not in self._table.tasks)
            rejection = self._rejection(event.submit, fresh)
            if rejection is not None:
                self._reject(peer, event.submit, rejection)
            else:
                self._accept(peer, event.submit, event.raw, known, now)
                for part in pack(event.elsewhere, text_bytes):  # it was accepted in an earlier life: others are asked
                    self._ledger.send_after_commit(peer, Unknown(list(part)))
            return
        # What the store has is durable, and need not wait until a full one takes more.
        for found in pack(event.outcomes, outcome_bytes):
            self._ledger.send(peer, Outcomes(list(found)))
        unknown = [i for i in event.ids if i not in known and i not in self._table.tasks]
        session = self._members.clients.get(peer)
        if unknown and self._afar is not None and session is not None and session.role is not Role.ROUTER:
            unknown = self._afar.ask(peer, unknown)  # a router asks the others itself
        for part in pack(unknown, text_bytes):
            self._ledger.send(peer, Unknown(list(part)))
        self._watch(peer, [i for i in event.ids if i not in known and i in self._table.tasks])  # they came meanwhile

    def on_watch(self, session: Session, message: Watch, now: Now) -> None:
        """Tell the peer of these outcomes, now or when they are there."""
        tasks = self._table.tasks
        absent = [task_id for task_id in message.ids if task_id not in tasks]
        if absent:
            self._ledger.add(LookUpOutcomes(session.peer, absent))
        here = self._limbo.yield_to(session, [task_id for task_id in message.ids if task_id in tasks])
        if message.own:
            self._own(session.peer, here)
        self._watch(session.peer, here)

    def _own(self, peer: Peer, ids: Sequence[str]) -> None:
        """Who submitted these speaks from another connection, or to a router that has started anew."""
        for task_id in ids:
            batch = self._table.tasks[task_id].batch
            if batch.owner not in self._members.clients:
                batch.owner = peer

    def _watch(self, peer: Peer, ids: Sequence[str]) -> None:
        limit = self._settings.watched_ids_max
        beyond = []
        for task_id in ids:
            if not self._table.is_told(peer, task_id):
                if self._table.watching.count(peer) < limit:
                    self._table.watching.add(peer, task_id)
                else:
                    beyond.append(task_id)
        if beyond:
            why = f"no more than {limit} ids of others can be watched (watched_ids_max)"
            self._members.refuse(peer, "watched", why, beyond)

    def on_unwatch(self, session: Session, message: Unwatch, now: Now) -> None:
        """Tell the peer no more; with ``forget`` nobody will be told."""
        for task_id in message.ids:
            self._table.watching.remove(session.peer, task_id)
        if self._afar is not None:
            self._afar.forget(session.peer, message.ids)
        if message.forget:
            self._ledger.forgotten += [i for i in message.ids if i not in self._table.tasks]
