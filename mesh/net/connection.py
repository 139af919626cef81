"""One DEALER to one address of a router: connected, lost, refused, and tried again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import zmq

from mesh.errors import ConfigError
from mesh.model import Buffer, Peer
from mesh.net import monitor
from mesh.net.arrivals import Arrivals, Counters, Problem, Trouble
from mesh.net.backlog import Backlog, received_bytes
from mesh.net.frames import (
    BYTES_PER_WAKE_MAX,
    FRAMES_MAX,
    FRAMES_PER_WAKE_MAX,
    PROBE,
    read_frames,
    size_of,
    write_frames,
)
from mesh.net.keys import Entry
from mesh.net.monitor import Monitor
from mesh.net.outbox import Outbox
from mesh.net.sockets import NOBLOCK, POLLIN, POLLOUT, Socket, dealer_socket, events_of, set_family

_EVENTS = monitor.CONNECTED | monitor.LOST | monitor.GREETED | monitor.RETRIED | monitor.GREETING_FAILED
# When the greeting fails libzmq gives the address up for good, or knocks on ten times a second; a router there may have
# the right key later.
_REOPEN_AFTER_S = 0.25
REOPEN_AFTER_MAX_S = 10.0  # twice as long after each refusal, up to this
_LAST_WORD_MS = 100
_HANGS_AFTER = 0.9  # of the time that a connection or a greeting may take: who says no says it at once


class Connection:
    """Named ``peer`` on this side; the router names it anew each time. ``read_entry`` None: no encryption, for ipc.

    ``command``: what people type for this mesh.
    """

    def __init__(
        self,
        context: zmq.Context[Socket],
        endpoint: str,
        *,
        peer: Peer,
        read_entry: Callable[[], Entry] | None,
        outbox_bytes_max: int,
        counters: Counters,
        command: str,
    ) -> None:
        self.endpoint = endpoint
        self._command = command
        self.peer = peer
        self.up = False  # greeted: the other end is a ROUTER that has let us in
        self.reopen_at: float | None = None
        self._outbox = Outbox(outbox_bytes_max)
        self._context = context
        self._read_entry = read_entry
        self._entry = read_entry() if read_entry else None
        self._counters = counters
        self._silent = False  # it was told that nobody listens there
        self._reopen_after_s = _REOPEN_AFTER_S
        self._has_spoken = False  # since it was let in
        self._fd: int | None = None  # of its TCP connection, while there is one
        self._backlog = Backlog(0.0)
        self._quiet = False  # it had nothing to receive when it was asked, and was not used since
        self._reached_at = 0.0  # monotonic: somebody has accepted the connection
        self._begun_at = 0.0  # and this is when it was tried last
        self.is_open = False
        self.open()

    def renew(self) -> None:
        """Come in with the key that is there now: the mesh may have a new one."""
        if self._read_entry is not None:
            with suppress(ConfigError):  # it was removed, or is of another role: the one from before may still do
                self._entry = self._read_entry()

    def open(self) -> None:
        """Begin to connect; libzmq goes on trying by itself while nobody listens.

        Raises ``ConfigError`` where it cannot be: a name that is none, or no descriptor is free.
        """
        self.up, self.reopen_at, self._quiet, self._cut, self._fd = False, None, False, False, None
        self._begun_at = time.monotonic()
        try:
            self._socket = dealer_socket(self._context, self._entry)
            try:
                self._monitor = Monitor(self._socket, _EVENTS)
                set_family(self._socket, self.endpoint)
                self._socket.connect(self.endpoint)
            except BaseException:
                self._socket.close(0)  # else its context waits for it for ever
                raise
        except (zmq.ZMQError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or error
            raise ConfigError(f"cannot connect to a router at {self.endpoint}: {why}") from error
        self.fd: int = self._socket.FD
        self.monitor_fd = self._monitor.fd
        self.is_open = True  # else its descriptors are nobody's

    def close(self, linger_ms: int = 0) -> None:
        """Let go of the socket. A router takes one that was let in and goes without a word for a stranger."""
        if self.is_open:
            if self.up and not self._has_spoken and self._write(PROBE):
                linger_ms = max(linger_ms, _LAST_WORD_MS)
            self.is_open, self._quiet, self._fd = False, True, None
            self._monitor.close()
            self._socket.close(linger_ms)

    @property
    def has_unsent(self) -> bool:
        return len(self._outbox) > 0

    def is_busy(self) -> bool:
        """Whether there is something to receive. Afterwards its descriptor tells all news: see mesh.net.poll."""
        return not self._quiet and self.look()

    def look(self) -> bool:
        """Send what waited, if there is room; whether there is something to receive."""
        if not self.is_open:
            return False
        events = events_of(self._socket)
        while self._outbox and events & POLLOUT:
            self._counters.sent += self._outbox.flush(self._write)
            events = events_of(self._socket)
        self._quiet = not events & POLLIN
        return not self._quiet

    def send(self, frames: Sequence[Buffer]) -> bool:
        """Send or keep for later; False where the outbox is full."""
        if not self._outbox and self._write(frames):
            self._counters.sent += 1
            return True
        if not self._outbox.add(frames):
            self._counters.cut += 1
            return False
        self._counters.delayed += 1
        return True

    def full(self) -> Problem:
        """What to tell when ``send`` has failed."""
        text = (
            f"the router at {self.endpoint} does not read: {len(self._outbox)} messages of {self._outbox.bytes} bytes "
            "were waiting for it, the limit is MESH_OUTBOX_BYTES_MAX; the connection is made anew"
        )
        return Problem(Trouble.OUTBOX_FULL, text, self.peer)

    def drain(self, arrivals: Arrivals) -> None:
        """Take messages until there are none or it is somebody else's turn."""
        receive, messages = self._socket.recv, arrivals.messages
        self._quiet = False
        count = taken = size = 0
        while taken < FRAMES_PER_WAKE_MAX and size < BYTES_PER_WAKE_MAX:
            try:
                first = receive(NOBLOCK, copy=False)
            except zmq.Again:
                break
            frames = read_frames(self._socket, first)
            count += 1
            taken += FRAMES_MAX if frames is None else len(frames)
            if self._fd is not None and frames is not None:
                self._backlog.take(frames)
            if frames is None:
                self._counters.dropped += 1
                text = f"dropped a message of more than {FRAMES_MAX} frames from the router at {self.endpoint}"
                arrivals.problems.append(Problem(Trouble.TOO_MANY_FRAMES, text, self.peer))
                continue
            if len(frames) == 1 and not frames[0]:
                self._counters.probes_received += 1
                continue
            size += size_of(frames)
            messages.append((self.peer, frames, None))
            # On an idle mesh messages come one by one: asking for a second costs a third of failing to receive it.
            if count == 1 and not self.look():
                break
        self._counters.received += count

    def grows(self, now: float) -> bool:
        """Whether part of a message has come, and none whole of late."""
        received = None if self._fd is None else received_bytes(self._fd)
        return received is not None and self._backlog.grows(received, now)

    def observe(self, arrivals: Arrivals) -> None:
        """Tell what the monitor saw."""
        for kind, value in self._monitor.read():
            if kind == monitor.GREETED:
                self.up, self._silent, self.reopen_at, self._has_spoken = True, False, None, False
                self._reopen_after_s = _REOPEN_AFTER_S
                arrivals.connected.append(self.peer)
            elif kind == monitor.CONNECTED:
                self._reached_at = time.monotonic()
                self._fd = None if self.endpoint.startswith("ipc://") else value
                self._backlog = Backlog(self._reached_at)
            elif kind == monitor.LOST:
                self._cut, self._fd = True, None
                self.lose(arrivals)
            elif kind == monitor.RETRIED:
                was_let_be = self._was_let_be()
                if self._cut:  # the first try is still to come
                    self._cut = False
                elif was_let_be:  # nobody refused it: the address is silent, as behind a firewall
                    pass
                elif not self._silent:
                    self._silent = True
                    text = f"nothing listens at {self.endpoint} yet, or it cannot be reached"
                    arrivals.problems.append(Problem(Trouble.NO_ROUTER, text, self.peer))
            else:
                self._counters.greetings_failed += 1
                arrivals.problems.append(self._refused(kind, value))
                if self.reopen_at is None:
                    self.reopen_at = time.monotonic() + self._reopen_after_s
                    self._reopen_after_s = min(2 * self._reopen_after_s, REOPEN_AFTER_MAX_S)

    def _was_let_be(self) -> bool:
        """Whether the try that ended just now had no answer at all; the next one begins."""
        now = time.monotonic()
        begun_at, self._begun_at = self._begun_at, now
        return now - begun_at > _HANGS_AFTER * int(self._socket.get(zmq.CONNECT_TIMEOUT)) / 1000

    def lose(self, arrivals: Arrivals) -> None:
        """The connection is gone with all that was not sent."""
        self._outbox.clear()
        if self.up:
            self.up = False
            if self.peer in arrivals.connected:  # came and went within one look
                arrivals.connected.remove(self.peer)
            arrivals.lost.append(self.peer)
            self._counters.lost += 1

    def _write(self, frames: Sequence[Buffer]) -> bool:
        self._quiet = False
        try:
            write_frames(self._socket, frames)
        except zmq.Again:
            return False
        self._has_spoken = True
        return True

    def _refused(self, kind: int, value: int) -> Problem:
        where = f"the router at {self.endpoint}"
        if kind == monitor.DENIED:
            text = f"{where} does not accept our key: it was revoked, or never allowed there"
            return Problem(Trouble.DENIED, text, self.peer)
        patience_s = int(self._socket.get(zmq.HANDSHAKE_IVL)) / 1000
        if kind == monitor.GREETING_BROKEN and time.monotonic() - self._reached_at > _HANGS_AFTER * patience_s:
            return Problem(Trouble.GREETING, f"{where} did not answer the greeting within {patience_s:g} s", self.peer)
        if kind == monitor.GREETING_BROKEN and self.endpoint.startswith("ipc://"):  # no key is asked for there
            return Problem(Trouble.GREETING, f"{where} went away during the greeting, or hangs", self.peer)
        if kind == monitor.GREETING_BROKEN:
            compare = f"compare `{self._command} key` on both sides"
            text = f"{where} has another mesh key (or went away during the greeting): {compare}"
            return Problem(Trouble.WRONG_KEY, text, self.peer)
        if value == monitor.MECHANISM_MISMATCH:
            text = f"{where} and this process do not agree on using a mesh key: one has a key and the other has none"
            return Problem(Trouble.NO_COMMON_SECURITY, text, self.peer)
        if value == monitor.BAD_CRYPTOGRAPHY:
            text = f"{where} has another mesh key: compare `{self._command} key` on both sides"
            return Problem(Trouble.WRONG_KEY, text, self.peer)
        return Problem(Trouble.GREETING, f"what answers at {self.endpoint} is no router (0x{value:x})", self.peer)
