"""What a role machine asks of the process it lives in. Verb + noun; data only.

Two kinds: effects that must be durable (``Record`` types, committed in one go per wake-up) and effects that are
told to others. ``Send.after_commit`` marks what depends on the commit of the same wake-up: persist, then tell.

Structs, as events are: several are made for each task on an idle mesh, at a sixth of a frozen dataclass's price.
"""

from __future__ import annotations

from msgspec import Struct

from mesh.entries import Entry, Position
from mesh.messages import Gossip, Message, Submit
from mesh.model import Blob, Delivery, FunctionCode, NodeInfo, Outcome, Peer, TaskMark, TaskOptions


class Send(Struct, frozen=True, gc=False):
    """Send ``message`` to ``peer``; with ``after_commit`` not before this wake-up's records are durable."""

    peer: Peer
    message: Message
    after_commit: bool = False


class DropPeer(Struct, frozen=True, gc=False):
    """Forget the session with ``peer``."""

    peer: Peer


# records: router → store


class AppendBatch(Struct, frozen=True, gc=False):
    """Journal a batch as it arrived. ``raw`` is its encoded form where nothing had to be left out of it."""

    seq: int
    submit: Submit
    raw: bytes | None
    accepted_at: float


class DropBatches(Struct, frozen=True, gc=False):
    """The last task of each of these batches is settled."""

    seqs: list[int]


class SaveMarks(Struct, frozen=True, gc=False):
    """Remember these facts about unfinished tasks; a later mark of the same id replaces the earlier one."""

    marks: list[TaskMark]


class RecordOutcomes(Struct, frozen=True, gc=False):
    """These tasks are finished; ``marked`` are those of them that have a mark to be removed."""

    outcomes: list[Outcome]
    marked: list[str] = []


class DropOutcomes(Struct, frozen=True, gc=False):
    """Forget these outcomes now (``AsyncResult.forget``)."""

    ids: list[str]


class DropBlobs(Struct, frozen=True, gc=False):
    """Nobody needs these payloads any more."""

    blobs: list[Blob]


class SaveFunction(Struct, frozen=True, gc=False):
    """Keep a shipped function, last used at ``used_at`` (UTC seconds)."""

    code: FunctionCode
    used_at: float = 0.0


class KeepFunctions(Struct, frozen=True, gc=False):
    """These shipped functions were last used at ``used_at``; those that are not there stay so."""

    digests: list[str]
    used_at: float


class DropFunctions(Struct, frozen=True, gc=False):
    """Nobody needs these shipped functions any more."""

    digests: list[str]


class SaveNode(Struct, frozen=True, gc=False):
    """Remember that this worker may hold tasks of ours."""

    node: NodeInfo


class DropNode(Struct, frozen=True, gc=False):
    """This worker is gone and holds nothing of ours."""

    node_id: str


class SaveApp(Struct, frozen=True, gc=False):
    """The code of ``app`` was declared as it was at ``declared_at`` (UTC seconds); 0: forget the app."""

    app: str
    declared_at: float


class SaveEntry(Struct, frozen=True, gc=False):
    """Keep an entry of periodic tasks, in the place of one of its name."""

    entry: Entry


class DropEntry(Struct, frozen=True, gc=False):
    """This entry is gone, and its position with it."""

    name: str


class DueSpan(Struct, frozen=True, gc=False):
    """Due times of an entry, from the first to the last. ``queued``: it has waited for the task of the one before."""

    entry: str
    first_us: int
    last_us: int
    queued: bool = False


class SavePositions(Struct, frozen=True, gc=False):
    """How far these entries have come; in one commit with the tasks that were made for it.

    ``fired``: what a store that routers share has granted, and this commit fires.
    """

    positions: list[Position]
    fired: list[DueSpan] = []


Record = (
    AppendBatch
    | DropBatches
    | SaveMarks
    | RecordOutcomes
    | DropOutcomes
    | DropBlobs
    | SaveFunction
    | KeepFunctions
    | DropFunctions
    | SaveNode
    | DropNode
    | SaveApp
    | SaveEntry
    | DropEntry
    | SavePositions
)
RECORDS = Record.__args__


class Complain(Struct, frozen=True, gc=False):
    """Tell people, who need not hear of each of its ``kind``. Not ``is_wrong``: it went as they asked for."""

    kind: str
    text: str
    is_wrong: bool = True


# questions: router → store; answered by events


class LookUpOutcomes(Struct, frozen=True, gc=False):
    """Read the outcomes of these ids; answered by ``OutcomesLookedUp`` with the same ``peer`` and ``submit``."""

    peer: Peer
    ids: list[str]
    submit: Submit | None = None
    raw: bytes | None = None


class BidAtStore(Struct, frozen=True, gc=False):
    """Be granted these due times by the store that other routers share; answered by ``BidAnswered``.

    What the bids before this one were granted and did not fire is free again.
    """

    number: int
    spans: list[DueSpan]


class AskOthers(Struct, frozen=True, gc=False):
    """Ask all other routers, those that come later too, what became of these tasks.

    ``wait``: one that knows may not be found yet, so that nobody knows them is not the last word at once.
    """

    ids: list[str]
    wait: bool = True


class LookUpFunction(Struct, frozen=True, gc=False):
    """Read a shipped function; answered by ``FunctionLookedUp``."""

    peer: Peer
    digest: str


# effects inside a worker node


class StartExecutor(Struct, frozen=True, gc=False):
    """Start an executor process under this number."""

    executor: int


class RunChunk(Struct, frozen=True, gc=False):
    """Hand these deliveries, in this order, to an idle executor."""

    executor: int
    options: dict[int, TaskOptions]
    tasks: list[Delivery]


class GiveFunction(Struct, frozen=True, gc=False):
    """Hand a shipped function to an executor, before the chunk that needs it."""

    executor: int
    code: FunctionCode


class ReclaimChunk(Struct, frozen=True, gc=False):
    """Ask an executor for the deliveries it has not started."""

    executor: int


class StopExecutor(Struct, frozen=True, gc=False):
    """Let an executor end when it has finished what it has."""

    executor: int


class KillExecutor(Struct, frozen=True, gc=False):
    """End an executor now, by this signal."""

    executor: int
    signal: str = "SIGKILL"


class ReportEnded(Struct, frozen=True, gc=False):
    """Tell people that an executor is gone; ``details``: what it was killed for, which tasks it took along."""

    executor: int
    cause: str
    details: str = ""


class ReportForgotten(Struct, frozen=True, gc=False):
    """Tell people what the end of a router at ``endpoint`` made void here.

    ``settlements`` can be told to nobody any more, deliveries that had not started were ``given_up``, and those still
    ``running`` (for people) finish for nobody.
    """

    endpoint: str
    settlements: int
    given_up: int
    running: str


class Exit(Struct, frozen=True, gc=False):
    """The process has nothing left to do."""

    code: int = 0
    reason: str = ""


# effects inside a client's process


class PublishOutcomes(Struct, frozen=True, gc=False):
    """Give these outcomes to whoever waits for them in this process."""

    outcomes: list[Outcome]


NOT_KNOWN = "never accepted, or its result is kept no longer"


class PublishUnknown(Struct, frozen=True, gc=False):
    """Nobody knows these ids; ``reason`` is for people."""

    ids: list[str]
    reason: str = NOT_KNOWN


class SessionEnded(Struct, frozen=True, gc=False):
    """The session with a router is over although its connection lives; ``reason`` is for people."""

    peer: Peer
    reason: str
    silent: bool = False  # nothing was heard in it: whether the router hangs or is elsewhere is not known


class PublishDropped(Struct, frozen=True, gc=False):
    """Something that was asked for here while no router was there is not kept; ``reason`` is for people."""

    reason: str


class PublishUnwatched(Struct, frozen=True, gc=False):
    """The router will not tell of these ids; ``reason`` is for people."""

    ids: list[str]
    reason: str


class PublishRejected(Struct, frozen=True, gc=False):
    """These tasks were not accepted, and will not be sent again. ``code``: overloaded | invalid | unavailable."""

    ids: list[str]
    code: str
    reason: str
    retry_after_s: float = 1.0


class PublishReply(Struct, frozen=True, gc=False):
    """The answer to a query of this process."""

    request: int
    body: bytes


class PublishGossip(Struct, frozen=True, gc=False):
    """``router`` has said this to ours, whose client this is."""

    router: Peer
    message: Gossip


class PublishRefused(Struct, frozen=True, gc=False):
    """A router would not have this node; ``reason`` is for people."""

    code: str
    reason: str


Command = (
    Send
    | DropPeer
    | Record
    | LookUpOutcomes
    | LookUpFunction
    | BidAtStore
    | AskOthers
    | Complain
    | StartExecutor
    | RunChunk
    | GiveFunction
    | ReclaimChunk
    | StopExecutor
    | KillExecutor
    | ReportEnded
    | ReportForgotten
    | Exit
    | PublishOutcomes
    | PublishUnknown
    | PublishUnwatched
    | PublishDropped
    | SessionEnded
    | PublishRejected
    | PublishReply
    | PublishGossip
    | PublishRefused
)
