"""The router process: the router machine on real sockets, a real store and the real clock."""

from __future__ import annotations

import dataclasses
import gc
import logging
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

from msgspec.structs import replace

from mesh.clock import Now, SystemClock
from mesh.core.commands import Complain
from mesh.core.events import Event, PeerHeard, PeerLost, SettledElsewhere
from mesh.core.links import OUTSIDE, RouterLinks, Stamp
from mesh.core.status import STORE_AWAY, StoreStatus, Surroundings
from mesh.errors import ConfigError, ProtocolError, StoreDamaged, StoreError, StoreFull, StoreUnavailable
from mesh.messages import Function, Hello, Message, Refuse, Rejected
from mesh.model import Blob, Buffer, Peer, Role
from mesh.net.arrivals import Arrivals
from mesh.net.enrolment import EnrolmentFile, enrolment_path
from mesh.net.keys import AnyKey, MeshKey, load_or_create, whole_key
from mesh.net.lan import LanOptions
from mesh.net.mdns import About, Announcement
from mesh.net.rotation import live_keys
from mesh.net.router_transport import RouterTransport
from mesh.net.runtime_dir import Publication, RouterRecord, RuntimeDir
from mesh.runtime.adopting import Adopter
from mesh.runtime.depot import hide_depot, show_depot
from mesh.runtime.payload_intake import PayloadIntake, Refusal
from mesh.runtime.router_step import RouterStep
from mesh.settings import Settings
from mesh.store.base import Store
from mesh.store.blob_file import file_name
from mesh.store.redis.store import RedisStore
from mesh.wire.codec import Incoming, blobs_of, decode_body, decode_from_node, encode, encode_body
from mesh.wire.frames import read_header
from mesh.wire.payloads import with_payloads, without_payloads
from nodes.complaints import Complaints
from nodes.counts import count_of
from nodes.doors import Doors
from nodes.memory import give_back
from nodes.others import Others
from nodes.recovery import has_neighbours, recovered
from nodes.router_news import RouterNews
from nodes.stopping import Stopping

log = logging.getLogger("mesh.router")

CHORES_S = 1.0  # between two looks at the disk, at outcomes that are old enough to go and at complaints
PRUNE_AT_ONCE = 1_000


@dataclass(frozen=True, kw_only=True)
class RouterConfig:
    """How to run a router. ``tcp``: where to listen besides this user's own socket, None for nowhere.

    ``lan``: how to listen to other hosts, too; None for not at all.
    """

    settings: Settings
    store: str | None = None
    tcp: str | None = "tcp://127.0.0.1:*"
    lan: LanOptions | None = None
    name: str | None = None
    loglevel: str = "info"
    salvage: bool = False
    force: bool = False


class RouterNode:
    """One router: transport, links, store and machine, and the loop that joins them."""

    def __init__(self, config: RouterConfig, store: Store) -> None:
        settings = self._settings = config.settings
        self._store = store
        self._shared = store if isinstance(store, RedisStore) else None
        self._clock = SystemClock()
        self._began = self._clock.now()
        self._directory = RuntimeDir(os.environ)
        load_or_create(settings.mesh, os.environ)
        keys = live_keys(settings.mesh, os.environ)
        self._enrolment = EnrolmentFile(enrolment_path(settings.mesh, os.environ))
        on_lan = config.lan is not None
        self._machine = recovered(store, settings, name=config.name, on_lan=on_lan)
        self._links = RouterLinks(self._machine.router_id)
        self._transport = self._listen()
        self._doors = self._open_doors(config, keys)
        node_id = f"{self._machine.router_id}.{secrets.token_hex(4)}"
        self._others = Others(settings, node_id, lambda: self._doors.lan if self._doors else (), store, lan=on_lan)
        self._step = self._make_step()
        self._adopter: Adopter | None = None
        if self._shared is not None:
            self._adopter = Adopter(self._machine, self._shared, decode=decode_body, encode=encode_body)
        self._intake = PayloadIntake(store)
        self._away_since: float | None = None  # the store, as far as it was looked at
        self._room = StoreStatus(warning=_warning(store))  # when the store could be asked last
        self._streamed = False  # large payloads came in frames since memory was given back
        self._mapping: set[Peer] = set()  # those that read large payloads from the store's depot
        self._complaints = Complaints(log)
        self._news = RouterNews(self._machine)
        self._next_chores = 0.0
        self.stopping = Stopping(self._transport.wake)
        self._record = self._describe(keys[0].key_id)
        self._publication = self._publish()
        # Of two that start at a time at least one sees the other, for each looks once it can be seen.
        if has_neighbours(settings.mesh, self._machine.router_id):
            self._machine.expect_others()

    def _listen(self) -> RouterTransport:
        """Where this user's own nodes come in; doors are opened beside it."""
        settings = self._settings
        return RouterTransport(
            ipc=self._directory.ipc_endpoint(settings.mesh, self._machine.router_id),
            tcp=None,
            key=None,
            outbox_bytes_max=settings.outbox_bytes_max,
            unread_bytes_max=settings.unread_bytes_max + settings.payload_bytes_max,
            nodes=self._enrolment.nodes,
        )

    def _make_step(self) -> RouterStep:
        return RouterStep(
            self._machine,
            self._store,
            encode_submit=encode_body,
            send=self._send,
            drop=self._links.close,
            session=self._links.session,
            ask_others=self._others.ask,
            complain=self._complain,
            shared=self._shared,
        )

    def _open_doors(self, config: RouterConfig, keys: Sequence[AnyKey]) -> Doors | None:
        if config.tcp is None and config.lan is None:
            return None
        mesh = config.settings.mesh
        try:
            whole = _whole_keys(keys)
            return Doors(
                self._transport,
                config.tcp,
                config.lan,
                whole,
                lambda: _whole_keys(live_keys(mesh, os.environ)),
                lambda key_id: Announcement(About(key_id, self._machine.router_id, mesh)),
            )
        except BaseException:
            self._transport.close(0)
            raise

    def _describe(self, key_id: str) -> RouterRecord:
        return RouterRecord(
            mesh=self._settings.mesh,
            router_id=self._machine.router_id,
            pid=os.getpid(),
            ipc=self._transport.endpoints[0],
            tcp=self._doors.tcp if self._doors else None,
            key_id=key_id,
            started_at=self._clock.now().wall,
            lan=self._doors.lan if self._doors else (),
        )

    def _publish(self) -> Publication:
        """Let nodes find this router, now that it listens."""
        machine, store, record = self._machine, self._store, self._record
        assert record.ipc is not None
        show_depot(record.ipc, store.depot)
        publication = self._directory.publish(record)
        if self._doors is not None:
            self._doors.announce()
        log.info(
            "router %s of mesh %r is up: %s; store %s (%s), %s, start %d",
            machine.router_id,
            self._settings.mesh,
            ", ".join(self._transport.endpoints),
            store.url,
            store.level,
            count_of(len(machine.table.tasks), "unfinished task"),
            machine.boot,
        )
        return publication

    def run(self) -> int:
        """Serve until told to stop."""
        # What lives now lives long, and tasks are not tracked by the collector: it need not look often.
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        self._transport.watch_fd(self._others.fd)
        self._others.start()
        try:
            self._settle_finished()
            while not self.stopping.asked:
                self._turn()
            log.info("router stops; left in the journal: %s", count_of(len(self._machine.table.tasks), "task"))
            return 0
        finally:
            if self._doors is not None:
                self._doors.fall_silent()  # while the rest ends
            self._publication.withdraw()
            hide_depot(self._transport.endpoints[0])
            self._others.close()
            self._transport.close()
            if self._doors is not None:
                self._doors.close()

    def _settle_finished(self) -> None:
        """What is in the journal may have been given to another router, too, and have ended there."""
        if self._shared is not None:
            found = self._shared.finished(list(self._machine.table.limbo))
            self._step.step([SettledElsewhere(found)] if found else [], self._clock.now())

    def _turn(self) -> None:
        deadline = self._step.next_deadline()
        deadline = self._next_chores if deadline is None else min(deadline, self._next_chores)
        deadline = min(deadline, self._others.next_deadline())
        if self._adopter is not None:
            deadline = min(deadline, self._adopter.next_deadline())
        # The frames end here: large payloads are in the store now, and are read from there where they are sent on.
        events = self._events(self._transport.receive(max(0.0, deadline - monotonic())))
        now = self._clock.now()
        events += self._others.take(now)
        if self._adopter is not None:  # before anything is sent: the journal may be another's by now
            events += self._adopter.take(now)
        if now.mono >= self._next_chores:
            self._next_chores = now.mono + CHORES_S
            for said in self._news.look(now.mono):
                self._complain(said)
            self._complaints.due(now.mono)
            self._look_at_doors()
            self._look_at_enrolment()
            if self._streamed:
                self._streamed = False
                give_back()
            events += self._look_at_room()
            self._machine.surroundings = self._look_around()
            if self._prune(self._surely(now)) == PRUNE_AT_ONCE:
                self._next_chores = now.mono
        if self._adopter is not None:  # last: what is adopted must be in memory when all of that is written anew
            events += self._adopter.let_go_where_lost()
        new_blobs, self._intake.new = self._intake.new, []
        self._step.step(events, now, new_blobs + self._others.take_new_blobs())

    def _complain(self, said: Complain) -> None:
        self._complaints.add(said.kind, said.text, monotonic(), is_wrong=said.is_wrong)

    def _look_at_doors(self) -> None:
        if self._doors is None or not self._doors.look():
            return
        self._doors.announce()
        lan = self._record.lan
        key_id = self._doors.keys[0].key_id
        self._record = dataclasses.replace(self._record, key_id=key_id, tcp=self._doors.tcp, lan=self._doors.lan)
        before, self._publication = self._publication, self._directory.publish(self._record)
        before.withdraw()
        if lan != self._record.lan:
            log.info("now listens on the LAN at: %s", ", ".join(self._record.lan) or "no address, for there is none")

    def _look_at_enrolment(self) -> None:
        try:
            if not self._enrolment.changed():
                return
        except ConfigError as error:
            log.error("the list of nodes is not read, the one from before counts: %s", error)
            return
        cut = self._transport.admit(self._enrolment.nodes)
        enrolled = count_of(len(self._enrolment.nodes), "node")
        log.info("%s enrolled by %s; connections cut: %d", enrolled, self._enrolment.path, cut)

    def _look_around(self) -> Surroundings:
        sockets = self._transport.facts()
        return Surroundings(replace(sockets, lan=self._others.facts()), self._room, self._others.known())

    def _look_at_room(self) -> list[Event]:
        try:
            free_bytes = self._store.usage().free_bytes
        except StoreUnavailable as away:
            self._away_since = self._away_since or monotonic()
            self._complaints.add("away", f"{STORE_AWAY}: {away}", monotonic())
            return self._step.look_away(str(away))
        if self._away_since is not None and not self._step.holds_back:
            self._complaints.over("away")
            text = "the store is back: it was away for %.1f s, and %s held back meanwhile"
            log.warning(text, monotonic() - self._away_since, count_of(self._step.take_held_back(), "commit"))
            self._away_since = None
        least, given_up = self._settings.free_bytes_min, len(self._store.salvaged)
        self._room = StoreStatus(free_bytes, least, given_up, _warning(self._store))
        for peer in self._intake.fitting(free_bytes):
            self._links.close(peer)  # it notices at its next message, and says again what was not taken
        return self._step.look_at_room(free_bytes, self._settings.free_bytes_min)

    def _surely(self, now: Now) -> float:
        """UTC seconds, or less: a clock that was put forward, as after a start without one, drops no fresh result."""
        return min(now.wall, self._began.wall + now.mono - self._began.mono)

    def _prune(self, now: float) -> int:
        try:
            return self._store.prune(now, PRUNE_AT_ONCE)
        except StoreFull as full:
            log.warning("old outcomes stay for now, deleting them needs room too: %s", full)
            return 0
        except StoreUnavailable:
            return 0  # the look at the room complained

    # coming in

    def _events(self, arrivals: Arrivals) -> list[Event]:
        events: list[Event] = []
        for peer, frames, role in arrivals.messages:
            try:
                incoming = decode_from_node(frames)
            except ProtocolError as error:
                self._on_garbage(peer, frames, error)
                continue
            event = self._take(peer, incoming, role)
            if event is not None:
                events.append(event)
        events += map(PeerHeard, arrivals.heard)
        for peer in arrivals.lost:
            self._mapping.discard(peer)
            self._intake.forget(peer)
            self._links.close(peer)
            events.append(PeerLost(peer))
        for problem in arrivals.problems:
            self._machine.count("problems")
            self._complaints.add(problem.kind, problem.text, monotonic())
        return events

    def _on_garbage(self, peer: Peer, frames: Sequence[Buffer], error: ProtocolError) -> None:
        """Say why, and end the session: what the message meant to say comes again after a HELLO, or never."""
        self._machine.count("garbage")
        text = f"peer {peer.hex()} sent what the protocol forbids, dropped: {error}"
        self._complaints.add("garbage", text, monotonic())
        self._links.close(peer)
        self._transport.blame(peer)
        try:
            session = read_header(frames[0]).session
        except (ProtocolError, IndexError):
            session = 0
        self._transport.send(peer, encode(Refuse("protocol", str(error)[:500]), session, OUTSIDE))

    def _take(self, peer: Peer, incoming: Incoming, role: Role | None) -> Event | None:
        session, number, message, raw, blobs = incoming
        taken = self._links.take(peer, session, number, message, raw, role)
        if taken is None:
            return None
        if type(message) is Hello:
            # Only who came in by this user's socket can be meant to look into this user's files.
            (self._mapping.add if message.maps and role is None else self._mapping.discard)(peer)
            if message.role == Role.ROUTER and role in (None, Role.ADMIN):
                self._others.meet(message)
        if isinstance(taken, Message):
            self._transport.send(peer, encode(taken, session, OUTSIDE))
            return None
        return taken if not blobs or self._keep(peer, message, blobs) else None

    def _keep(self, peer: Peer, message: Message, blobs: Sequence[tuple[Blob, Sequence[Buffer]]]) -> bool:
        """Write large payloads; whether the machine is to hear of the message."""
        self._streamed = True
        not_taken = self._intake.take(peer, message, blobs, maps=peer in self._mapping)
        if not_taken is None:
            return True
        if isinstance(not_taken.what, Rejected):
            self._send(peer, not_taken.what)
        elif not_taken.what is Refusal.AGAIN:
            self._links.close(peer)  # it notices at its next message, and sends this one again
        else:
            text = f"a {type(message).__name__} waits at its node: {not_taken.why}"
            self._complaints.add("full", text, monotonic())
        return False

    # going out

    def _send(self, peer: Peer, message: Message) -> None:
        if type(message) is Refuse:
            self._complaints.add("refused", f"refused peer {peer.decode()}: {message.reason}", monotonic())
        stamp = self._links.stamp(peer)
        if stamp is None:
            return
        try:
            sent = self._transport.send(peer, self._frames(peer, message, stamp))
        except ProtocolError as error:
            # Its number is gone all the same, so the session is over; the peer's next message is answered SAY_HELLO.
            log.error("a %s is too large to be sent and was dropped: %s", type(message).__name__, error)
            sent = False
        except StoreError as error:  # no descriptor is free, say: what it was about comes again after a HELLO
            log.error("a %s was not sent, for a large payload cannot be read now: %s", type(message).__name__, error)
            sent = False
        if not sent:
            self._links.close(peer)

    def _frames(self, peer: Peer, message: Message, stamp: Stamp) -> list[Buffer]:
        if blobs_of(message):
            maps = peer in self._mapping and type(message) is not Function  # that one is kept longer than its file
            message = with_payloads(message, lambda blob: replace(blob, file=file_name(blob.key) if maps else None))
        try:
            return encode(message, *stamp, self._parts_of)
        except (LookupError, StoreDamaged) as error:
            log.error("a large payload cannot be read, its task will fail: %s", error)
            return encode(without_payloads(message, self._unreadable(message)), *stamp, self._parts_of)

    def _parts_of(self, blob: Blob) -> Sequence[Buffer] | None:
        return self._store.read_blob(blob)

    def _unreadable(self, message: Message) -> set[str]:
        unreadable = set()
        for blob in blobs_of(message):
            try:
                readable = self._store.read_blob(blob) is not None
            except StoreDamaged:
                readable = False
            if not readable:
                unreadable.add(blob.key)
        return unreadable


def _whole_keys(keys: Sequence[AnyKey]) -> list[MeshKey]:
    return [whole_key(key, "a router that listens over TCP") for key in keys]


def _warning(store: Store) -> str:
    return store.durability.warning if isinstance(store, RedisStore) else ""
