"""A client's batches: what was submitted and no router has accepted yet.

A batch is kept until a router says that it is committed, or it is given up. One that was rejected for load waits here
until it may be sent again. Which router a batch goes to is the client's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf
from operator import attrgetter

from msgspec.structs import replace

from mesh.clock import Now
from mesh.core.clocks import moved
from mesh.core.events import TasksSubmitted
from mesh.core.packing import has_long_options, pack, task_bytes_with
from mesh.messages import Rejected
from mesh.model import FunctionCode, Peer, TaskOptions, TaskSpec, payload_sizes
from mesh.settings import Settings

JUMP_S = 0.5  # a clock that is set drifts less between two tries
FUNCTIONS_MAX = 512  # shipped functions kept for the next session; those that a batch needs stay beyond that, too

_payload = attrgetter("payload")


@dataclass(slots=True)
class OutBatch:
    """A submitted batch that no router has accepted yet."""

    number: int
    options: list[TaskOptions]
    tasks: list[TaskSpec]
    size: int
    give_up_at: float  # monotonic: after this an overloaded mesh makes it fail
    repeated: bool
    chosen: bool  # its ids may be known already
    clock: float  # wall less monotonic seconds: what its tasks count from now is by that clock
    retry_at: float = 0.0  # monotonic; of a rejected batch
    rejection: Rejected | None = None  # for load; it is sent again
    functions_asked: bool = False  # a router no longer had the functions it needs
    router: Peer | None = None  # it was sent there and is not answered
    perhaps_at: frozenset[Peer] = frozenset()  # it was sent there and was not answered; it may be there

    @property
    def at_most_once(self) -> bool:
        """Whether a second router must not have it while the first may have it, too."""
        return any(options.at_most_once for options in self.options)

    def may_be_at(self, router: Peer) -> bool:
        """Whether this router may have accepted it."""
        return self.router == router or router in self.perhaps_at

    def keep_to_clock(self, now: Now) -> None:
        """What its tasks count from now is by the clock as it is now: one that jumped says another time since."""
        jump, self.clock = now.wall - now.mono - self.clock, now.wall - now.mono
        if abs(jump) > JUMP_S:
            self.tasks = moved(self.tasks, jump)

    def leave(self) -> None:
        """The session in which it was sent is over: it was not answered, and may be there."""
        if self.router is not None:
            self.perhaps_at |= {self.router}
        self.router = None


class OutBatches:
    """``by_number``: all of them, the oldest first. ``functions``: by digest, the one that was used last comes last."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.by_number: dict[int, OutBatch] = {}
        self._rejected: dict[int, OutBatch] = {}  # those of them with a rejection
        self.tasks = 0  # in them
        self.bytes = 0  # of their payloads
        self.last = 0  # the number of the last one
        self.functions: dict[str, FunctionCode] = {}

    def add(self, event: TasksSubmitted, now: Now) -> list[OutBatch]:
        """Cut what was submitted into batches."""
        for code in event.functions:
            self.functions.pop(code.digest, None)
            self.functions[code.digest] = code
        options = event.options
        give_up_at = now.mono + self._settings.submit_timeout_s
        most = self._settings.batch_tasks_max
        long_options = has_long_options(options)
        added: list[OutBatch] = []
        for part in pack(event.tasks, task_bytes_with(options)):
            for start in range(0, len(part), most):
                batch_options, batch_tasks = options, list(part[start : start + most])
                if long_options:
                    batch_options, batch_tasks = _only_used(options, batch_tasks)
                self.last += 1
                size = payload_sizes(map(_payload, batch_tasks))
                chosen, clock = event.chosen, now.wall - now.mono
                batch = OutBatch(
                    self.last, batch_options, batch_tasks, size, give_up_at, repeated=chosen, chosen=chosen, clock=clock
                )
                self.by_number[batch.number] = batch
                self.tasks += len(batch_tasks)
                self.bytes += size
                added.append(batch)
        return added

    def forget_functions(self) -> list[str]:
        """Keep no more shipped functions than ``FUNCTIONS_MAX`` and those that are needed; which are not kept."""
        if len(self.functions) <= FUNCTIONS_MAX:
            return []
        needed = {options.function for batch in self.by_number.values() for options in batch.options}
        unneeded = [digest for digest in self.functions if digest not in needed]
        gone = unneeded[: len(self.functions) - FUNCTIONS_MAX]
        for digest in gone:
            del self.functions[digest]
        return gone

    def ids(self) -> set[str]:
        """The tasks in them."""
        return {task.id for batch in self.by_number.values() for task in batch.tasks}

    def remove(self, number: int) -> OutBatch | None:
        """A batch is accepted, or given up."""
        batch = self.by_number.pop(number, None)
        if batch is not None:
            self._rejected.pop(number, None)
            self.tasks -= len(batch.tasks)
            self.bytes -= batch.size
        return batch

    def reject(self, batch: OutBatch, why: Rejected, now: float) -> None:
        """A router does not take it now."""
        batch.retry_at = now + why.retry_after_s
        batch.repeated = batch.chosen or bool(batch.perhaps_at)  # the router said that it has nothing of it
        batch.rejection = why
        self._rejected[batch.number] = batch

    def rejected(self) -> list[OutBatch]:
        """Those that are to be sent again, or given up, when it is time."""
        return list(self._rejected.values())

    def send_again(self, batch: OutBatch) -> None:
        """It is rejected no more."""
        batch.rejection = None
        del self._rejected[batch.number]

    def next_deadline(self, router_for: Callable[[OutBatch], Peer | None]) -> float:
        """When a rejected one is to be sent again, if there is a router for it, or given up."""
        deadline = inf
        for batch in self._rejected.values():
            at = batch.give_up_at if router_for(batch) is None else min(batch.retry_at, batch.give_up_at)
            deadline = min(deadline, at)
        return deadline

    def out(self) -> Iterable[tuple[Peer, int]]:
        """Each that was sent to a router and is not answered: the router, and its number."""
        return [(b.router, b.number) for b in self.by_number.values() if b.router is not None and b.rejection is None]

    def check(self) -> None:
        """Raise ``AssertionError`` unless they are counted right."""
        assert self.tasks == sum(len(batch.tasks) for batch in self.by_number.values()), "tasks miscounted"
        assert self.bytes == sum(batch.size for batch in self.by_number.values()), "bytes miscounted"
        rejected = {number for number, batch in self.by_number.items() if batch.rejection is not None}
        assert self._rejected.keys() == rejected, "batches to be sent again miscounted"


def _only_used(options: list[TaskOptions], tasks: list[TaskSpec]) -> tuple[list[TaskOptions], list[TaskSpec]]:
    """The options these tasks refer to, and the tasks referring to those."""
    places = {option: place for place, option in enumerate(dict.fromkeys(task.option for task in tasks))}
    return [options[option] for option in places], [replace(task, option=places[task.option]) for task in tasks]
