"""One ROUTER socket, bound to any number of addresses: takes messages in, knows who is there, doubts who may be gone.

A peer is one connection: libzmq gives each a routing id of its own, and one that comes back is a new peer. A lost
connection is told by the monitor as a file descriptor, and the descriptor of a connection is a property of each
message it brings, so it is noted at a peer's first one. Descriptors are used again by later connections, and libzmq
calls the property deprecated: it only says whom to ask. A peer is gone when sending to it fails.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import zmq

from mesh.model import Buffer, Peer, Role
from mesh.net import monitor
from mesh.net.arrivals import Arrivals, Counters, Problem, Trouble
from mesh.net.backlog import Backlog
from mesh.net.descriptors import borrowed
from mesh.net.frames import BYTES_PER_WAKE_MAX, FRAMES_MAX, FRAMES_PER_WAKE_MAX, read_frames, size_of, write_frames
from mesh.net.keys import MeshKey
from mesh.net.monitor import Monitor, SocketEvent
from mesh.net.roster import Roster, domain_of
from mesh.net.sockets import MORE, NOBLOCK, POLLIN, Socket, bind, events_of, router_socket
from mesh.net.strangers import Strangers

_EVENTS = monitor.LOST | monitor.GREETING_FAILED
_UNKNOWN_FD = -1


class PeerGone(Exception):
    """There is no connection to this peer. Never leaves ``mesh.net``."""


@dataclass(slots=True, frozen=True, eq=False)
class Caller:
    """A connection that has spoken. ``role`` is what the key of ``user`` allows; None where no key was needed.

    ``backlog`` is kept of those that came over TCP, where their descriptor is known.
    """

    peer: Peer
    listener: Listener
    routing_id: bytes
    fd: int
    user: str | None
    role: Role | None
    backlog: Backlog | None


class Listener:
    """A ROUTER; with ``key`` it is a CURVE server, else open to whoever can reach the path it is bound to.

    ``roster`` says who may speak. ``on_caller(caller)`` is told of each connection when it speaks first.
    """

    def __init__(
        self,
        context: zmq.Context[Socket],
        key: MeshKey | None,
        roster: Roster,
        on_caller: Callable[[Caller], None],
        counters: Counters,
    ) -> None:
        if key is None:
            self._socket = router_socket(context, None)
        else:
            self._socket = router_socket(context, key.role(Role.ROUTER), domain_of(key))
        self._monitor = Monitor(self._socket, _EVENTS if key is None else _EVENTS | monitor.ACCEPTED)
        self._seen: list[SocketEvent] = []
        self.endpoints: list[str] = []
        self.fd: int = self._socket.FD
        self.monitor_fd = self._monitor.fd
        self.drained = True  # all that had come was taken
        self.used = True  # since it was last asked whether there is something: the wait needs to know anew
        self._kind = f"tcp-{key.key_id}" if key else "ipc"  # no other listener of the transport names peers so
        self._secure = key is not None
        self._roster = roster
        self._on_caller = on_caller
        self._counters = counters
        self.strangers = Strangers(counters)
        self._numbered = 0  # callers, ever
        self._callers: dict[bytes, Caller] = {}  # by routing id
        self._by_fd: dict[int, Caller] = {}
        self._gone: set[bytes] = set()  # reported as lost while messages of theirs may be untaken
        self._severed: set[bytes] = set()  # whose end is still to be seen: nothing of theirs is taken any more

    def listen(self, endpoint: str) -> str:
        """Listen there too; give back the address as bound. Raises ``ConfigError``."""
        bound = bind(self._socket, endpoint)
        self.endpoints.append(bound)
        return bound

    def unlisten(self, bound: str) -> None:
        """Listen there no more; connections that came that way are cut."""
        self.endpoints.remove(bound)
        self._socket.unbind(bound)

    def has_input(self) -> bool:
        """Whether there is something to take; also makes the socket notice what its I/O thread did."""
        self.used = bool(events_of(self._socket) & POLLIN)
        return self.used

    def observe(self) -> None:
        """Note what became of connections; before ``drain``, or one that spoke and went at once would look mute."""
        self._seen += self._monitor.read()

    def drain(self, arrivals: Arrivals, doubtful: set[Caller]) -> None:
        """Take messages until there are none or it is somebody else's turn."""
        receive, callers, messages = self._socket.recv, self._callers, arrivals.messages
        count = taken = size = 0
        self.drained = False
        while taken < FRAMES_PER_WAKE_MAX and size < BYTES_PER_WAKE_MAX:
            # Asked before each: an exception for the last one would cost more than all questions of a usual turn.
            if not self.has_input():
                self.drained = True
                self._gone.clear()
                break
            routing_id = receive(NOBLOCK)
            first = receive(NOBLOCK, copy=False)
            frames = read_frames(self._socket, first)
            count += 1
            taken += FRAMES_MAX if frames is None else len(frames)
            caller = callers.get(routing_id) or self._new_caller(routing_id, first, doubtful)
            if caller is None:
                continue
            if frames is not None and caller.backlog is not None:
                caller.backlog.take(frames)  # of one with too many nothing: who goes on with such is cut off
            # Asked of every message, for 0.3 µs: a routing id can be claimed anew, the connection's key cannot.
            if self._secure and first.get("User-Id") != caller.user:
                self._refuse(caller, Trouble.PEER_CONFLICT, "a message with another key", arrivals)
            elif frames is None:
                self._refuse(caller, Trouble.TOO_MANY_FRAMES, f"a message of more than {FRAMES_MAX} frames", arrivals)
            elif len(frames) == 1 and not frames[0]:
                self._counters.probes_received += 1
            else:
                size += size_of(frames)
                messages.append((caller.peer, frames, caller.role))
        self._counters.received += count

    def doubt(self, doubtful: set[Caller], problems: list[Problem]) -> None:
        """Of what was observed: add those that may have gone, and tell of connections that failed their greeting."""
        seen, self._seen = self._seen, []
        for kind, value in seen:
            if kind == monitor.ACCEPTED:
                self.strangers.accept(value)
            elif kind == monitor.LOST:
                caller = self._by_fd.pop(value, None)
                self.strangers.end(value, is_known=caller is not None)
                if caller is not None:
                    doubtful.add(caller)
                    continue
                if len(self._by_fd) < len(self._callers):
                    doubtful.update(c for c in self._callers.values() if self._by_fd.get(c.fd) is not c)
            else:
                self.strangers.fail(kind, value)
        problems += self.strangers.problems(self.endpoints)

    def send(self, routing_id: bytes, frames: Sequence[Buffer]) -> bool:
        """Queue a message; False where the peer takes no more just now. Raises ``PeerGone``."""
        self.used = True
        try:
            self._socket.send(routing_id, MORE)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno == errno.EHOSTUNREACH:
                raise PeerGone from None
            raise
        write_frames(self._socket, frames)
        return True

    def forget(self, caller: Caller, *, gone: bool) -> None:
        """Drop what is known of a connection. Where it is not ``gone``, its next message makes it a new peer."""
        self._callers.pop(caller.routing_id, None)
        if gone:
            self._severed.discard(caller.routing_id)
        if caller.routing_id not in self._severed and self._by_fd.get(caller.fd) is caller:
            del self._by_fd[caller.fd]
        if gone and not self.drained:
            self._gone.add(caller.routing_id)

    def clear(self, caller: Caller) -> None:
        """A doubtful one is there after all: its descriptor had told of an earlier connection."""
        if caller.fd != _UNKNOWN_FD and caller.routing_id in self._callers:
            self._by_fd.setdefault(caller.fd, caller)

    def sever(self, caller: Caller) -> None:
        """End a connection as its other end would; libzmq, which has no way to do so, sees that its stream is over.

        What it had on its way is dropped. Where the descriptor belongs to another connection by now, that one comes
        back by itself.
        """
        if self._by_fd.get(caller.fd) is caller:
            self._severed.add(caller.routing_id)
            _shut_down(caller.fd)

    def close(self, linger_ms: int) -> None:
        self._monitor.close()
        self._socket.close(linger_ms)

    def _new_caller(self, routing_id: bytes, first: zmq.Frame, doubtful: set[Caller]) -> Caller | None:
        """A connection speaks for the first time; None for one that was reported as lost, or that was cut off."""
        if routing_id in self._gone or routing_id in self._severed:
            self._counters.dropped += 1
            return None
        user = str(first.get("User-Id")) if self._secure else None
        role = self._roster.role(user)
        fd = _fd_of(first)
        if self._secure and role is None:  # it was let in a moment before
            if fd not in self._by_fd:
                _shut_down(fd)
            self._counters.dropped += 1
            return None
        self._numbered += 1
        backlog = Backlog(time.monotonic()) if self._secure and fd != _UNKNOWN_FD else None
        caller = Caller(Peer(f"{self._kind}-{self._numbered}".encode()), self, routing_id, fd, user, role, backlog)
        if caller.fd != _UNKNOWN_FD:
            earlier = self._by_fd.get(caller.fd)
            if earlier is not None:  # its descriptor is in use again, so its own connection has ended
                doubtful.add(earlier)
            self._by_fd[caller.fd] = caller
        self._callers[routing_id] = caller
        self._on_caller(caller)
        return caller

    def _refuse(self, caller: Caller, kind: Trouble, what: str, arrivals: Arrivals) -> None:
        self._counters.dropped += 1
        arrivals.problems.append(Problem(kind, f"dropped {what} from peer {caller.peer.decode()}", caller.peer))


def _shut_down(fd: int) -> None:
    if fd == _UNKNOWN_FD:
        return
    with suppress(OSError), borrowed(fd) as connection:
        connection.getpeername()  # fails for a socket that listens
        connection.shutdown(socket.SHUT_RDWR)


def _fd_of(frame: zmq.Frame) -> int:
    try:
        return int(frame.get(zmq.SRCFD))
    except (zmq.ZMQError, ValueError):
        return _UNKNOWN_FD
