"""What can happen to a role machine. Noun + past participle; data only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mesh.messages import Message, Submit
from mesh.model import FunctionCode, Outcome, Peer, Role, Settlement, TaskOptions, TaskSpec


@dataclass(slots=True, frozen=True)
class MessageReceived:
    """``message`` came from ``peer``, in order (``mesh.core.links`` has seen to that).

    ``raw`` is its encoded form; ``role`` is what the peer's key allows, None where the transport cannot tell.
    """

    peer: Peer
    message: Message
    raw: bytes | None = None
    role: Role | None = None


@dataclass(slots=True, frozen=True)
class PeerLost:
    """The connection to ``peer`` is gone for certain."""

    peer: Peer


# router


@dataclass(slots=True, frozen=True)
class OutcomesLookedUp:
    """The answer to ``LookUpOutcomes``; ids that are not among ``outcomes`` are not in the store."""

    peer: Peer
    ids: list[str]
    outcomes: list[Outcome]
    submit: Submit | None = None
    raw: bytes | None = None


@dataclass(slots=True, frozen=True)
class FunctionLookedUp:
    """The answer to ``LookUpFunction``."""

    peer: Peer
    digest: str
    code: FunctionCode | None


@dataclass(slots=True, frozen=True)
class StoreFilled:
    """The store has little room: accept nothing; with ``halt`` none at all: start nothing either."""

    reason: str
    halt: bool


@dataclass(slots=True, frozen=True)
class StoreFreed:
    """The store has room again."""


# worker


@dataclass(slots=True, frozen=True)
class ExecutorStarted:
    """An executor is ready; ``tasks`` are the names its modules define."""

    executor: int
    tasks: Sequence[str] = ()


@dataclass(slots=True, frozen=True)
class ExecutorSettled:
    """An executor finished these attempts, in the order it was given them."""

    executor: int
    settlements: list[Settlement]


@dataclass(slots=True, frozen=True)
class ExecutorReclaimed:
    """An executor gave back these task ids unstarted."""

    executor: int
    ids: list[str]


@dataclass(slots=True, frozen=True)
class ExecutorEnded:
    """An executor process is gone. ``cause`` is for people ("SIGKILL", "exit code 3")."""

    executor: int
    cause: str


@dataclass(slots=True, frozen=True)
class ExecutorFailed:
    """An executor cannot serve the app at all (it cannot be imported); ``reason`` is one line for people."""

    executor: int
    reason: str


@dataclass(slots=True, frozen=True)
class RouterFound:
    """The transport has a connection that may lead to a router."""

    peer: Peer


@dataclass(slots=True, frozen=True)
class StopRequested:
    """Drain and leave; ``at_once``: do not wait for running tasks."""

    at_once: bool = False


# client


@dataclass(slots=True, frozen=True)
class TasksSubmitted:
    """The user's threads submitted these; ``chosen`` where the user chose the ids."""

    options: list[TaskOptions]
    tasks: list[TaskSpec]
    functions: tuple[FunctionCode, ...] = ()
    chosen: bool = False


@dataclass(slots=True, frozen=True)
class ResultsWatched:
    """Somebody in this process waits for ids it did not submit."""

    ids: list[str]


@dataclass(slots=True, frozen=True)
class ResultsForgotten:
    """Nobody in this process holds these results any more; ``drop``: the store may drop them too."""

    ids: list[str]
    drop: bool = False


@dataclass(slots=True, frozen=True)
class TasksCancelled:
    """The user revoked these."""

    ids: list[str]
    terminate: bool = False
    signal: str = "SIGKILL"


@dataclass(slots=True, frozen=True)
class QueryAsked:
    """The user asks a router."""

    request: int
    what: str
    arguments: tuple[str, ...] = ()


Event = (
    MessageReceived
    | PeerLost
    | OutcomesLookedUp
    | FunctionLookedUp
    | StoreFilled
    | StoreFreed
    | ExecutorStarted
    | ExecutorSettled
    | ExecutorReclaimed
    | ExecutorEnded
    | ExecutorFailed
    | RouterFound
    | StopRequested
    | TasksSubmitted
    | ResultsWatched
    | ResultsForgotten
    | TasksCancelled
    | QueryAsked
)
