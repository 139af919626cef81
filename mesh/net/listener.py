"""One bound ROUTER socket: takes in messages, knows who is connected to it and suspects who may be gone.

A lost connection is told by the monitor as a file descriptor, and the descriptor of a connection is a property of
each message it brings. So a peer's descriptor is noted at its first message. Descriptors are used again by the next
connection, and libzmq calls the property deprecated: it only says whom to ask. A peer is gone when sending to it fails.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence

import zmq

from mesh.errors import ConfigError
from mesh.model import Peer, Role
from mesh.net import monitor
from mesh.net.arrivals import Arrivals, Buffer, Counters, Problem, Trouble
from mesh.net.frames import BYTES_PER_WAKE_MAX, FRAMES_MAX, MESSAGES_PER_WAKE_MAX, read_frames, size_of, write_frames
from mesh.net.keys import MeshKey
from mesh.net.monitor import Monitor
from mesh.net.sockets import Socket, bind, events_of, router_socket

_EVENTS = monitor.LOST | monitor.GREETING_FAILED
_UNKNOWN_FD = -1
_ROLES: dict[str | int, Role] = {role.value: role for role in Role}


class PeerGone(Exception):
    """There is no connection to this peer. Never leaves ``mesh.net``."""


class Listener:
    """A ROUTER bound to ``endpoint``; with ``key`` it is a CURVE server, else open to whoever can reach the path.

    ``claim(peer)`` is asked when a peer speaks first; a peer it refuses is not heard.
    """

    def __init__(
        self,
        context: zmq.Context[Socket],
        endpoint: str,
        key: MeshKey | None,
        claim: Callable[[Peer, Listener], bool],
        counters: Counters,
    ) -> None:
        self._socket = router_socket(context, key.role(Role.ROUTER) if key else None)
        self._monitor = Monitor(self._socket, _EVENTS)
        try:
            self.endpoint = bind(self._socket, endpoint)
        except ConfigError:
            self.close(0)
            raise
        self.fd: int = self._socket.FD
        self.monitor_fd = self._monitor.fd
        self.drained = True  # all that had come was taken
        self._secure = key is not None
        self._claim = claim
        self._counters = counters
        self._roles: dict[Peer, Role] = {}
        self._fds: dict[Peer, int] = {}
        self._peers: dict[int, Peer] = {}  # by descriptor
        self._unplaced: set[Peer] = set()  # alive, but their descriptor is not known any more

    def has_input(self) -> bool:
        """Whether there is something to take; also makes the socket notice what its I/O thread did."""
        return bool(events_of(self._socket) & zmq.POLLIN)

    def drain(self, arrivals: Arrivals, suspects: set[Peer]) -> None:
        """Take messages until there are none or it is somebody else's turn."""
        receive, place, messages = self._socket.recv, self._fds, arrivals.messages
        count = size = 0
        self.drained = False
        while count < MESSAGES_PER_WAKE_MAX and size < BYTES_PER_WAKE_MAX:
            try:
                peer = Peer(receive(zmq.NOBLOCK))
            except zmq.Again:
                self.drained = True
                break
            first = receive(zmq.NOBLOCK, copy=False)
            frames = read_frames(self._socket, first)
            count += 1
            if frames is None:
                self._refuse_size(peer, arrivals)
                continue
            if len(frames) == 1 and not frames[0]:
                self._counters.probes_received += 1
                continue
            if peer not in place and not self._place(peer, first, arrivals, suspects):
                continue
            role = None
            if self._secure:
                # Asked of every message, for 0.3 µs: a routing id can be taken over, the connection's key cannot.
                role = _ROLES[first.get("User-Id")]
                if self._roles.setdefault(peer, role) is not role:
                    self._refuse_role(peer, arrivals)
                    continue
            size += size_of(frames)
            messages.append((peer, frames, role))
        self._counters.received += count

    def suspect(self, suspects: set[Peer], problems: list[Problem]) -> None:
        """Add the peers whose connection may have ended, and tell of connections that failed their greeting."""
        failed: dict[str, int] = {}
        for kind, value in self._monitor.read():
            if kind == monitor.LOST:
                peer = self._peers.pop(value, None)
                if peer is None:
                    suspects |= self._unplaced
                else:
                    self._displace(peer)
                    suspects.add(peer)
            else:
                self._counters.greetings_failed += 1
                reason = _reason(kind, value)
                failed[reason] = failed.get(reason, 0) + 1
        for reason, times in failed.items():
            text = f"{times} connection(s) to {self.endpoint} failed the greeting: {reason}"
            problems.append(Problem(Trouble.GREETING, text))

    def send(self, peer: Peer, frames: Sequence[Buffer]) -> bool:
        """Queue a message; False where the peer takes no more just now. Raises ``PeerGone``."""
        try:
            self._socket.send(peer, zmq.SNDMORE | zmq.NOBLOCK)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno == errno.EHOSTUNREACH:
                raise PeerGone from None
            raise
        write_frames(self._socket, frames)
        return True

    def forget(self, peer: Peer) -> None:
        """The peer is gone; a message from it makes it a new one."""
        fd = self._fds.pop(peer, _UNKNOWN_FD)
        if self._peers.get(fd) == peer:
            del self._peers[fd]
        self._unplaced.discard(peer)
        self._roles.pop(peer, None)

    def close(self, linger_ms: int) -> None:
        self._monitor.close()
        self._socket.close(linger_ms)

    def _place(self, peer: Peer, first: zmq.Frame, arrivals: Arrivals, suspects: set[Peer]) -> bool:
        """Note which connection the peer has; False where it may not have one here."""
        if not self._claim(peer, self):
            self._counters.dropped += 1
            text = f"a peer on {self.endpoint} uses the routing id of another connection; its messages are dropped"
            arrivals.problems.append(Problem(Trouble.PEER_CONFLICT, text, peer))
            return False
        fd = _fd_of(first)
        earlier = self._peers.get(fd)
        if earlier is not None:  # its descriptor is in use again, so its own connection has ended
            self._displace(earlier)
            suspects.add(earlier)
        self._fds[peer] = fd
        if fd == _UNKNOWN_FD:
            self._unplaced.add(peer)
        else:
            self._peers[fd] = peer
            self._unplaced.discard(peer)
        return True

    def _displace(self, peer: Peer) -> None:
        self._fds.pop(peer, None)
        self._unplaced.add(peer)

    def _refuse_size(self, peer: Peer, arrivals: Arrivals) -> None:
        self._counters.dropped += 1
        text = f"dropped a message of more than {FRAMES_MAX} frames from peer {peer.hex()}"
        arrivals.problems.append(Problem(Trouble.TOO_MANY_FRAMES, text, peer))

    def _refuse_role(self, peer: Peer, arrivals: Arrivals) -> None:
        """Somebody with another role's key speaks under this routing id: end what was, whoever speaks next is new."""
        self._counters.dropped += 1
        text = f"peer {peer.hex()} came back with the key of another role; its session is over"
        arrivals.problems.append(Problem(Trouble.PEER_CONFLICT, text, peer))
        arrivals.lost.append(peer)


def _fd_of(frame: zmq.Frame) -> int:
    try:
        return int(frame.get(zmq.SRCFD))
    except (zmq.ZMQError, ValueError):
        return _UNKNOWN_FD


def _reason(kind: int, value: int) -> str:
    if kind == monitor.DENIED:
        return "its key is not of this mesh"
    if kind == monitor.GREETING_REFUSED and value == monitor.BAD_CRYPTOGRAPHY:
        return "it expects a router with another mesh key"
    if kind == monitor.GREETING_REFUSED and value == monitor.MECHANISM_MISMATCH:
        return "one side uses a mesh key and the other does not"
    if kind == monitor.GREETING_REFUSED:
        return f"it does not speak our protocol (0x{value:x})"
    return "it went away"
