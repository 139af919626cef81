"""What a role machine asks of the process it lives in. Verb + noun; data only.

Two kinds: effects that must be durable (``Record`` types, committed in one go per wake-up) and effects that are
told to others. ``Send.after_commit`` marks what depends on the commit of the same wake-up: persist, then tell.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mesh.messages import Message, Submit
from mesh.model import Blob, Delivery, FunctionCode, NodeInfo, Outcome, Peer, TaskMark, TaskOptions


@dataclass(slots=True, frozen=True)
class Send:
    """Send ``message`` to ``peer``; with ``after_commit`` not before this wake-up's records are durable."""

    peer: Peer
    message: Message
    after_commit: bool = False


@dataclass(slots=True, frozen=True)
class DropPeer:
    """Forget the session with ``peer``."""

    peer: Peer


# records: router → store


@dataclass(slots=True, frozen=True)
class AppendBatch:
    """Journal a batch as it arrived. ``raw`` is its encoded form where nothing had to be left out of it."""

    seq: int
    submit: Submit
    raw: bytes | None
    accepted_at: float


@dataclass(slots=True, frozen=True)
class DropBatches:
    """The last task of each of these batches is settled."""

    seqs: list[int]


@dataclass(slots=True, frozen=True)
class SaveMarks:
    """Remember these facts about unfinished tasks; a later mark of the same id replaces the earlier one."""

    marks: list[TaskMark]


@dataclass(slots=True, frozen=True)
class RecordOutcomes:
    """These tasks are finished; ``marked`` are those of them that have a mark to be removed."""

    outcomes: list[Outcome]
    marked: list[str] = field(default_factory=list)


@dataclass(slots=True, frozen=True)
class DropOutcomes:
    """Forget these outcomes now (``AsyncResult.forget``)."""

    ids: list[str]


@dataclass(slots=True, frozen=True)
class DropBlobs:
    """Nobody needs these payloads any more."""

    blobs: list[Blob]


@dataclass(slots=True, frozen=True)
class SaveFunction:
    """Keep a shipped function."""

    code: FunctionCode


@dataclass(slots=True, frozen=True)
class SaveNode:
    """Remember that this worker may hold tasks of ours."""

    node: NodeInfo


@dataclass(slots=True, frozen=True)
class DropNode:
    """This worker is gone and holds nothing of ours."""

    node_id: str


Record = (
    AppendBatch
    | DropBatches
    | SaveMarks
    | RecordOutcomes
    | DropOutcomes
    | DropBlobs
    | SaveFunction
    | SaveNode
    | DropNode
)
RECORDS = Record.__args__


# questions: router → store; answered by events


@dataclass(slots=True, frozen=True)
class LookUpOutcomes:
    """Read the outcomes of these ids; answered by ``OutcomesLookedUp`` with the same ``peer`` and ``submit``."""

    peer: Peer
    ids: list[str]
    submit: Submit | None = None
    raw: bytes | None = None


@dataclass(slots=True, frozen=True)
class LookUpFunction:
    """Read a shipped function; answered by ``FunctionLookedUp``."""

    peer: Peer
    digest: str


# effects inside a worker node


@dataclass(slots=True, frozen=True)
class StartExecutor:
    """Start an executor process under this number."""

    executor: int


@dataclass(slots=True, frozen=True)
class RunChunk:
    """Hand these deliveries, in this order, to an idle executor."""

    executor: int
    options: dict[int, TaskOptions]
    tasks: list[Delivery]


@dataclass(slots=True, frozen=True)
class GiveFunction:
    """Hand a shipped function to an executor, before the chunk that needs it."""

    executor: int
    code: FunctionCode


@dataclass(slots=True, frozen=True)
class ReclaimChunk:
    """Ask an executor for the deliveries it has not started."""

    executor: int


@dataclass(slots=True, frozen=True)
class StopExecutor:
    """Let an executor end when it has finished what it has."""

    executor: int


@dataclass(slots=True, frozen=True)
class KillExecutor:
    """End an executor now, by this signal."""

    executor: int
    signal: str = "SIGKILL"


@dataclass(slots=True, frozen=True)
class Exit:
    """The process has nothing left to do."""

    code: int = 0
    reason: str = ""


# effects inside a client's process


@dataclass(slots=True, frozen=True)
class PublishOutcomes:
    """Give these outcomes to whoever waits for them in this process."""

    outcomes: list[Outcome]


@dataclass(slots=True, frozen=True)
class PublishUnknown:
    """Nobody knows these ids."""

    ids: list[str]


@dataclass(slots=True, frozen=True)
class PublishRejected:
    """These tasks were not accepted, and will not be sent again. ``code``: overloaded | invalid | unavailable."""

    ids: list[str]
    code: str
    reason: str
    retry_after_s: float = 1.0


@dataclass(slots=True, frozen=True)
class PublishReply:
    """The answer to a query of this process."""

    request: int
    body: bytes


@dataclass(slots=True, frozen=True)
class PublishRefused:
    """A router would not have this node; ``reason`` is for people."""

    code: str
    reason: str


Command = (
    Send
    | DropPeer
    | Record
    | LookUpOutcomes
    | LookUpFunction
    | StartExecutor
    | RunChunk
    | GiveFunction
    | ReclaimChunk
    | StopExecutor
    | KillExecutor
    | Exit
    | PublishOutcomes
    | PublishUnknown
    | PublishRejected
    | PublishReply
    | PublishRefused
)
