"""What a router's log says of who takes part, who leads, and whether the store takes what is new."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.core.commands import Complain
from mesh.core.router import RouterMachine
from mesh.core.status import STORE_AWAY
from nodes.counts import count_of, term_text


class RouterNews:
    """Of one router; tells what is another than when it was looked last."""

    def __init__(self, machine: RouterMachine) -> None:
        self._machine = machine
        self._workers: dict[str, str] = {}  # their names, by node id
        self._leader: tuple[int, str] | None = None  # term and name
        self._full_since: float | None = None

    def look(self, now: float) -> Iterator[Complain]:
        """What is new at a monotonic second; each kind may come often."""
        yield from self._of_workers()
        yield from self._of_leader()
        yield from self._of_room(now)

    def _of_workers(self) -> Iterator[Complain]:
        there = {worker.node_id: worker.name for worker in self._machine.workers.values()}
        known, self._workers = self._workers, there
        many = count_of(len(there), "worker")
        for node_id in there.keys() - known.keys():
            yield Complain("workers came", f"worker {there[node_id]} takes part; {many}", is_wrong=False)
        for node_id in known.keys() - there.keys():
            yield Complain("workers left", f"worker {known[node_id]} takes part no more; {many}", is_wrong=False)

    def _of_leader(self) -> Iterator[Complain]:
        lease = self._machine.periodic.lease
        leader = (lease.term, lease.holder_name) if lease.holder_name else None
        known, self._leader = self._leader, leader
        if known is not None and known != leader:
            text = f"worker {known[1]} leads no more (term {term_text(known[0])})"
            yield Complain("leaders left", text, is_wrong=False)
        if leader is not None and known != leader:
            text = f"worker {leader[1]} leads (term {term_text(leader[0])}): it says what periodic tasks are due"
            yield Complain("leaders", text, is_wrong=False)

    def _of_room(self, now: float) -> Iterator[Complain]:
        why = self._machine.full
        if why is not None and why.startswith(STORE_AWAY):  # that is said where the store is looked at
            return
        if why is not None and self._full_since is None:
            self._full_since = now
            yield Complain("room", f"nothing new is accepted: {why}")
        elif why is None and self._full_since is not None:
            full_s, self._full_since = now - self._full_since, None
            yield Complain(
                "room again", f"the store has room again, what is new is accepted: it had none for {full_s:.1f} s"
            )
