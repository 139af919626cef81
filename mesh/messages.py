"""Every verb on the wire, one frozen type each. ``docs/PROTOCOL.md`` says what happens when one is lost,
doubled, late or reordered; a test checks that it lists exactly the verbs of this file.

An envelope is one message; most hold many tasks. Field order is the wire format: add at the end, with a default.
"""

from __future__ import annotations

from msgspec import Struct

from mesh.entries import DueUs, Entry, Firing, Position
from mesh.model import (
    Count,
    Delivery,
    FunctionCode,
    Id,
    Instant,
    Outcome,
    Seconds,
    Settlement,
    TaskOptions,
    TaskSpec,
)

PROTOCOL = 1
"""The version of the protocol; a HELLO with another one is refused with both numbers."""


class Message(Struct, frozen=True, array_like=True, gc=False):
    """Root of all verbs."""


# any node → router


class WorkerInfo(Struct, frozen=True, array_like=True, gc=False):
    """What a worker can run and what it holds. ``held``: (task id, attempt) of all it has not had acknowledged.

    ``at_most_once``: those of its tasks that are so by their definition, whatever a call says.
    """

    queues: list[str]
    tasks: list[str]
    slots: Count
    window: Count
    held: list[tuple[Id, Count]] = []
    labels: dict[str, str] = {}
    at_most_once: list[str] = []


class Hello(Message, frozen=True, array_like=True, gc=False, tag="HELLO"):
    """Opens a session, or opens it anew after a loss. ``node_id`` is new for each life of a process."""

    role: str
    node_id: Id
    name: str
    python: str
    version: str
    worker: WorkerInfo | None = None
    protocol: Count = PROTOCOL
    maps: bool = False  # it can read and write the files of the router's depot
    addresses: list[str] = []  # a router's: where it listens


class Bye(Message, frozen=True, array_like=True, gc=False, tag="BYE"):
    """The node leaves on purpose; whatever it still held goes elsewhere."""

    reason: str = ""


class Heartbeat(Message, frozen=True, array_like=True, gc=False, tag="HEARTBEAT"):
    """Sent both ways when nothing else was; ``at`` is the sender's wall clock."""

    at: Instant = 0.0
    running: Count = 0
    load: Count = 0  # a router's: unfinished tasks it has
    routers: list[str] = []  # a router's: addresses of others
    full: str = ""  # a router's: why it accepts nothing that is new; empty where it does


class Identify(Message, frozen=True, array_like=True, gc=False, tag="IDENTIFY"):
    """Which router is this? Asked before HELLO, for a router that has two addresses must not be greeted at both.

    ``padding`` says nothing: who measures the way to a router fills it.
    """

    padding: bytes = b""


# client → router


class Submit(Message, frozen=True, array_like=True, gc=False, tag="SUBMIT"):
    """Tasks to accept, all or none. ``repeated``: some of their ids may be known already (a resend, a chosen id).

    ``elsewhere``: another router may have accepted them, and could not say so.
    ``at``: the sender's wall clock, where instants of the tasks are by it; else 0.
    """

    batch: Count
    options: list[TaskOptions]
    tasks: list[TaskSpec]
    repeated: bool = False
    elsewhere: bool = False
    at: Instant = 0.0


class Watch(Message, frozen=True, array_like=True, gc=False, tag="WATCH"):
    """Tell me the outcome of these ids when there is one; with ``own`` they are ids that this client submitted."""

    ids: list[Id]
    own: bool = False


class Unwatch(Message, frozen=True, array_like=True, gc=False, tag="UNWATCH"):
    """I no longer wait for these ids; with ``forget`` their outcomes may be dropped from the store."""

    ids: list[Id]
    forget: bool = False


class Cancel(Message, frozen=True, array_like=True, gc=False, tag="CANCEL"):
    """Do not start these tasks; with ``terminate`` end them also where they run, by ``signal``.

    Sent by a client to a router and by a router to a worker.
    """

    ids: list[Id]
    terminate: bool = False
    signal: str = "SIGKILL"


class Query(Message, frozen=True, array_like=True, gc=False, tag="QUERY"):
    """Ask for facts (``status``, ``states``, ``story``) or for a change (``purge``); answered by one REPLY."""

    request: Count
    what: str
    arguments: list[str] = []


class PutFunction(Message, frozen=True, array_like=True, gc=False, tag="PUT_FUNCTION"):
    """A shipped function, sent before the first task that needs it."""

    code: FunctionCode


class Schedule(Message, frozen=True, array_like=True, gc=False, tag="SCHEDULE"):
    """Change or list entries; answered by one REPLY.

    ``operation``: add | update | pause | resume | remove | trigger | list | list_from. ``list`` is of the entries with
    these names, or of all; ``list_from`` of all from that name on.
    """

    request: Count
    operation: str
    names: list[Id] = []
    entries: list[Entry] = []


# router → any node


class Welcome(Message, frozen=True, array_like=True, gc=False, tag="WELCOME"):
    """The answer to HELLO: the session is open."""

    router_id: Id
    name: str
    version: str
    durability: str
    routers: list[str] = []
    protocol: Count = PROTOCOL
    boot: Count = 0  # how often it was started on its store
    adopted: dict[Id, Count] = {}  # as in ADOPTED
    shared: bool = False  # others have its store, too, and may adopt what it had


class Adopted(Message, frozen=True, array_like=True, gc=False, tag="ADOPTED"):
    """What these routers had when they were lost is this one's now, each up to the start of that number."""

    routers: dict[Id, Count]


class Identity(Message, frozen=True, array_like=True, gc=False, tag="IDENTITY"):
    """The answer to IDENTIFY."""

    router_id: Id


class Refuse(Message, frozen=True, array_like=True, gc=False, tag="REFUSE"):
    """The answer to a HELLO, or to a verb, that this router will not have; ``reason`` is for people.

    ``ids``: where it does without some of a message only, what it was asked for in vain.
    """

    code: str
    reason: str
    ids: list[Id] = []


class SayHello(Message, frozen=True, array_like=True, gc=False, tag="SAY_HELLO"):
    """This router has no session with you, or lost count of it: open it anew."""


# router → client


class Accepted(Message, frozen=True, array_like=True, gc=False, tag="ACCEPTED"):
    """These batches are committed."""

    batches: list[Count]


class Rejected(Message, frozen=True, array_like=True, gc=False, tag="REJECTED"):
    """Nothing of this batch was accepted. ``code``: overloaded | invalid | function (it is to be put again)."""

    batch: Count
    code: str
    reason: str
    retry_after_s: Seconds = 1.0


class Outcomes(Message, frozen=True, array_like=True, gc=False, tag="OUTCOMES"):
    """Final outcomes of tasks the client submitted or watches; ``accepted``: as in ACCEPTED, in the same envelope."""

    outcomes: list[Outcome]
    accepted: list[Count] = []


class Unknown(Message, frozen=True, array_like=True, gc=False, tag="UNKNOWN"):
    """This router knows nothing of these ids."""

    ids: list[Id]


class Reply(Message, frozen=True, array_like=True, gc=False, tag="REPLY"):
    """The answer to a QUERY: ``body`` is JSON."""

    request: Count
    body: bytes


# worker → router


class Credit(Message, frozen=True, array_like=True, gc=False, tag="CREDIT"):
    """The worker will hold up to ``window`` unsettled deliveries of this router at a time (a level, not a sum)."""

    window: Count


class Settled(Message, frozen=True, array_like=True, gc=False, tag="SETTLED"):
    """How attempts ended; kept by the worker and sent again until SETTLED_ACK names ``batch``.

    ``at``: the sender's wall clock, where instants of retries are by it; else 0.
    """

    batch: Count
    settlements: list[Settlement]
    at: Instant = 0.0


class Released(Message, frozen=True, array_like=True, gc=False, tag="RELEASED"):
    """Deliveries given back unstarted: the answer to RECALL (also when there are none), and part of a drain."""

    attempts: list[tuple[Id, Count]]
    recall: bool = False


class Claim(Message, frozen=True, array_like=True, gc=False, tag="CLAIM"):
    """The answer to ADOPTED: these attempts, which a router that is lost delivered, are still here; ``more`` follow."""

    attempts: list[tuple[Id, Count]]
    more: bool = False


class GetFunction(Message, frozen=True, array_like=True, gc=False, tag="GET_FUNCTION"):
    """Send me the shipped function of this digest."""

    digest: Id


# scheduler → router


class AskLease(Message, frozen=True, array_like=True, gc=False, tag="ASK_LEASE"):
    """I would be the leader, or would stay it; with ``keep`` False I am no more."""

    keep: bool = True


class Declare(Message, frozen=True, array_like=True, gc=False, tag="DECLARE"):
    """The entries in the code of ``app`` as it was loaded at ``declared_at``, in parts: from ``first`` to ``last``.

    ``at`` is the sender's clock as it says so: how long ago that was counts, for clocks differ.
    """

    app: Id
    declared_at: Instant
    entries: list[Entry]
    first: bool = True
    last: bool = True
    at: Instant = 0.0


class Fire(Message, frozen=True, array_like=True, gc=False, tag="FIRE"):
    """These are due, says the leader of ``term``; of one entry, the earliest first."""

    term: Count
    number: Count
    firings: list[Firing]


# router → scheduler


class Leased(Message, frozen=True, array_like=True, gc=False, tag="LEASED"):
    """The answer to ASK_LEASE, and said to who becomes the leader: ``term``, 0 where it is another, or nobody.

    It counts for ``ttl_s`` from the asking; ``at`` is the router's wall clock, ``holder`` the leader's name.
    """

    term: Count
    ttl_s: Seconds
    at: Instant
    holder: str = ""


class Entries(Message, frozen=True, array_like=True, gc=False, tag="ENTRIES"):
    """To the leader of ``term``: entries that are new or changed, each with its last due time, and those ``gone``.

    ``first``: all that it was told before is void, and these are the first of all there are.
    """

    term: Count
    entries: list[tuple[Entry, DueUs]]
    gone: list[Id] = []
    first: bool = False


class Fired(Message, frozen=True, array_like=True, gc=False, tag="FIRED"):
    """The answer to FIRE ``number``: where the entries in it stand now. ``stale``: who sent it leads no more.

    ``reason``: why nothing of it, or not all, was taken; for people.
    """

    number: Count
    stale: bool
    positions: list[tuple[Id, DueUs]] = []
    reason: str = ""


# router → router


class Gossip(Message, frozen=True, array_like=True, gc=False, tag="GOSSIP"):
    """What a router has of periodic tasks: all to another that has just said HELLO, in parts, then what is new.

    ``apps``: when the code of each was loaded. ``fires``: the routers it counts among those that fire, itself as well
    once it does; None: nothing is said of that. It counts after the entries and positions that were told before it.

    ``bid``: the number of a bid to fire ``bids``, 0 for none; ``granted``: the number of the hearer's that is.
    """

    entries: list[Entry] = []
    positions: list[Position] = []
    apps: dict[Id, Instant] = {}
    fires: list[Id] | None = None
    bid: Count = 0
    bids: list[tuple[Id, DueUs]] = []
    granted: Count = 0


# router → worker


class Deliver(Message, frozen=True, array_like=True, gc=False, tag="DELIVER"):
    """Attempts to run, with the options they refer to. ``at``: the router's wall clock, where any expires; else 0."""

    options: dict[Count, TaskOptions]
    tasks: list[Delivery]
    at: Instant = 0.0


class SettledAck(Message, frozen=True, array_like=True, gc=False, tag="SETTLED_ACK"):
    """These batches of settlements are committed; forget them."""

    batches: list[Count]


class Recall(Message, frozen=True, array_like=True, gc=False, tag="RECALL"):
    """Give back up to ``count`` unstarted deliveries: somebody else is idle."""

    count: Count


class Drop(Message, frozen=True, array_like=True, gc=False, tag="DROP"):
    """These attempts are no longer yours: do not start them."""

    attempts: list[tuple[Id, Count]]


class Function(Message, frozen=True, array_like=True, gc=False, tag="FUNCTION"):
    """The answer to GET_FUNCTION; ``code`` is None where this router has no such function."""

    digest: Id
    code: FunctionCode | None = None


class Shutdown(Message, frozen=True, array_like=True, gc=False, tag="SHUTDOWN"):
    """Drain and leave."""

    reason: str = ""


FromNode = (
    Hello
    | Bye
    | Heartbeat
    | Identify
    | Submit
    | Watch
    | Unwatch
    | Cancel
    | Query
    | PutFunction
    | Schedule
    | Credit
    | Settled
    | Released
    | GetFunction
    | AskLease
    | Declare
    | Fire
    | Claim
)
"""What a router receives."""

FromRouter = (
    Welcome
    | Identity
    | Refuse
    | SayHello
    | Heartbeat
    | Accepted
    | Rejected
    | Outcomes
    | Unknown
    | Reply
    | Deliver
    | SettledAck
    | Recall
    | Drop
    | Cancel
    | Function
    | Shutdown
    | Leased
    | Entries
    | Fired
    | Adopted
    | Gossip
)
"""What a client, a worker or another router receives."""
