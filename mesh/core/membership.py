"""Who takes part in the mesh of a router: nodes say HELLO, connect anew, are silent too long, and leave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec.structs import replace

from mesh.clock import Now
from mesh.core.commands import DropPeer, Record, SaveNode
from mesh.core.events import MessageReceived
from mesh.core.ledger import Ledger
from mesh.core.packing import attempt_bytes, pack
from mesh.core.peers import Session, Worker
from mesh.core.permits import may_be
from mesh.core.record import TaskRecord
from mesh.core.room import Room
from mesh.core.states import READY
from mesh.core.tasks import TaskTable
from mesh.messages import PROTOCOL, Adopted, Cancel, Claim, Drop, Heartbeat, Hello, Refuse, Welcome
from mesh.model import NodeInfo, Peer, Role
from mesh.settings import Settings

TEXT_MAX = 255  # characters of what a node says of itself: it is kept, and shown
REASON_MAX = 1_000  # characters of why the store takes nothing
ADOPTED_MAX = 64  # routers that a WELCOME says were adopted
LOST_MAX = 1_000  # workers that are remembered as lost; of one beyond it is waited for what it may hold
ATTEMPT_MAX = 1 << 31  # no task was ever tried so often: a claim beyond it is a lie, and must not be counted on from


class Membership:
    """The sessions of one router. ``welcome`` greets; ``changed``: who can run what is to be worked out anew."""

    def __init__(
        self,
        settings: Settings,
        welcome: Welcome,
        table: TaskTable,
        ledger: Ledger,
        counters: dict[str, int],
        room: Room,
    ) -> None:
        self._settings = settings
        self._welcome = welcome
        self._table = table
        self._ledger = ledger
        self._counters = counters
        self._room = room
        self.workers: dict[Peer, Worker] = {}
        self.clients: dict[Peer, Session] = {}
        self.hungry: dict[Worker, None] = {}  # those that have credit left
        self.loaded: dict[Worker, None] = {}  # those that hold more than they can run at once
        self.changed = True
        self._nodes: dict[str, NodeInfo] = {}  # workers as the store has them
        self._late_s = 0.0  # we did nothing for so long
        self._late_until = 0.0  # and what waited comes until then
        self.unheard: set[str] = set()  # those of them that have not spoken since the router started
        self._addresses: list[str] = []  # of other routers
        self._unclaimed: dict[str, None] = {}  # workers that may hold what was adopted, and have not said so
        self._lost: dict[str, None] = {}  # workers that took part, and do not any more
        self.next_round = 0.0  # the monotonic second at which ``tick`` has something to do

    def restore(self, nodes: Sequence[NodeInfo]) -> None:
        """These workers took part when the router ended."""
        self._nodes = {node.node_id: node for node in nodes}
        self.unheard = set(self._nodes)

    @property
    def awaited(self) -> bool:
        """Whether workers are to say yet what they hold, of this router's or of one that it adopts."""
        return bool(self.unheard or self._unclaimed)

    def contents(self) -> Iterator[Record]:
        """The workers as the store is to have them."""
        return (SaveNode(node) for node in list(self._nodes.values()))

    def ask_claims(self, nodes: Sequence[NodeInfo]) -> None:
        """These workers may hold what a router delivered whose journal is being adopted.

        One that died with that router, on its machine, is lost here by now, and runs nothing of either.
        """
        self._unclaimed.update((node.node_id, None) for node in nodes if node.node_id not in self._lost)

    def tell_adopted(self, router_id: str, boot: int) -> None:
        """All that this router had is here: who waits for it, or holds it, is to turn to us; also who comes later."""
        adopted = {**self._welcome.adopted, router_id: boot}
        for earliest in list(adopted)[:-ADOPTED_MAX]:
            del adopted[earliest]
        self._welcome = replace(self._welcome, adopted=adopted)
        for peer in (*self.workers, *self.clients):
            self._ledger.send(peer, Adopted({router_id: boot}))

    def on_claim(self, worker: Worker, message: Claim, now: Now) -> None:
        """What a worker holds of a router that was adopted is its lease from us, where nobody else has it."""
        self._claim(worker, dict(message.attempts))
        self.weigh(worker)
        if not message.more:
            self._unclaimed.pop(worker.node_id, None)

    def give_up_unheard(self) -> None:
        """Who has not spoken since the start takes no part any more; who did not claim holds nothing."""
        self._unclaimed.clear()
        for node_id in sorted(self.unheard):
            self._forget_node(node_id)
        self.unheard.clear()

    def name_others(self, addresses: list[str]) -> None:
        """Tell nodes of these addresses of other routers from now on."""
        self._addresses = addresses
        self._welcome = replace(self._welcome, routers=addresses)

    def tick(self, now: Now) -> None:
        """Do what is due."""
        if now.mono >= self.next_round:
            self.next_round = now.mono + self._settings.heartbeat_s / 2
            self._make_round(now)

    def excuse(self, away_s: float, now: Now) -> None:
        """This router did nothing for ``away_s``: where that is long, what was not heard meanwhile is no silence.

        A machine that slept, a disk that hung: what nodes said waits to be read, and is as old as that.
        """
        if away_s <= self._settings.heartbeat_s:  # it makes a round twice in that time
            return
        self._late_s = away_s
        self._late_until = now.mono + self._silence_s
        for session in (*self.workers.values(), *self.clients.values()):
            session.heard += away_s

    @property
    def _silence_s(self) -> float:
        """How long a node may say nothing."""
        return self._settings.heartbeat_s * self._settings.liveness

    def on_heartbeat(self, session: Session, message: Heartbeat, now: Now) -> None:
        """Compare clocks; that it lives was seen already."""
        self.later(session, message.at, now)

    def later(self, session: Session, at: float, now: Now) -> float:
        """Seconds by which a node's clock is behind ours, after a message sent ``at`` (0.0: not said)."""
        if not at:
            return 0.0
        late_s = self._late_s if now.mono < self._late_until else 0.0
        return session.clock.take(at, now, self._silence_s + late_s)

    def get(self, peer: Peer) -> Session | None:
        """The session with ``peer``, if there is one."""
        return self.clients.get(peer) or self.workers.get(peer)

    def weigh(self, worker: Worker) -> None:
        """What a worker holds, or will hold, has changed: a wake-up looks at those it concerns, and not at all."""
        if worker.credit:
            self.hungry[worker] = None
        else:
            self.hungry.pop(worker, None)
        if worker.held > worker.slots:
            self.loaded[worker] = None
        else:
            self.loaded.pop(worker, None)

    def refuse(self, peer: Peer, code: str, reason: str, ids: Sequence[str] = ()) -> None:
        """Tell a peer what it may not do; with ``ids``: what alone of its message."""
        self._counters["refused"] += 1
        self._ledger.send(peer, Refuse(code, reason, list(ids)))

    def on_hello(self, event: MessageReceived, now: Now) -> None:
        """Open a session, or say why not."""
        hello: Hello = event.message  # type: ignore[assignment]
        peer = event.peer
        refusal = self._refusal(peer, hello, event.role)
        if refusal is not None:
            self.refuse(peer, *refusal)
            self._ledger.add(DropPeer(peer))
            return
        self._ledger.send(peer, self._welcome)
        if hello.worker is not None:
            self._welcome_worker(peer, hello, now)
        else:
            self._welcome_client(Session(peer, hello, Role(hello.role), now.mono), now)

    def _refusal(self, peer: Peer, hello: Hello, key: Role | None) -> tuple[str, str] | None:
        """(code, reason) when this HELLO opens no session."""
        if hello.protocol != PROTOCOL:
            numbers = f"protocol {hello.protocol} here, {PROTOCOL} at the router"
            return "protocol", f"{numbers}: install the same version of taskmesh on both"
        for field in ("role", "name", "python", "version"):
            size = len(getattr(hello, field))
            if size > TEXT_MAX:
                return "invalid", f"the {field} of a node has at most {TEXT_MAX} characters, not {size}"
        role = _known_role(hello.role)
        if role is None or (role is Role.WORKER) != (hello.worker is not None):
            return "invalid", f"a HELLO of role {hello.role!r} is not understood"
        if not may_be(key, role):
            return "role", f"a {key} key does not make a {role}"
        session = self.get(peer)
        if session is not None and session.node_id != hello.node_id:
            return "invalid", f"this connection speaks for node {session.node_id!r}, another node makes one of its own"
        count = len(self.workers) + len(self.unheard) if role is Role.WORKER else len(self.clients)
        limit = self._settings.nodes_max
        if count >= limit and not self._takes_part(hello.node_id):  # clients keep no worker out
            kind = "workers" if role is Role.WORKER else "clients"
            return "overloaded", f"{count} {kind} take part already, and nodes_max is {limit}"
        return None

    def _takes_part(self, node_id: str) -> bool:
        return node_id in self._nodes or any(client.node_id == node_id for client in self.clients.values())

    def _welcome_client(self, client: Session, now: Now) -> None:
        """It says next what it waits for, so what it waited for on an earlier connection can go."""
        for earlier in [c.peer for c in self.clients.values() if c.node_id == client.node_id and c.peer != client.peer]:
            self.dismiss(earlier, "it connected anew", now)
        self._table.watching.leave(client.peer)
        client = self.clients.setdefault(client.peer, client)
        client.heard = now.mono
        if self._room.why is not None:
            self._say_that_we_live(client, now)

    def _welcome_worker(self, peer: Peer, hello: Hello, now: Now) -> None:
        info = hello.worker
        assert info is not None
        worker = self.workers.get(peer) or self._take_over(peer, hello.node_id)
        if worker is None:
            worker = self.workers[peer] = Worker(peer, hello, info, now.mono)
        else:
            worker.introduce(hello, info)
            worker.heard = now.mono
        self.changed = True
        self._lost.pop(hello.node_id, None)
        if hello.node_id not in self._nodes:
            self._nodes[hello.node_id] = node = NodeInfo(hello.node_id, hello.name)
            self._ledger.nodes[node.node_id] = node
        held: dict[str, int] = {}
        for task_id, attempt in info.held:  # an id stands there twice where an earlier attempt is not acknowledged
            held[task_id] = max(attempt, held.get(task_id, 0))
        self._reconcile(worker, held, now)
        self.weigh(worker)
        self.unheard.discard(hello.node_id)

    def _take_over(self, peer: Peer, node_id: str) -> Worker | None:
        """A worker that connects anew, before we saw its old connection end, keeps what it holds."""
        worker = next((w for w in self.workers.values() if w.node_id == node_id), None)
        if worker is None:
            return None
        del self.workers[worker.peer]
        self._ledger.add(DropPeer(worker.peer))
        for task in worker.leases.values():
            task.worker = peer
        worker.peer = peer
        worker.acks = []  # what is not acknowledged it says again
        self.workers[peer] = worker
        return worker

    def _reconcile(self, worker: Worker, held: dict[str, int], now: Now) -> None:
        """Bring our leases in line with what the worker says that it holds."""
        undelivered = [task for i, task in worker.leases.items() if held.get(i, -1) != task.attempt]
        for task in undelivered:
            del worker.leases[task.id]
        self._return_undelivered(worker, undelivered, now)
        self._claim(worker, held)

    def _claim(self, worker: Worker, held: Mapping[str, int]) -> None:
        not_yours: list[tuple[str, int]] = []
        claims: list[tuple[TaskRecord, int]] = []
        for task_id, attempt in held.items():
            if task_id in worker.leases:
                continue
            claimed = self._table.tasks.get(task_id)
            if claimed is None or not self._may_adopt(claimed, attempt):
                not_yours.append((task_id, attempt))
                continue
            claims.append((claimed, attempt))
            worker.leases[task_id] = claimed
        self._table.adopt(claims, worker.peer)
        for part in pack(not_yours, attempt_bytes):
            self._ledger.send(worker.peer, Drop(list(part)))
        for task in worker.leases.values():
            if task.rare is not None and (cancel := task.rare.cancel) is not None:
                self._ledger.send(worker.peer, Cancel([task.id], cancel.terminate, cancel.signal))

    def _return_undelivered(self, worker: Worker, tasks: list[TaskRecord], now: Now) -> None:
        """Deliveries that got lost on the way; whether an at-most-once task started cannot be known.

        The first may be what could not be delivered, and is tried ``losses_max`` times; the others came after it.
        """
        self._counters["redelivered"] += len(tasks)
        cause = f"its delivery to worker {worker.name} was lost"
        again = [
            task
            for task in tasks
            if not (task is tasks[0] or task.at_most_once) or self._table.settle_lost(task, cause, now, node=True)
        ]
        self._table.requeue(again, now)

    def _may_adopt(self, task: TaskRecord, attempt: int) -> bool:
        """Whether nobody else holds the task, it does not wait for its time, and this attempt is its last and open."""
        if not task.attempt <= attempt <= ATTEMPT_MAX or (task.rare is not None and attempt <= task.rare.settled):
            return False
        return task.id in self._table.limbo or task.state is READY

    def lose(self, peer: Peer, cause: str, now: Now) -> None:
        """A node is gone; what a worker held goes elsewhere."""
        worker = self.workers.get(peer)
        if worker is not None:
            self._lose_worker(worker, cause, now)
        if self.clients.pop(peer, None) is not None:
            self._table.watching.leave(peer)

    def dismiss(self, peer: Peer, cause: str, now: Now) -> None:
        """As ``lose``, of a node whose connection may live: its session ends."""
        self.lose(peer, cause, now)
        self._ledger.add(DropPeer(peer))

    def _lose_worker(self, worker: Worker, cause: str, now: Now) -> None:
        del self.workers[worker.peer]
        self.hungry.pop(worker, None)
        self.loaded.pop(worker, None)
        self.changed = True
        self._unclaimed.pop(worker.node_id, None)
        self._lost[worker.node_id] = None
        if len(self._lost) > LOST_MAX:
            del self._lost[next(iter(self._lost))]
        self._forget_node(worker.node_id)
        leases = list(worker.leases.values())
        self._counters["redelivered"] += len(leases)
        cause = f"worker {worker.name}: {cause}"
        self._table.requeue([task for task in leases if self._table.settle_lost(task, cause, now, node=True)], now)

    def _forget_node(self, node_id: str) -> None:
        if self._nodes.pop(node_id, None) is not None:
            self._ledger.nodes[node_id] = None

    def _make_round(self, now: Now) -> None:
        """Look who was silent too long, and say that we live."""
        silence = self._silence_s
        for session in (*self.workers.values(), *self.clients.values()):
            if now.mono - session.heard >= silence:
                self.dismiss(session.peer, f"not heard of for {silence:g} s", now)
        for session in (*self.workers.values(), *self.clients.values()):
            if now.mono - session.told >= self._settings.heartbeat_s * 0.9:
                self._say_that_we_live(session, now)

    def tell_room(self, now: Now) -> None:
        """Whether the store takes what is new is another than it was: clients tell people why nothing goes on."""
        for client in self.clients.values():
            self._say_that_we_live(client, now)

    def _say_that_we_live(self, session: Session, now: Now) -> None:
        session.told = now.mono
        word = Heartbeat(
            now.wall, load=len(self._table.tasks), routers=self._addresses, full=(self._room.why or "")[:REASON_MAX]
        )
        self._ledger.send(session.peer, word)


def _known_role(role: str) -> Role | None:
    try:
        known = Role(role)
    except ValueError:
        return None
    return known
