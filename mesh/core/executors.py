"""What a worker node knows of one of its executor processes."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from msgspec import Struct

from mesh.core.few import few
from mesh.model import Delivery, Peer, Settlement, TaskOptions


class Held(Struct, gc=False, frozen=True):
    """A delivery in this node, and the router it is from."""

    router: Peer
    delivery: Delivery
    options: TaskOptions

    @property
    def alone(self) -> bool:
        """Whether it must have an executor for itself.

        With a time limit, so that the limit is counted from its own start; after a death, so that a further one
        is pinned on the right task.
        """
        return self.options.time_limit_s is not None or self.delivery.deaths > 0


NAMED_MAX = 3  # tasks in a text for people
NAME_CHARS_MAX = 200  # as users' names have; others may come over the wire


def named(helds: Sequence[Held]) -> str:
    """Which tasks these are, for people: the first of them, and how many more."""
    return few([f"{held.options.name[:NAME_CHARS_MAX]}[{held.delivery.id}]" for held in helds], NAMED_MAX)


def pace_name(options: TaskOptions) -> str:
    """Under which name run times are remembered: a mapped task takes as long as all its elements."""
    return f"{options.name}[]" if options.mapped else options.name


class Phase(enum.Enum):
    """The life of an executor."""

    STARTING = "starting"
    UP = "up"
    RETIRING = "retiring"  # takes no more, ends when it is through


class Executor:
    """An executor process: what it was given and has not settled, in order."""

    __slots__ = (
        "alone",
        "chunk",
        "finished",
        "functions",
        "given",
        "kill_as",
        "killed_for",
        "number",
        "phase",
        "progress_at",
        "reclaiming",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.phase = Phase.STARTING
        self.chunk: dict[str, Held] = {}
        self.alone = False  # what it has must run alone
        self.given = 0  # tasks given over its whole life
        self.finished = False  # whether it has settled any of them
        self.functions: set[str] = set()
        self.reclaiming = False
        self.progress_at = 0.0  # monotonic; when it was last idle, or last settled something
        self.kill_as: Settlement | None = None  # we killed it, and so this task ends
        self.killed_for = ""  # the same for people

    def current(self) -> Held:
        """The oldest it has not settled: the one that runs, unless it has just finished. It must have one."""
        return next(iter(self.chunk.values()))
