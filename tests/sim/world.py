"""A mesh in one thread: real role machines, real links and the memory store on a simulated clock and a bad network.

It has one router, or several, each with a store of its own: then each is a client of the others, too. Everything
comes from one seed, so the same seed gives the same history. ``World.log`` is that history.
"""

from __future__ import annotations

import heapq
import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from typing import Any

import msgspec

from mesh.clock import Now
from mesh.core.client import ClientMachine
from mesh.core.commands import (
    AskOthers,
    Complain,
    DropPeer,
    Exit,
    GiveFunction,
    KillExecutor,
    PublishGossip,
    PublishOutcomes,
    PublishRejected,
    PublishUnknown,
    ReclaimChunk,
    ReportEnded,
    ReportForgotten,
    RunChunk,
    Send,
    SessionEnded,
    StartExecutor,
    StopExecutor,
)
from mesh.core.elsewhere import Elsewhere
from mesh.core.events import (
    Event,
    ExecutorEnded,
    ExecutorReclaimed,
    ExecutorSettled,
    ExecutorStarted,
    GossipHeard,
    MessageReceived,
    PeerLost,
    ResultsWatched,
    RouterForgotten,
    RouterFound,
    SettledElsewhere,
    StopRequested,
    TasksCancelled,
    TasksSubmitted,
)
from mesh.core.links import NodeLinks, RouterLinks
from mesh.core.router import RouterMachine
from mesh.core.scheduler import SchedulerMachine
from mesh.core.worker import WorkerMachine
from mesh.entries import Entry
from mesh.errors import StoreLost
from mesh.messages import Deliver, Message, Rejected, Schedule, Submit
from mesh.model import (
    Blob,
    Delivery,
    Ending,
    ErrorInfo,
    FunctionCode,
    Outcome,
    Payload,
    Peer,
    Retrying,
    Role,
    Settlement,
    TaskOptions,
    TaskSpec,
)
from mesh.runtime.adopting import Adopter
from mesh.runtime.payload_intake import PayloadIntake
from mesh.runtime.restoring import restore
from mesh.runtime.router_step import RouterStep
from mesh.settings import Settings
from mesh.store.memory import MemoryStore
from mesh.wire.codec import blobs_of
from tests.sim.remote import RemoteStore
from tests.sim.shared import FencedStore, Journal, Server

WALL = 1_800_000_000.0  # an arbitrary date
ROUTER = Peer(b"router")
SEVERAL = Settings(hello_retry_s=0.5, grace_s=2.5, function_ttl_s=1.5, heartbeat_s=1.0, router_ttl_s=30.0)
NEAR_S = 8.0  # a task may run again for what happened since its last run, or so many seconds before that
encode = msgspec.msgpack.Encoder().encode
decode_submit = msgspec.msgpack.Decoder(Submit).decode


@dataclass
class Faults:
    """How bad the network and the machines are. Probabilities per message, delays in seconds."""

    drop: float = 0.0
    double: float = 0.0
    delay_s: float = 0.002
    reorder: bool = False  # without it each way between two nodes keeps its order, as a connection does


class Site:
    """Where a router lives: its store stays when it crashes, unless its ``level`` is memory."""

    def __init__(self, peer: Peer, level: str = "process", server: Server | None = None) -> None:
        self.peer = peer
        self.level = level
        self.server = server  # of a store that routers share
        self.store = MemoryStore() if server is None else Journal(server, peer.decode())
        self.router: RouterNode | None = None
        self.others: OthersNode | None = None
        self.gone = False  # it never returns
        self.skew_s = 0.0  # of its clock on the wall
        self.lives = 0

    @property
    def is_lost(self) -> bool:
        """Whether all that was here is lost."""
        return self.gone and self.level == "memory"

    def journal(self) -> set[str]:
        """What is in the journal; the router must not be running."""
        found = self.store.recover()
        return {spec.id for b in found.batches for spec in decode_submit(b.raw).tasks if spec.id not in b.settled}

    def has(self, task_id: str) -> bool:
        """Whether the router has this task, finished or not, or will have it when it returns."""
        if self.router is not None:
            return task_id in self.router.machine.table.tasks or bool(self.store.outcomes([task_id]))
        there = not self.gone or self.server is not None
        return there and (task_id in self.journal() or bool(self.store.outcomes([task_id])))


class World:
    """Nodes by address, one clock, one network."""

    def __init__(
        self, seed: int, faults: Faults, settings: Settings | None = None, *, routers: int = 1, shared: bool = False
    ) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.faults = faults
        self.was_bad = faults.drop > 0 or faults.reorder  # messages were lost
        one = Settings(hello_retry_s=0.5, grace_s=3.0, function_ttl_s=1.5)
        self.settings = settings or (one if routers == 1 else SEVERAL)
        self.now_s = 0.0
        self.log: list[str] = []
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._arrival: dict[tuple[Peer, Peer], float] = {}
        self.server = Server() if shared else None
        peers = [ROUTER, *(Peer(b"router%d" % n) for n in range(2, routers + 1))]
        self.sites = {peer: Site(peer, server=self.server) for peer in peers}
        self.workers: list[WorkerNode] = []
        self.clients: list[ClientNode] = []
        self._nodes: dict[tuple[Peer, Peer], Node] = {}  # by router and the address it knows them by
        self._names = 0
        self.accepted: dict[str, set[Peer]] = {}  # by task: the routers that said so
        self.outcomes: dict[str, list[Outcome]] = {}
        self.runs: dict[str, int] = {}
        self.starts: dict[tuple[str, int, int], list[float]] = {}  # by task, retries and deaths
        self.once: set[str] = set()  # tasks that are delivered at most once
        self.blobs: dict[str, Blob] = {}  # all large payloads that ever reached a router
        self.cuts: list[set[tuple[Node | Peer, Node | Peer]]] = []  # from each first to its second nothing gets through
        self.changes_come_with_gossip = False  # a change is read with what another router says of that entry next
        self.faults_at: list[float] = []
        self.robbed = 0  # routers that found their journal with another
        for peer in self.sites:
            self.start_router(peer)

    @property
    def several(self) -> bool:
        """Whether there are several routers."""
        return len(self.sites) > 1

    @property
    def store(self) -> MemoryStore:
        """The store of the first router."""
        return self.sites[ROUTER].store

    @property
    def router(self) -> RouterNode | None:
        """The first router, while it lives."""
        return self.sites[ROUTER].router

    @property
    def nodes(self) -> list[Node]:
        """All that have sessions with routers."""
        others = [site.others for site in self.sites.values() if site.others is not None]
        return [*self.workers, *self.clients, *others]

    # time

    def now(self, skew_s: float = 0.0) -> Now:
        """The clocks of who has his on the wall so much too far ahead."""
        return Now(WALL + self.now_s + skew_s, 1000.0 + self.now_s)

    def at(self, due_s: float, action: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._due, (due_s, self._order, action))

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        self.at(self.now_s + delay_s, action)

    def run(self, until_s: float, *, stop: Callable[[], bool] = lambda: False) -> None:
        while self._due and self._due[0][0] <= until_s and not stop():
            self.now_s, _, action = heapq.heappop(self._due)
            action()
        if not stop():
            self.now_s = max(self.now_s, until_s)

    def note(self, text: str) -> None:
        self.log.append(f"{self.now_s:10.4f} {text}")

    def disturb(self) -> None:
        """Something is wrong from now on, or was until now."""
        self.faults_at.append(self.now_s)

    def is_large(self, task_id: str) -> bool:
        """Whether the payloads of a task are large: of each third one."""
        return zlib.crc32(task_id.encode()) % 3 == 0

    # the network

    def to_router(self, node: Node, router: Peer, session: int, number: int, message: Message) -> None:
        address = node.addresses[router]

        def arrive() -> None:
            found = self.sites[router].router
            if found is not None and self.reaches(node, router):
                found.receive(address, session, number, message)

        self._transmit(address, router, arrive)

    def to_node(self, router: Peer, address: Peer, session: int, number: int, message: Message) -> None:
        def arrive() -> None:
            node = self._nodes.get((router, address))
            if node is not None and self.reaches(router, node):
                node.receive(router, session, number, message)

        self._transmit(router, address, arrive)

    def _transmit(self, source: Peer, target: Peer, arrive: Callable[[], None]) -> None:
        faults, rng = self.faults, self.random
        copies = int(rng.random() >= faults.drop) + int(rng.random() < faults.double)
        for _ in range(copies):
            due = self.now_s + 0.0001 + rng.uniform(0, faults.delay_s)
            if not faults.reorder:
                due = self._arrival[source, target] = max(due, self._arrival.get((source, target), 0.0) + 1e-9)
            self.at(due, arrive)

    # nodes

    def name(self, kind: str) -> str:
        self._names += 1
        return f"{kind}{self._names}"

    def add_router(self, level: str) -> None:
        """A router joins the mesh."""
        peer = Peer(self.name("router").encode())
        self.sites[peer] = Site(peer, level, self.server)
        self.start_router(peer)

    def start_router(self, peer: Peer = ROUTER) -> None:
        site = self.sites[peer]
        if isinstance(site.store, Journal) and self._is_adopted(site.store):
            self.after(0.2, lambda: self.start_router(peer))
            return
        self.note(f"{peer.decode()} starts")
        site.lives += 1
        if site.lives > 1:
            self.disturb()
        site.router = RouterNode(self, site)
        site.router.wake([])
        if not self.several:
            return
        site.others = others = OthersNode(self, site)
        for other in self.sites.values():
            if other is not site and other.router is not None:
                self.meet(others, other.peer, 0.0 if site.lives == 1 else 0.5)
        for node in self.nodes:
            if node is not others:
                self.meet(node, peer, 0.0 if site.lives == 1 else 0.5)

    def _is_adopted(self, journal: Journal) -> bool:
        """Whether another router is at work on this journal, and lives: one that is killed is not waited for."""
        owner = journal.owner
        return any(
            site.router is not None and site.router.store is owner and site.store is not journal
            for site in self.sites.values()
        )

    def begin_anew(self, peer: Peer) -> None:
        """The router was thought lost: its process goes on with what is left in its journal."""
        self.note(f"{peer.decode()} learns that it was thought lost")
        self.robbed += 1
        self.crash_router(peer)
        self.after(0.01, lambda: self.start_router(peer))

    def pause_router(self, peer: Peer, for_s: float) -> None:
        """The process is stopped, and goes on where it was."""
        router = self.sites[peer].router
        if router is not None and not router.is_paused:
            self.note(f"{peer.decode()} is paused for {for_s:g} s")
            self.disturb()
            router.is_paused = True
            self.after(for_s, router.resume)

    def meet(self, node: Node, router: Peer, within_s: float) -> None:
        """The node finds the router, unless that is gone again by then."""
        life = self.sites[router].lives

        def found() -> None:
            site = self.sites[router]
            if site.router is not None and site.lives == life and not node.crashed:
                self.connect(node, router)
                node.wake([RouterFound(router)])

        if within_s:
            self.after(self.random.uniform(0, within_s), found)
        else:
            found()

    def connect(self, node: Node, router: Peer) -> None:
        """A new connection is a new address; what is under way to the old one is lost."""
        old = node.addresses.get(router)
        if old is not None:
            del self._nodes[router, old]
        name = node.name.encode()
        node.addresses[router] = address = name if old is None else Peer(f"{node.name}.{self.name('c')}".encode())
        self._nodes[router, address] = node

    def disconnect(self, node: Node) -> None:
        """The node is gone."""
        node.crashed = True
        for router, address in node.addresses.items():
            del self._nodes[router, address]

    def cut_connection(self, node: Node, router: Peer = ROUTER) -> None:
        """A connection breaks and is made anew: the node has another address, and either end may notice first."""
        if router not in node.addresses:
            return
        self.note(f"{node.name} loses its connection to {router.decode()}")
        self.disturb()
        old = node.addresses[router]
        node.lost_router(router)
        self.after(self.random.uniform(0, 0.5), lambda: self.tell_router(router, PeerLost(old)))

    def reaches(self, source: Node | Peer, target: Node | Peer) -> bool:
        """Whether messages get through."""
        return not any((source, target) in cut for cut in self.cuts)

    def part(self, nodes: Sequence[Node], routers: Sequence[Peer], until_s: float, *, deaf: bool = False) -> None:
        """Until then nothing gets through between these, and nobody is told; ``deaf``: nodes are only heard."""
        cut: set[tuple[Node | Peer, Node | Peer]] = {(router, node) for node in nodes for router in routers}
        if not deaf:
            cut |= {(node, router) for node in nodes for router in routers}
        names = [node.name for node in nodes], [router.decode() for router in routers]
        self.note(f"parted {'one way' * deaf}: {names}")
        self.disturb()
        self.cuts.append(cut)

        def heal() -> None:
            self.note(f"parted no more: {names}")
            self.disturb()
            self.cuts.remove(cut)

        self.at(until_s, heal)

    def crash_router(self, peer: Peer = ROUTER, *, for_good: bool = False) -> None:
        """The process is gone, with everything it had not committed; the others see the connection break."""
        site = self.sites[peer]
        self.note(f"{peer.decode()} crashes{' for good' * for_good}")
        self.disturb()
        if site.router is not None and isinstance(site.router.store, FencedStore):
            site.router.store.is_cut = True
        site.router, site.gone = None, for_good
        if site.others is not None:
            self.forget_address(site.others)
            site.others = None
        for node in self.nodes:
            if peer in node.addresses:
                node.lost_router(peer)
        if self.several:
            self.after(self.settings.router_ttl_s, lambda life=site.lives: self._forget_router(site, life))

    def forget_address(self, node: Node) -> None:
        """The node is gone, and the routers notice."""
        self.disconnect(node)
        for router, address in node.addresses.items():
            self.after(0.001, lambda router=router, address=address: self.tell_router(router, PeerLost(address)))

    def _forget_router(self, site: Site, life: int) -> None:
        if site.router is not None or site.lives != life:
            return
        self.note(f"{site.peer.decode()} is forgotten")
        for node in self.nodes:
            if site.peer in node.addresses:
                node.forget_router(site.peer)

    def add_worker(self, slots: int = 2, **options: Any) -> WorkerNode:
        node = WorkerNode(self, self.name("worker"), slots, **options)
        self.workers.append(node)
        node.obey(node.machine.start())
        self._introduce(node)
        return node

    def crash_worker(self, node: WorkerNode) -> None:
        self.note(f"{node.name} crashes")
        self.disturb()
        self.workers.remove(node)
        self.forget_address(node)

    def add_client(self) -> ClientNode:
        node = ClientNode(self, self.name("client"))
        self.clients.append(node)
        self._introduce(node)
        return node

    def _introduce(self, node: Node) -> None:
        for site in self.sites.values():
            if site.router is not None or not self.several:
                self.connect(node, site.peer)
                node.wake([RouterFound(site.peer)])

    def tell_router(self, router: Peer, event: Event) -> None:
        found = self.sites[router].router
        if found is not None:
            found.wake([event])

    # what must hold

    def drained(self) -> bool:
        """Nothing is left to do anywhere."""
        sites = [site for site in self.sites.values() if not site.gone]
        if any(isinstance(site.store, Journal) and not site.store.is_drained() for site in self.sites.values()):
            return False
        return all(site.router is not None and not site.router.machine.table.tasks for site in sites) and all(
            not c.inbox and not c.machine.batches and not c.machine.waiting for c in self.clients
        )

    def situation(self) -> str:
        """What is left to do; for people."""
        left: list[str] = []
        for site in self.sites.values():
            tasks = site.router.machine.table.tasks.values() if site.router is not None else ()
            left += [f"{site.peer.decode()}: {task.story()}" for task in tasks]
        for client in self.clients:
            machine = client.machine
            waiting = [f"{task_id} from {place!r}" for task_id, place in machine.waiting.items()]
            left += [f"{client.name}: unaccepted {sorted(machine.batches)}, waiting {waiting}"]
        return "; ".join(left)

    def check(self) -> None:
        """Every acknowledged task has one outcome, and nobody heard of one that was never submitted."""
        submitted = {task_id for client in self.clients for task_id in client.submitted}
        stored = {peer: {o.id: o for o in site.store.outcomes(sorted(submitted))} for peer, site in self.sites.items()}
        journals = {peer: site.journal() if site.gone else set() for peer, site in self.sites.items()}
        lost = sorted(
            (task_id, router.decode())
            for task_id, routers in self.accepted.items()
            for router in routers
            if not self.sites[router].is_lost
            if task_id not in stored[router] and task_id not in journals[router]
        )
        assert not lost, f"accepted and lost: {lost}"
        for task_id, told in self.outcomes.items():
            assert task_id in submitted, f"an outcome for {task_id}, which nobody submitted"
            ends = [(o.state, o.payload) for found in stored.values() if (o := found.get(task_id)) is not None]
            assert ends, f"{task_id}: told {told[0].state}, and no router has stored it"
            assert all((o.state, o.payload) in ends for o in told), f"{task_id}: told {told}, stored {ends}"
            assert self.several or all((o.state, o.payload) == ends[0] for o in told), f"{task_id}: told {told}"
        for outcome in (outcome for found in stored.values() for outcome in found.values()):
            assert outcome.error is None or outcome.error.type != "mesh.errors.NotRegistered", (
                f"a function went: {outcome}"
            )
        if self.drained():
            self._check_blobs(stored)
        for client in self.clients:
            silent = client.submitted - set(self.outcomes) - client.rejected - client.unknown
            assert not silent, f"{client.name} was never told of {sorted(silent)}"
        self._check_runs(stored)

    def _check_blobs(self, stored: dict[Peer, dict[str, Outcome]]) -> None:
        for peer, site in self.sites.items():
            if site.gone:
                continue
            needed = {o.payload.key for o in stored[peer].values() if isinstance(o.payload, Blob)}
            kept = {blob.key for blob in self.blobs.values() if site.store.read_blob(blob) is not None}
            assert kept == needed, f"large payloads are lost, or stay for nobody, at {peer.decode()}"

    def _check_runs(self, stored: dict[Peer, dict[str, Outcome]]) -> None:
        for (task_id, retries, deaths), starts in self.starts.items():
            assert len(starts) == 1 or task_id not in self.once, f"{task_id} runs at most once, and ran at {starts}"
            # Two routers have it: a client had to give one of them up. When each gets to run it says nothing then.
            has = sum(task_id in found for found in stored.values()) + sum(site.gone for site in self.sites.values())
            for before, start in pairwise(starts):
                near = self.was_bad or any(
                    fault <= start and (has > 1 or fault > before - NEAR_S) for fault in self.faults_at
                )
                assert near, f"{task_id} (retry {retries}, {deaths} deaths) ran again for no fault, at {starts}"

    def again(self) -> Iterator[str]:
        """The tasks that ran more than once without having asked for it or killed anybody."""
        return (task_id for (task_id, _, _), starts in self.starts.items() if len(starts) > 1)


@dataclass(eq=False)
class Node:
    """What has sessions with routers: a machine behind links, woken by messages and by its own deadline."""

    world: World
    name: str
    machine: Any
    links: NodeLinks = field(default_factory=NodeLinks)
    addresses: dict[Peer, Peer] = field(default_factory=dict)  # by router
    crashed: bool = False
    inbox: list[Event] = field(default_factory=list)
    skew_s: float = 0.0  # of its clock on the wall
    stalls: Callable[[list[Any]], float] = lambda commands: 0.0
    """For how long the process stops when it has decided this and not yet done it."""
    _turning: bool = False
    _armed: float = -1.0

    def receive(self, source: Peer, session: int, number: int, message: Message) -> None:
        event = self.links.take(source, session, number, message)
        if event is not None:
            self.wake([event])

    def lost_router(self, router: Peer) -> None:
        self.links.close(router)
        self.world.connect(self, router)
        self.wake([PeerLost(router)])

    def forget_router(self, router: Peer) -> None:
        self.links.close(router)
        self.wake([RouterForgotten(router)])

    def wake(self, events: list[Event]) -> None:
        """Have the machine told of this, at once or with what comes in the next moment, as a busy process does."""
        self.inbox += events
        if not self._turning:
            self._turning = True
            self.world.after(self.world.random.choice((0.0, 0.0, 0.004)), self._turn)

    def _turn(self) -> None:
        self._turning = False
        if self.crashed:
            return
        events, self.inbox = self.inbox, []
        commands = self.machine.handle(events, self.world.now(self.skew_s))
        self.machine.check()
        stall_s = self.stalls(commands)
        if stall_s:
            self.world.note(f"{self.name} stops for {stall_s} s")
            self._turning = True  # so that what comes meanwhile waits
            self.world.after(stall_s, lambda: self._go_on(commands))
            return
        self.obey(commands)
        self._arm()

    def _go_on(self, commands: list[Any]) -> None:
        self.world.note(f"{self.name} goes on")
        if not self.crashed:
            self.obey(commands)
            self._turn()

    def next_deadline(self) -> float | None:
        return self.machine.next_deadline()  # type: ignore[no-any-return]

    def _arm(self) -> None:
        deadline = self.next_deadline()
        if deadline is None or deadline == inf:
            return
        due = max(deadline - 1000.0, self.world.now_s + 1e-6)
        if self._armed > self.world.now_s and self._armed <= due:
            return
        self._armed = due
        self.world.at(due, lambda: self._alarm(due))

    def _alarm(self, due: float) -> None:
        if self._armed == due:
            self._armed = -1.0
            self.wake([])

    def obey(self, commands: list[Any]) -> None:
        for command in commands:
            if isinstance(command, Send):
                stamp = self.links.stamp(command.peer, command.message)
                if stamp is not None:
                    self.world.to_router(self, command.peer, *stamp, command.message)
            else:
                self.effect(command)

    def effect(self, command: Any) -> None:
        raise NotImplementedError


class ClientNode(Node):
    """A client that remembers what it submitted and what it was told."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name, ClientMachine(name, name, world.settings))
        self.submitted: set[str] = set()
        self.rejected: set[str] = set()
        self.unknown: set[str] = set()
        self.forgotten: set[Peer] = set()

    def submit(self, count: int, options: TaskOptions | None = None, **fields: Any) -> list[str]:
        world = self.world
        ids = [world.name("t") for _ in range(count)]
        specs = [TaskSpec(i, 0, Blob(f"{i} arguments", [4]) if world.is_large(i) else b"", **fields) for i in ids]
        self.submitted |= set(ids)
        if options is not None and (options.at_most_once or options.name == "once"):
            world.once |= set(ids)
        world.note(f"{self.name} submits {[spec.id for spec in specs]}")
        digest = options.function if options is not None else None
        functions = () if digest is None else (FunctionCode(digest, "", b"code"),)
        self.wake([TasksSubmitted([options or TaskOptions("work")], specs, functions)])
        return [spec.id for spec in specs]

    def cancel(self, ids: list[str], terminate: bool = False) -> None:
        self.wake([TasksCancelled(ids, terminate)])

    def watch(self, ids: list[str]) -> None:
        """Wait for what another submitted."""
        self.wake([ResultsWatched(ids)])

    def forget_router(self, router: Peer) -> None:
        self.forgotten.add(router)
        super().forget_router(router)

    def _turn(self) -> None:
        before = dict(self.machine.batches)
        super()._turn()
        for number, batch in before.items():
            if number not in self.machine.batches:
                for task_id in {task.id for task in batch.tasks} - self.rejected:
                    self.world.accepted.setdefault(task_id, set()).add(batch.router)

    def effect(self, command: Any) -> None:
        world = self.world
        if isinstance(command, PublishOutcomes):
            for outcome in command.outcomes:
                world.note(f"{self.name} is told {outcome.id} {outcome.state} attempt {outcome.attempts}")
                world.outcomes.setdefault(outcome.id, []).append(outcome)
        elif isinstance(command, PublishRejected):
            assert command.code != "function", f"tasks were given up for a function: {command.reason}"
            self.rejected |= set(command.ids)
        elif isinstance(command, PublishUnknown):
            for task_id in command.ids:
                if task_id in self.submitted:
                    self.unknown.add(task_id)
                    knows = [s.peer for s in world.sites.values() if not self.has_given_up(s) and s.has(task_id)]
                    assert not knows, f"{self.name} gives up {task_id}, which {knows} has"

    def has_given_up(self, site: Site) -> bool:
        """Whether nothing is to be expected of this router any more."""
        session = self.machine.routers.get(site.peer)
        unheard = session is not None and session.given_up and site.level == "memory"
        return site.peer in self.forgotten or unheard


class OthersNode(Node):
    """The other routers as one router sees them, as in ``nodes.others``."""

    def __init__(self, world: World, site: Site) -> None:
        name = f"{site.peer.decode()}.{site.lives}"
        super().__init__(world, name, ClientMachine(name, name, world.settings, role=Role.ROUTER))
        assert site.router is not None
        self.site = site
        self.router = site.router
        self.elsewhere = Elsewhere(world.settings)
        self.new_blobs: list[Blob] = []
        self.events: list[Event] = []
        site.router.ask_others = self.ask
        for question in site.router.asked:
            self.ask(question)

    def ask(self, question: AskOthers) -> None:
        self.elsewhere.ask(question.ids, wait=question.wait)
        self.wake([])

    def next_deadline(self) -> float:
        deadline = super().next_deadline()
        return min(inf if deadline is None else deadline, self.elsewhere.next_deadline())

    def _turn(self) -> None:
        now = self.world.now()
        self.inbox += self.elsewhere.take_questions(now)
        super()._turn()
        if self.crashed:
            return
        there = {peer.decode(): one.session.heard for peer, one in self.machine.routers.items() if one.open}
        self.events += self.elsewhere.see(there, (), now)
        self._arm()
        if self.events:
            events, self.events = self.events, []
            new_blobs, self.new_blobs = self.new_blobs, []
            self.router.wake(events, new_blobs)

    def effect(self, command: Any) -> None:
        if isinstance(command, PublishOutcomes):
            for outcome in command.outcomes:
                blob = outcome.payload
                if isinstance(blob, Blob) and self.site.store.put_blob(blob, [b"data"]):
                    self.new_blobs.append(blob)
            self.events += self.elsewhere.settle(command.outcomes, [])
        elif isinstance(command, PublishUnknown):
            self.elsewhere.deny(command.ids)
        elif isinstance(command, PublishGossip):
            self.events.append(GossipHeard(command.router.decode(), command.message))
        elif not isinstance(command, SessionEnded):
            raise AssertionError(command)


class WorkerNode(Node):
    """A worker whose executors run in simulated time. What a task does stands in its name."""

    def __init__(
        self, world: World, name: str, slots: int, *, entries: Sequence[Entry] | None = None, **options: Any
    ) -> None:
        """``entries``: those in the code of the app it loads; None: it is no scheduler."""
        options = {"queues": ["default"], **options}
        if entries is not None:
            options["scheduler"] = SchedulerMachine(world.settings)
        machine = WorkerMachine(name, name, world.settings, slots=slots, **options)
        super().__init__(world, name, machine)
        self.code = ("app" if entries is not None else None, entries or ())
        self.names = ("work", "fails", "retries", "kills", "slow", "limited", "once")
        self.inside: dict[int, list[tuple[Delivery, TaskOptions]]] = {}
        self.given: set[tuple[int, str]] = set()  # functions, by executor
        self.blobs: set[str] = set()  # large payloads that were delivered and are kept

    def receive(self, source: Peer, session: int, number: int, message: Message) -> None:
        if isinstance(message, Deliver):
            self.blobs |= {blob.key for blob in blobs_of(message)}
        super().receive(source, session, number, message)

    def _turn(self) -> None:
        super()._turn()
        if not self.inbox:  # else they came with what is not looked at yet
            self.blobs &= self.machine.blobs_held()

    def effect(self, command: Any) -> None:
        world = self.world
        if isinstance(command, StartExecutor):
            number = command.executor
            self.inside[number] = []
            world.after(0.05, lambda: self.wake([ExecutorStarted(number, self.names, {}, ("once",), *self.code)]))
        elif isinstance(command, RunChunk):
            tasks = self.inside[command.executor]
            idle = not tasks
            tasks += [(delivery, command.options[delivery.option]) for delivery in command.tasks]
            needed = {options.function for options in command.options.values()} - {None}
            assert {(command.executor, digest) for digest in needed} <= self.given, "run without its function"
            large = {delivery.payload.key for delivery in command.tasks if isinstance(delivery.payload, Blob)}
            assert large <= self.blobs, f"run without its payload: {large - self.blobs}"
            if idle:
                self._next(command.executor)
        elif isinstance(command, ReclaimChunk):
            tasks = self.inside.get(command.executor, [])
            back = [delivery.id for delivery, _ in tasks[1:]]
            del tasks[1:]
            number = command.executor
            world.after(0.001, lambda: self.wake([ExecutorReclaimed(number, back)]))
        elif isinstance(command, (KillExecutor, StopExecutor)):
            self._end(command.executor, getattr(command, "signal", "exit code 0"))
        elif isinstance(command, Exit):
            world.note(f"{self.name} leaves: {command.reason}")
            if not self.crashed:
                world.workers.remove(self)
                world.disconnect(self)
        elif isinstance(command, GiveFunction):
            self.given.add((command.executor, command.code.digest))
        elif not isinstance(command, (Complain, DropPeer, ReportEnded, ReportForgotten, SessionEnded)):
            raise AssertionError(command)

    def _end(self, executor: int, cause: str) -> None:
        if self.inside.pop(executor, None) is not None:
            self.world.after(0.001, lambda: self.wake([ExecutorEnded(executor, cause)]))

    def _next(self, executor: int) -> None:
        tasks = self.inside.get(executor)
        if not tasks or self.crashed:
            return
        delivery, options = tasks[0]
        rng = self.world.random
        kind = options.name
        long = 3.0 if kind == "slow" else 60.0 if kind == "limited" else rng.choice([0.00001, 0.002, 0.05])
        self.world.runs[delivery.id] = self.world.runs.get(delivery.id, 0) + 1
        started = (delivery.id, delivery.retries, delivery.deaths)
        self.world.starts.setdefault(started, []).append(self.world.now_s)
        self.world.note(f"{self.name} runs {delivery.id} attempt {delivery.attempt}")
        self.world.after(long, lambda: self._finish(executor, delivery, options, long))

    def _finish(self, executor: int, delivery: Delivery, options: TaskOptions, long: float) -> None:
        tasks = self.inside.get(executor)
        if self.crashed or not tasks or tasks[0][0] is not delivery:
            return
        if options.name == "kills":
            self._end(executor, "SIGKILL")
            return
        tasks.pop(0)
        wall = self.world.now().wall
        ending, error, retry = Ending.SUCCEEDED, None, None
        if options.name == "fails":
            ending, error = Ending.FAILED, ErrorInfo("builtins.ValueError", "no")
        elif options.name == "retries" and delivery.retries < 2:
            ending, retry = Ending.RETRY, Retrying(wall + 0.5, self._payload(delivery, "arguments"))
        payload = self._payload(delivery, "result") if ending is Ending.SUCCEEDED else b""
        settlement = Settlement(delivery.id, delivery.attempt, ending, payload, wall - long, long, error, retry)
        more = bool(tasks)
        self.wake([ExecutorSettled(executor, [settlement])])
        if more:
            self._next(executor)

    def _payload(self, delivery: Delivery, what: str) -> Payload:
        if not self.world.is_large(delivery.id):
            return b""
        return Blob(f"{delivery.id} {what} of {self.world.name('attempt')}", [4])

    def crash_executor(self) -> None:
        busy = [number for number, tasks in self.inside.items() if tasks]
        if busy:
            self.world.disturb()
            self._end(self.world.random.choice(busy), "SIGSEGV")

    def stop(self) -> None:
        self.world.note(f"{self.name} is asked to stop")
        self.wake([StopRequested()])


class RouterNode:
    """A router on the store of its site."""

    def __init__(self, world: World, site: Site) -> None:
        self.world = world
        self.site = site
        self.peer = site.peer
        self.asked: list[AskOthers] = []  # before there was anybody to ask others
        self.ask_others: Callable[[AskOthers], None] = self.asked.append
        name = site.peer.decode()
        self.links = RouterLinks(name)
        shared = isinstance(site.store, Journal)
        self.store: RemoteStore
        if isinstance(site.store, Journal):
            self.store = FencedStore(site.store, site.lives, lambda: world.now_s, world.settings.store_lock_s)
        else:
            self.store = RemoteStore(site.store, site.lives)
        found = self.store.recover()
        self.machine = RouterMachine(
            name,
            name,
            world.settings,
            boot=found.boot,
            next_seq=found.next_seq,
            durability=site.level,
            shared=shared,
        )
        batches = [(b.seq, b.accepted_at, decode_submit(b.raw), b.settled) for b in found.batches]
        restore(self.machine, found, batches, others=world.several)
        self.step = RouterStep(
            self.machine,
            self.store,
            encode_submit=encode,
            send=self._send,
            drop=self.links.close,
            session=self.links.session,
            ask_others=lambda question: self.ask_others(question),
            shared=self.store if isinstance(self.store, FencedStore) else None,
        )
        self.intake = PayloadIntake(self.store)
        self._armed = -1.0
        self.is_paused = False
        self._held_up: list[Callable[[], None]] = []  # what comes while it is paused
        self._changes: list[MessageReceived] = []  # that are not read yet
        self.adopter: Adopter | None = None
        self._first: list[Event] = []
        if isinstance(self.store, FencedStore):
            self.adopter = Adopter(self.machine, self.store, decode=decode_submit, encode=encode)
            self._first = [SettledElsewhere(self.store.finished(list(self.machine.table.limbo)))]

    def resume(self) -> None:
        """The process goes on."""
        self.is_paused = False
        held_up, self._held_up = self._held_up, []
        self.wake([])
        for action in held_up:
            action()

    def receive(self, source: Peer, session: int, number: int, message: Message) -> None:
        if self.site.router is not self:
            return
        if self.is_paused:
            self._held_up.append(lambda: self.receive(source, session, number, message))
            return
        raw = encode(message) if isinstance(message, Submit) else None
        taken = self.links.take(source, session, number, message, raw, None)
        if isinstance(taken, Message):
            self.world.to_node(self.peer, source, session, 0, taken)
        elif taken is not None and isinstance(message, Schedule) and self.world.changes_come_with_gossip:
            self._changes.append(taken)
            self.world.after(1.0, lambda: self.wake([*self._changes_of(None)]))
        elif taken is not None:
            blobs = blobs_of(message)
            self.world.blobs.update((blob.key, blob) for blob in blobs)
            not_taken = self.intake.take(source, message, [(blob, [b"data"]) for blob in blobs], maps=False)
            if not_taken is None:
                new_blobs, self.intake.new = self.intake.new, []
                self.wake([taken], new_blobs)
            elif isinstance(not_taken.what, Rejected):
                self._send(source, not_taken.what)
            else:
                self._look_at_room()

    def _look_at_room(self) -> None:
        """Have those say it again whose large payloads could not be taken, once they can."""
        if self.store.is_away:
            self.world.after(1.0, self._look_at_room)
            return
        for peer in self.intake.fitting(None):
            self.links.close(peer)

    def _send(self, peer: Peer, message: Message) -> None:
        stamp = self.links.stamp(peer)
        if stamp is not None:
            self.world.to_node(self.peer, peer, *stamp, message)

    def wake(self, events: list[Event], new_blobs: Sequence[Blob] = ()) -> None:
        if self.site.router is not self:
            return
        if self.is_paused:
            self._held_up.append(lambda: self.wake(events, new_blobs))
            return
        now = self.world.now(self.site.skew_s)
        told = [event.message for event in events if isinstance(event, GossipHeard)]
        events = [*events, *self._changes_of({one.entry for message in told for one in message.positions})]
        first, self._first = self._first, []
        try:
            adopted = self.adopter.take(now) if self.adopter is not None else []
            self.step.step([*first, *events, *adopted], now, new_blobs)
        except StoreLost:
            self.world.begin_anew(self.peer)
            return
        self.machine.check()
        deadline = self.step.next_deadline()
        if self.adopter is not None:
            deadline = min(deadline or inf, self.adopter.next_deadline())
        if deadline is not None:
            due = max(deadline - 1000.0, self.world.now_s + 1e-6)
            if not (self._armed > self.world.now_s and self._armed <= due):
                self._armed = due
                self.world.at(due, lambda: self._alarm(due))

    def _changes_of(self, entries: set[str] | None) -> list[MessageReceived]:
        """What people ask for of these entries, or of any."""
        read = [one for one in self._changes if entries is None or entries & _names(one.message)]
        self._changes = [one for one in self._changes if one not in read]
        return read

    def _alarm(self, due: float) -> None:
        if self._armed == due and self.site.router is self:
            self._armed = -1.0
            self.wake([])


def _names(message: Message) -> set[str]:
    assert isinstance(message, Schedule)
    return {*message.names, *(entry.name for entry in message.entries)}
