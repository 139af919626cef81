"""The router's sockets: one for this user's processes on this host, one for those who hold the mesh key.

Rules: one thread calls everything but ``wake``. Nothing here waits except ``receive``. Each loss of a known peer is
reported once, after the messages that came before it.
"""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mesh.core.status import SocketStatus
from mesh.errors import ConfigError, NoKey
from mesh.model import Buffer, Peer
from mesh.net.arrivals import Arrivals, Counters, Problem, Trouble
from mesh.net.backlog import LOOK_S, received_bytes
from mesh.net.enrolment import EnrolledNode
from mesh.net.frames import PROBE, check_frames
from mesh.net.keys import MeshKey
from mesh.net.listener import Caller, Listener, PeerGone
from mesh.net.outbox import Outbox
from mesh.net.poll import Poll
from mesh.net.roster import Roster
from mesh.net.sockets import new_context, raise_fd_limit
from mesh.net.zap import Zap

# A connection's end is told a moment before sending to it fails, so a doubtful one is asked more than once.
_PROBE_AFTER_S = (0.0, 0.002, 0.010, 0.050)
# Its last messages come before its loss, if they can be taken within this.
_DRAIN_FIRST_S = 0.030
# A full peer that has room again wakes us, unless the news came between two looks: then this does.
_FLUSH_RETRY_S = 0.050

_LOOKED_AT_MAX = 500  # connections at once, besides those that speak

GARBAGE_PER_S_MAX = 100  # messages of one peer on TCP that the protocol forbids; beyond: it is cut off

USERS_SHOWN_MAX = 100  # those with the most connections
ADDRESSES_SHOWN_MAX = 20  # likewise


class RouterTransport:
    """Receives from and sends to any number of peers. ``ipc`` and ``tcp`` are addresses to bind, or None.

    ``nodes`` may come in besides those that hold a part of ``key``.
    """

    def __init__(
        self,
        *,
        ipc: str | None,
        tcp: str | None,
        key: MeshKey | None,
        outbox_bytes_max: int,
        unread_bytes_max: int = 1 << 30,
        nodes: Sequence[EnrolledNode] = (),
    ) -> None:
        self.counters = Counters()
        self._outbox_bytes_max = outbox_bytes_max
        self._unread_bytes_max = unread_bytes_max
        self._look_at = 0.0  # when to look next at what is not taken yet
        self._to_look_at: list[Caller] = []
        self._growing: list[Caller] = []  # those a part of whose message has come since the last look
        self._callers: dict[Peer, Caller] = {}
        self._outboxes: dict[Peer, Outbox] = {}
        self._garbage: dict[Peer, tuple[float, int]] = {}  # since when, and how much: of those that sent some
        self._lost: list[Peer] = []
        self._problems: list[Problem] = []
        self._doubtful: dict[Caller, tuple[int, float]] = {}  # how often each was asked, and when it is asked next
        self._probe_at = 0.0
        self._drained_by = 0.0
        self._poll = Poll()
        self._context = new_context()
        self._roster = Roster()
        self._roster.set_nodes(nodes)
        self._zap: Zap | None = None
        self._listeners: list[Listener] = []
        self._key = key
        self._secure: dict[MeshKey, Listener] = {}  # the newest key last
        raise_fd_limit()
        if ipc is None and tcp is None:
            raise ConfigError("a router needs an ipc or a tcp address to listen at")
        try:
            if ipc is not None:
                self._add(Listener(self._context, None, self._roster, self._add_caller, self.counters)).listen(ipc)
            if tcp is not None:
                self.listen(tcp)
        except BaseException:
            self.close(0)
            raise

    @property
    def endpoints(self) -> list[str]:
        """Where it listens."""
        return [endpoint for listener in self._listeners for endpoint in listener.endpoints]

    def listen(self, tcp: str, key: MeshKey | None = None) -> str:
        """Listen at a tcp address, too, with ``key`` or the one given first; give the address back as bound.

        Raises ``NoKey``, ``AddressTaken``, ``ConfigError``.
        """
        key = key or self._key
        if key is None:
            raise NoKey(f"listening at {tcp} needs a mesh key: type `mesh key`, or set MESH_KEY")
        if self._zap is None:
            # Before the socket it guards: libzmq looks for the handler when somebody connects.
            self._zap = Zap(self._context, self._roster, self.counters)
            self._poll.add(self._zap.fd)
        if key not in self._secure:
            self._secure[key] = self._add(Listener(self._context, key, self._roster, self._add_caller, self.counters))
            self._roster.set_keys(self._secure)
        return self._secure[key].listen(tcp)

    def unlisten(self, bound: str) -> None:
        """Listen at a tcp address no more; connections that came that way are cut."""
        for listener in self._secure.values():
            if bound in listener.endpoints:
                listener.unlisten(bound)

    def forget_key(self, key: MeshKey) -> int:
        """Let nobody in with this key any more, and listen with it nowhere; how many connections were cut for it."""
        listener = self._secure.pop(key, None)
        if listener is None:
            return 0
        self._roster.set_keys(self._secure)
        cut = [caller for caller in self._callers.values() if caller.listener is listener]
        for caller in cut:
            self._lose(caller, gone=True)
        self._listeners.remove(listener)
        self._poll.remove(listener.fd)
        self._poll.remove(listener.monitor_fd)
        listener.close(0)
        return len(cut)

    def receive(self, timeout_s: float | None) -> Arrivals:
        """Wait at most ``timeout_s`` (None: for ever) and take all there is. Returns early, and empty, on ``wake``."""
        self._poll.check_process()
        arrivals = Arrivals()
        self._flush()
        # The last use of the sockets before the wait: see mesh.net.poll.
        busy = [listener for listener in self._listeners if listener.used and listener.has_input()]
        patience = 0.0 if busy else self._patience(timeout_s)
        fired = self._poll.wait(patience, arrivals.readable, arrivals.writable)
        doubtful: set[Caller] = set()
        for listener in self._listeners:
            observed = listener.monitor_fd in fired
            if observed:
                listener.observe()
            if observed or listener in busy or listener.fd in fired:
                listener.drain(arrivals, doubtful)
            if observed:
                listener.doubt(doubtful, arrivals.problems)
        if self._zap is not None and self._zap.fd in fired:
            self._zap.serve()
        for problem in arrivals.problems:
            if problem.kind in (Trouble.TOO_MANY_FRAMES, Trouble.PEER_CONFLICT) and problem.peer is not None:
                self.blame(problem.peer)
        self._look_at_backlogs(arrivals)
        self._probe_doubtful(doubtful)
        arrivals.lost += self._lost
        arrivals.problems += self._problems
        self._lost, self._problems = [], []
        self.counters.lost += len(arrivals.lost)
        return arrivals

    def send(self, peer: Peer, frames: Sequence[Buffer]) -> bool:
        """Send, or keep for later where the peer is full; False where there is no such peer (any more).

        A peer that is found to be gone, or whose outbox is full, is in ``lost`` of the next ``receive``. Large
        frames are not copied: they must not change until the peer has acknowledged them.
        """
        check_frames(frames)
        caller = self._callers.get(peer)
        if caller is None:
            return False
        if peer in self._outboxes:
            return self._delay(caller, frames)
        try:
            sent = caller.listener.send(caller.routing_id, frames)
        except PeerGone:
            self._lose(caller, gone=True)
            return False
        if not sent:
            return self._delay(caller, frames)
        self.counters.sent += 1
        return True

    def probe(self, peer: Peer) -> bool:
        """Whether the peer is connected as far as ZeroMQ knows; the peer does not notice. A loss is reported."""
        caller = self._callers.get(peer)
        return caller is not None and self._probe(caller)

    def blame(self, peer: Peer) -> None:
        """It sent what the protocol forbids: one that came over TCP is cut off for much of that in a second."""
        caller = self._callers.get(peer)
        if caller is None or caller.user is None:
            return
        now = time.monotonic()
        since, count = self._garbage.get(peer, (now, 0))
        if now - since > 1.0:
            since, count = now, 0
        self._garbage[peer] = since, count + 1
        if count < GARBAGE_PER_S_MAX:
            return
        self.counters.garbled += 1
        text = (
            f"peer {peer.decode()} sent more than {GARBAGE_PER_S_MAX} messages that the protocol forbids within a "
            "second; it is cut off"
        )
        self._problems.append(Problem(Trouble.GARBLED, text, peer))
        self._end(caller)

    def admit(self, nodes: Sequence[EnrolledNode]) -> int:
        """These nodes may come in, and no others of their kind; how many connections were cut for it.

        Each is in ``lost`` of the next ``receive``, and nothing of it is taken any more.
        """
        self._roster.set_nodes(nodes)
        revoked = [c for c in self._callers.values() if c.user is not None and self._roster.role(c.user) is None]
        for caller in revoked:
            self._end(caller)
        self.counters.revoked += len(revoked)
        return len(revoked)

    def facts(self) -> SocketStatus:
        """Its counters, and how many connections there are by user, by mesh key and by address; for people."""
        users = Counter("" if c.user is None else " ".join(c.user.split()[:2]) for c in self._callers.values())
        listeners = Counter(id(caller.listener) for caller in self._callers.values())
        secure = {key.key_id: listener for key, listener in reversed(self._secure.items())}
        strangers = sum((listener.strangers.came_from for listener in self._listeners), Counter[str]())
        return SocketStatus(
            asdict(self.counters),
            dict(users.most_common(USERS_SHOWN_MAX)),
            {key_id: listeners[id(listener)] for key_id, listener in secure.items()},
            addresses={key_id: self._addresses(listener) for key_id, listener in secure.items()},
            other_keys=dict(strangers.most_common(ADDRESSES_SHOWN_MAX)),
        )

    def _addresses(self, listener: Listener) -> dict[str, int]:
        fds = (caller.fd for caller in self._callers.values() if caller.listener is listener)
        return dict(Counter(map(listener.strangers.address, fds)).most_common(ADDRESSES_SHOWN_MAX))

    def watch_fd(self, fd: int, write: bool = False) -> None:
        """Report ``fd`` in ``readable``, and with ``write`` in ``writable``, as long as it is."""
        self._poll.watch(fd, write)

    def unwatch_fd(self, fd: int) -> None:
        self._poll.unwatch(fd)

    def wake(self) -> None:
        """Make ``receive`` return; from any thread or signal handler."""
        self._poll.wake()

    def close(self, linger_s: float = 0.2) -> None:
        """Stop listening; what is queued has ``linger_s`` to reach the kernel."""
        if self._context.closed or not self._poll.is_own:
            return
        self._flush()
        for listener in self._listeners:
            listener.close(round(linger_s * 1000))
        if self._zap is not None:
            self._zap.close()
        self._context.term()
        self._poll.close()
        for endpoint in self.endpoints:
            if endpoint.startswith("ipc://"):  # libzmq leaves the file
                Path(endpoint.removeprefix("ipc://")).unlink(missing_ok=True)

    def _add(self, listener: Listener) -> Listener:
        self._listeners.append(listener)
        self._poll.add(listener.fd)
        self._poll.add(listener.monitor_fd)
        return listener

    def _add_caller(self, caller: Caller) -> None:
        self._callers[caller.peer] = caller

    def _patience(self, timeout_s: float | None) -> float | None:
        """How long to wait, given all that is to do besides."""
        if self._lost or self._problems:
            return 0.0
        waits = [] if timeout_s is None else [timeout_s]
        if self._outboxes:
            waits.append(_FLUSH_RETRY_S)
        if self._doubtful:
            waits.append(max(0.0, self._probe_at - time.monotonic()))
        return min(waits, default=None)

    def _probe_doubtful(self, added: set[Caller]) -> None:
        """Ask the doubtful, and go on asking for a while: see ``_PROBE_AFTER_S``."""
        if not added and not self._doubtful:
            return
        now = time.monotonic()
        if added:
            if not self._doubtful:
                self._drained_by = now + _DRAIN_FIRST_S
            self._doubtful.update(dict.fromkeys(added, (0, now)))
            self._probe_at = now
        if now < self._probe_at:
            return
        for listener in self._listeners:
            listener.has_input()  # lets the sockets notice who went
            if not listener.drained and now < self._drained_by:
                return  # its last messages may be among what is not taken yet
        for caller, (asked, ask_at) in list(self._doubtful.items()):
            if ask_at > now or not self._probe(caller):
                continue
            if asked + 1 == len(_PROBE_AFTER_S):
                del self._doubtful[caller]
                caller.listener.clear(caller)
            else:
                self._doubtful[caller] = asked + 1, now + _PROBE_AFTER_S[asked + 1]
        self._probe_at = min((ask_at for _, ask_at in self._doubtful.values()), default=0.0)

    def _probe(self, caller: Caller) -> bool:
        self.counters.probes_sent += 1
        try:
            caller.listener.send(caller.routing_id, PROBE)
        except PeerGone:
            self._lose(caller, gone=True)
            return False
        return True

    def _look_at_backlogs(self, arrivals: Arrivals) -> None:
        """Tell who lives although no message of it is whole, and end connections that send more than is taken."""
        now = time.monotonic()
        if not self._secure or now < self._look_at:
            return
        self._look_at = now + LOOK_S
        if not self._to_look_at:
            self._to_look_at = [caller for caller in self._callers.values() if caller.backlog is not None]
        looked_at = {caller.peer: caller for caller in self._to_look_at[-_LOOKED_AT_MAX:]}
        del self._to_look_at[-_LOOKED_AT_MAX:]
        looked_at.update((caller.peer, caller) for caller in self._growing)
        self._growing = []
        for peer in {peer for peer, _, _ in arrivals.messages}:
            if (speaker := self._callers.get(peer)) is not None:
                looked_at[peer] = speaker
        for peer, caller in looked_at.items():
            if caller.backlog is None or self._callers.get(peer) is not caller:
                continue
            received = received_bytes(caller.fd)
            if received is None:
                continue
            if caller.backlog.grows(received, now):
                self._growing.append(caller)
                arrivals.heard.append(peer)
            unread = caller.backlog.weigh(received, now, self._unread_bytes_max)
            if unread > self._unread_bytes_max:
                self.counters.flooding += 1
                text = (
                    f"peer {peer.decode()} sends more than is taken: what waits takes {unread} bytes, the limit is "
                    f"{self._unread_bytes_max} (MESH_UNREAD_BYTES_MAX and MESH_PAYLOAD_BYTES_MAX); it is cut off"
                )
                self._problems.append(Problem(Trouble.FLOOD, text, peer))
                self._end(caller)

    def _end(self, caller: Caller) -> None:
        caller.listener.sever(caller)
        self._lose(caller, gone=False)

    def _flush(self) -> None:
        for peer, outbox in list(self._outboxes.items()):
            caller = self._callers[peer]
            try:
                self.counters.sent += outbox.flush(functools.partial(caller.listener.send, caller.routing_id))
            except PeerGone:
                self._lose(caller, gone=True)
                continue
            if not outbox:
                del self._outboxes[peer]

    def _delay(self, caller: Caller, frames: Sequence[Buffer]) -> bool:
        outbox = self._outboxes.get(caller.peer)
        if outbox is None:
            outbox = self._outboxes[caller.peer] = Outbox(self._outbox_bytes_max)
        if outbox.add(frames):
            self.counters.delayed += 1
            return True
        self.counters.cut += 1
        text = (
            f"peer {caller.peer.decode()} does not read: {len(outbox)} messages of {outbox.bytes} bytes were waiting "
            "for it, the limit is MESH_OUTBOX_BYTES_MAX; it is cut off"
        )
        self._problems.append(Problem(Trouble.OUTBOX_FULL, text, caller.peer))
        self._end(caller)
        return False

    def _lose(self, caller: Caller, *, gone: bool) -> None:
        if self._callers.pop(caller.peer, None) is not None:
            self._lost.append(caller.peer)
        self._outboxes.pop(caller.peer, None)
        self._garbage.pop(caller.peer, None)
        self._doubtful.pop(caller, None)
        caller.listener.forget(caller, gone=gone)
