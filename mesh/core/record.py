"""What a router remembers of one unfinished task; kept small, for there may be millions.

None of these is tracked by the garbage collector: they hold no cycles, and a collection over a million of them
would stop the router for a second.
"""

from __future__ import annotations

from msgspec import Struct

from mesh.core.queues import Lane
from mesh.core.states import TRANSITIONS
from mesh.messages import Cancel
from mesh.model import Payload, Peer, TaskExtra, TaskOptions, TaskState, payload_size


class Kind(Struct, gc=False, frozen=True):
    """Options shared by many tasks, interned: ``number`` names them on the wire, ``lane`` is where they queue."""

    number: int
    options: TaskOptions
    lane: Lane


class Batch(Struct, gc=False):
    """A journalled batch: gone when ``open``, its unfinished tasks, is 0. ``owner`` is the client that sent it.

    ``functions``: digests of the shipped functions its options name. ``elsewhere``: another router may have it, too.
    """

    seq: int
    accepted_at: float
    owner: Peer | None
    open: int = 0
    functions: tuple[str, ...] = ()
    elsewhere: bool = False


class Rare(Struct, gc=False):
    """What only few tasks have."""

    eta: float | None = None
    expires_at: float | None = None
    extra: TaskExtra | None = None
    retries: int = 0
    deaths: int = 0  # executor processes that died with it
    losses: int = 0  # worker nodes, or deliveries, that were lost with it
    causes: tuple[str, ...] = ()
    cancel: Cancel | None = None  # asked for while it was out: it must not be delivered again
    marked: bool = False  # the store has a mark of it
    started: bool = False  # at-most-once, and handed out
    settled: int = 0  # the last attempt that was settled and did not finish it


class TaskRecord(Struct, gc=False):
    """An unfinished task. ``order`` is its place in the order of acceptance."""

    id: str
    kind: Kind
    payload: Payload
    batch: Batch
    order: int
    state: TaskState
    attempt: int = 0
    worker: Peer | None = None
    rare: Rare | None = None

    def move(self, state: TaskState) -> None:
        """Change the state. An illegal change is a bug of ours and says all we know of the task."""
        if state not in TRANSITIONS[self.state]:
            raise AssertionError(f"task {self.id} cannot go from {self.state} to {state}; {self.story()}")
        self.state = state

    def rarely(self) -> Rare:
        """The rare facts, made on first use."""
        rare = self.rare
        if rare is None:
            rare = self.rare = Rare()
        return rare

    @property
    def at_most_once(self) -> bool:
        """Whether it must not run again once it was out: by its options, or its start was written down."""
        return self.kind.options.at_most_once or (self.rare is not None and self.rare.started)

    @property
    def size(self) -> int:
        """Bytes of its payload."""
        return payload_size(self.payload)

    def story(self) -> str:
        """What happened to the task so far, for people."""
        rare = self.rare or Rare()
        return (
            f"name {self.kind.options.name}, queue {self.kind.options.queue}, state {self.state}, "
            f"attempt {self.attempt}, retries {rare.retries}, deaths {rare.deaths} {list(rare.causes)}, "
            f"losses {rare.losses}, worker {self.worker.hex() if self.worker else None}, "
            f"batch {self.batch.seq} with {self.batch.open} open, order {self.order}"
        )
