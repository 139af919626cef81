"""What can happen to a role machine. Noun + past participle; data only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from mesh.entries import Entry
from mesh.messages import Gossip, Message, Query, Schedule, Submit
from mesh.model import FunctionCode, NodeInfo, Outcome, Peer, Role, Settlement, TaskMark, TaskOptions, TaskSpec


class MessageReceived(Struct, frozen=True, gc=False):
    """``message`` came from ``peer``, in order (``mesh.core.links`` has seen to that).

    ``raw`` is its encoded form; ``role`` is what the peer's key allows, None where the transport cannot tell.
    """

    peer: Peer
    message: Message
    raw: bytes | None = None
    role: Role | None = None


class PeerLost(Struct, frozen=True, gc=False):
    """The connection to ``peer`` is gone for certain."""

    peer: Peer


class PeerHeard(Struct, frozen=True, gc=False):
    """A part of a message has come from ``peer``: a long one says for as long as it takes that its sender lives."""

    peer: Peer


# router


class OutcomesLookedUp(Struct, frozen=True, gc=False):
    """The answer to ``LookUpOutcomes``; ids that are not among ``outcomes`` are not in the store.

    ``elsewhere``: those of them that another router has adopted, and not finished.
    """

    peer: Peer
    ids: list[str]
    outcomes: list[Outcome]
    submit: Submit | None = None
    raw: bytes | None = None
    elsewhere: list[str] = []


class DueGrant(Struct, frozen=True, gc=False):
    """What a shared store says to a ``DueSpan``: all of it is granted, or nothing.

    Nothing: ``done_us`` says up to where the due times are fired, or are not to be; 0 while another router has what was
    granted to it, and has not fired it.
    """

    is_granted: bool
    done_us: int = 0


class BidAnswered(Struct, frozen=True, gc=False):
    """The answer to ``BidAtStore``: a grant for each of its spans, in order."""

    number: int
    grants: list[DueGrant]


class FunctionLookedUp(Struct, frozen=True, gc=False):
    """The answer to ``LookUpFunction``."""

    peer: Peer
    digest: str
    code: FunctionCode | None


class OthersFound(Struct, frozen=True, gc=False):
    """Other routers are connected, or none any more; ``addresses``: where they are, for the nodes of this one.

    ``routers``: their ids. ``lost``: those that were connected before, and when they were heard last (monotonic).
    """

    count: int
    addresses: list[str] = []
    routers: list[str] = []
    lost: dict[str, float] = {}


class GossipHeard(Struct, frozen=True, gc=False):
    """Another router has said this; ``router`` is empty where it stood in the journal of one that is lost."""

    router: str
    message: Gossip


class SettledElsewhere(Struct, frozen=True, gc=False):
    """Other routers have the outcomes of tasks that they were asked about."""

    outcomes: list[Outcome]


class UnknownElsewhere(Struct, frozen=True, gc=False):
    """No other router knows these tasks."""

    ids: list[str]


class JournalClaimed(Struct, frozen=True, gc=False):
    """The journal of a router that is lost is this one's to empty.

    ``nodes`` may hold tasks of it; ``functions`` are kept for them, each with its last use, oldest first.
    """

    router_id: str
    nodes: list[NodeInfo]
    functions: dict[str, float]


class BatchesAdopted(Struct, frozen=True, gc=False):
    """Batches of that journal are in this router's: (seq, accepted_at, unfinished tasks), with marks of these."""

    batches: list[tuple[int, float, Submit]]
    marks: list[TaskMark]


class JournalAdopted(Struct, frozen=True, gc=False):
    """Nothing is left in it: all that ``router_id`` had in its life number ``boot``, and before, is here."""

    router_id: str
    boot: int


class StoreFilled(Struct, frozen=True, gc=False):
    """The store has little room: accept nothing; with ``halt`` none at all: start nothing either."""

    reason: str
    halt: bool


class StoreFreed(Struct, frozen=True, gc=False):
    """The store has room again."""


# worker


class ExecutorStarted(Struct, frozen=True, gc=False):
    """An executor is ready; ``tasks`` are the names its modules define.

    Of those: seconds a task may run where its definition says so, and which are delivered at most once. ``app``: the
    name of the app, None where there is none; ``entries``: its periodic tasks.
    """

    executor: int
    tasks: Sequence[str] = ()
    time_limits: Mapping[str, float] = {}
    at_most_once: Sequence[str] = ()
    app: str | None = None
    entries: Sequence[Entry] = ()


class ExecutorSettled(Struct, frozen=True, gc=False):
    """An executor finished these attempts, in the order it was given them."""

    executor: int
    settlements: list[Settlement]


class ExecutorReclaimed(Struct, frozen=True, gc=False):
    """An executor gave back these task ids unstarted."""

    executor: int
    ids: list[str]


class ExecutorEnded(Struct, frozen=True, gc=False):
    """An executor process is gone. ``cause`` is for people ("SIGKILL", "exit code 3")."""

    executor: int
    cause: str


class ExecutorFailed(Struct, frozen=True, gc=False):
    """An executor cannot serve the app at all (it cannot be imported); ``reason`` is one line for people."""

    executor: int
    reason: str


class RouterFound(Struct, frozen=True, gc=False):
    """There is a connection to a router; ``is_here``: it is this user's, on this host."""

    peer: Peer
    is_here: bool = False


class RouterForgotten(Struct, frozen=True, gc=False):
    """A router is not looked for any more and will not be back; ``endpoint`` is for people."""

    peer: Peer
    endpoint: str = ""


class StopRequested(Struct, frozen=True, gc=False):
    """Drain and leave; ``at_once``: do not wait for running tasks."""

    at_once: bool = False


# client


class TasksSubmitted(Struct, frozen=True, gc=False):
    """The user's threads submitted these; ``chosen`` where the user chose the ids."""

    options: list[TaskOptions]
    tasks: list[TaskSpec]
    functions: tuple[FunctionCode, ...] = ()
    chosen: bool = False


class ResultsWatched(Struct, frozen=True, gc=False):
    """Somebody in this process waits for ids it did not submit."""

    ids: list[str]


class ResultsForgotten(Struct, frozen=True, gc=False):
    """Nobody in this process holds these results any more; ``drop``: the store may drop them too."""

    ids: list[str]
    drop: bool = False


class TasksCancelled(Struct, frozen=True, gc=False):
    """The user revoked these."""

    ids: list[str]
    terminate: bool = False
    signal: str = "SIGKILL"


class QueryAsked(Struct, frozen=True, gc=False):
    """The user asks a router, or has it do something, and waits for its REPLY.

    ``router``: this one, if it is there now. None: home, once there is one.
    """

    message: Query | Schedule
    router: Peer | None = None


class QueryGivenUp(Struct, frozen=True, gc=False):
    """Who asked does not wait any more."""

    request: int


Event = (
    MessageReceived
    | PeerLost
    | PeerHeard
    | OutcomesLookedUp
    | FunctionLookedUp
    | BidAnswered
    | OthersFound
    | GossipHeard
    | SettledElsewhere
    | UnknownElsewhere
    | JournalClaimed
    | BatchesAdopted
    | JournalAdopted
    | StoreFilled
    | StoreFreed
    | ExecutorStarted
    | ExecutorSettled
    | ExecutorReclaimed
    | ExecutorEnded
    | ExecutorFailed
    | RouterFound
    | RouterForgotten
    | StopRequested
    | TasksSubmitted
    | ResultsWatched
    | ResultsForgotten
    | TasksCancelled
    | QueryAsked
    | QueryGivenUp
)
