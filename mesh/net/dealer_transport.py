"""The sockets of a client or a worker: one connection for each router address.

Rules: one thread calls everything but ``wake``. Nothing here waits except ``receive`` and ``close``. A connection
comes back by itself for as long as it is not disconnected, and is then reported as connected again.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence

from mesh.errors import ConfigError, NoKey
from mesh.model import Buffer, Peer, Role
from mesh.net.arrivals import Arrivals, Counters, Problem
from mesh.net.backlog import LOOK_S
from mesh.net.connection import Connection
from mesh.net.frames import check_frames
from mesh.net.keys import AnyKey, Entry
from mesh.net.poll import Poll
from mesh.net.sockets import new_context

_CLOSE_STEP_S = 0.010
REOPEN_S = 1.0  # before a connection that could not be opened anew is tried again


class DealerTransport:
    """Receives from and sends to routers; at most ``outbox_bytes_max`` may be unsent to one of them."""

    def __init__(self, *, outbox_bytes_max: int) -> None:
        self.counters = Counters()
        self._outbox_bytes_max = outbox_bytes_max
        self._connections: dict[Peer, Connection] = {}
        self._made = 0
        self._look_at = 0.0  # when to look next at what has come in part
        self._full: list[tuple[Connection, Problem]] = []
        self._poll = Poll()
        self._context = new_context()
        self.fd = self._poll.fd
        """Readable when ``receive`` has something, if the last ``receive`` had nothing and nothing was sent since."""

    def connect(
        self, endpoint: str, key: AnyKey | Callable[[], AnyKey] | None, role: Role, command: str = "mesh"
    ) -> Peer:
        """Begin to connect to ``endpoint`` as ``role``. Raises ``NoKey`` for tcp without a key for that.

        ``key`` may be what reads it: then it is read anew before each further try. The peer given back names this
        connection here; two addresses of one router are two connections. ``command``: what people type for this mesh.
        """
        self._poll.check_process()
        read_entry = None
        if not endpoint.startswith("ipc://"):
            if key is None:
                raise NoKey(f"{endpoint} needs the mesh key: type `{command} join <key>`, or set MESH_KEY")
            read_entry = functools.partial(_entry, key, role)
        self._made += 1
        connection = Connection(
            self._context,
            endpoint,
            peer=Peer(f"{self._made}:{endpoint}".encode()),
            read_entry=read_entry,
            outbox_bytes_max=self._outbox_bytes_max,
            counters=self.counters,
            command=command,
        )
        self._connections[connection.peer] = connection
        self._attach(connection)
        return connection.peer

    def disconnect(self, peer: Peer) -> None:
        """Forget the connection; what was not sent is dropped, and no loss is reported."""
        self._poll.check_process()
        connection = self._connections.pop(peer, None)
        if connection is not None:
            self._shut(connection)

    def send(self, peer: Peer, frames: Sequence[Buffer]) -> bool:
        """Send, or keep for later where the router is slow; False where there is no connection now.

        A router whose outbox is full is in ``lost`` of the next ``receive``, and connected to anew. Large frames are
        not copied: they must not change until the router has acknowledged them.
        """
        self._poll.check_process()
        check_frames(frames)
        connection = self._connections.get(peer)
        if connection is None or not connection.up or connection.reopen_at is not None:
            return False
        if not connection.send(frames):
            connection.reopen_at = 0.0
            self._full.append((connection, connection.full()))
            return False
        return True

    def receive(self, timeout_s: float | None) -> Arrivals:
        """Wait at most ``timeout_s`` (None: for ever) and take all there is. Returns early, and empty, on ``wake``."""
        self._poll.check_process()
        arrivals = Arrivals()
        for connection, problem in self._full:
            arrivals.problems.append(problem)
            connection.lose(arrivals)
        self._full = []
        patience = self._reopen(timeout_s)
        # The last use of the sockets before the wait: see mesh.net.poll.
        busy = [connection for connection in self._connections.values() if connection.is_busy()]
        if busy or arrivals.lost:
            patience = 0.0
        fired = self._poll.wait(patience, arrivals.readable, arrivals.writable)
        if busy or fired:
            for connection in self._connections.values():
                if not connection.is_open:
                    continue
                if connection.fd in fired or connection in busy:
                    connection.drain(arrivals)
                if connection.monitor_fd in fired:
                    connection.observe(arrivals)
                    if connection.reopen_at is not None:  # else libzmq goes on knocking, ten times a second
                        self._shut(connection)
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            arrivals.heard += [one.peer for one in self._connections.values() if one.grows(now)]
        return arrivals

    def is_connected(self, peer: Peer) -> bool:
        """Whether the router at the other end has let us in, as of the last ``receive``."""
        connection = self._connections.get(peer)
        return connection is not None and connection.up

    def watch_fd(self, fd: int, write: bool = False) -> None:
        """Report ``fd`` in ``readable``, and with ``write`` in ``writable``, as long as it is. Repeat to change."""
        self._poll.watch(fd, write)

    def unwatch_fd(self, fd: int) -> None:
        self._poll.unwatch(fd)

    def wake(self) -> None:
        """Make ``receive`` return; from any thread or signal handler."""
        self._poll.wake()

    def close(self, linger_s: float = 0.5) -> None:
        """End all connections; what is unsent has ``linger_s`` to reach the kernel. Does nothing in a fork."""
        if self._context.closed or not self._poll.is_own:
            return
        deadline = time.monotonic() + linger_s
        while self._has_unsent() and time.monotonic() < deadline:
            self._poll.wait(_CLOSE_STEP_S, [], [])
        for connection in self._connections.values():
            rest = max(0.0, deadline - time.monotonic()) if connection.up else 0.0
            connection.close(round(rest * 1000))
        self._connections = {}
        self._context.term()
        self._poll.close()

    def _has_unsent(self) -> bool:
        unsent = False
        for connection in self._connections.values():
            connection.look()
            unsent |= connection.up and connection.has_unsent
        return unsent

    def _reopen(self, timeout_s: float | None) -> float | None:
        """Open anew what is due; how long to wait then: ``timeout_s`` at the most, or until the next one is due."""
        for connection in self._connections.values():
            if connection.reopen_at is None:
                continue
            pause = connection.reopen_at - time.monotonic()
            if pause <= 0.0:
                self._shut(connection)
                connection.renew()
                try:
                    connection.open()
                except ConfigError:  # no descriptor is free, say: one may be later
                    connection.reopen_at = time.monotonic() + REOPEN_S
                    continue
                self._attach(connection)
            elif timeout_s is None or pause < timeout_s:
                timeout_s = pause
        return timeout_s

    def _attach(self, connection: Connection) -> None:
        self._poll.add(connection.fd)
        self._poll.add(connection.monitor_fd)

    def _shut(self, connection: Connection) -> None:
        if connection.is_open:
            self._poll.remove(connection.fd)
            self._poll.remove(connection.monitor_fd)
            connection.close()


def _entry(key: AnyKey | Callable[[], AnyKey], role: Role) -> Entry:
    return (key() if callable(key) else key).entry(role)
