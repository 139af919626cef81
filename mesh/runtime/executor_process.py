"""One executor process as its agent sees it: started, fed, read, ended."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from mesh.model import Buffer
from mesh.runtime.executor_frames import (
    ExecutorSetup,
    FrameReader,
    FrameWriter,
    FromAgent,
    FromExecutor,
    decode_from_executor,
    encode_frame,
)

SOCKET_BUFFER_BYTES = 1 << 20
"""Room for a chunk and its results; the kernel may give less."""


class ExecutorProcess:
    """A child process with a session of its own, so that the terminal's signals pass it by."""

    def __init__(self, number: int, setup: ExecutorSetup, directory: str | None) -> None:
        self.number = number
        self.ready = False
        self.stopping = False
        self.failed = False
        self.owed = 0  # tasks it was given and has not told the end of
        self.killed_for = ""  # why the pool killed it, where that was the pool's own doing
        self.unreadable = False
        self.watched: Mapping[int, bool] = {}  # what of ``fds`` is polled
        ours, theirs = socket.socketpair()
        try:
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
            self._process = subprocess.Popen(
                # -P: a user's module that is called "nodes" must not be taken for ours
                [sys.executable, "-P", "-m", "nodes.executor", str(theirs.fileno()), msgspec.json.encode(setup)],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                cwd=directory,
                start_new_session=True,
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self.pidfd = os.pidfd_open(self._process.pid)
        """Can be read when the process is over; it stays a zombie, and its number its own, until ``reap``."""
        self._connection = ours
        self._reader = FrameReader(ours)
        self._writer = FrameWriter(ours)
        self._fd = ours.fileno()
        self._watched = {self.pidfd: False, self._fd: False}
        self._watched_at_end = {self.pidfd: False}  # a socket at its end would wake us for ever
        self._watched_to_write = {self.pidfd: False, self._fd: True}

    @property
    def pid(self) -> int:
        return self._process.pid

    def fds(self) -> Mapping[int, bool]:
        """What to poll, with True also for writing; the same object until that changes."""
        if self._reader.ended or self.unreadable:
            return self._watched_at_end
        return self._watched_to_write if self._writer.pending else self._watched

    def send(self, message: FromAgent, parts: Sequence[Buffer] = ()) -> None:
        """Send without waiting; to a process that is gone, nothing."""
        self._writer.send(encode_frame(message, parts))

    def flush(self) -> None:
        if self._writer.pending:
            self._writer.flush()

    def read(self) -> Iterator[tuple[FromExecutor, memoryview]]:
        """The messages that have come by now, with their raw parts; not more than a bound.

        Raises whatever a frame that cannot be read leads to: a task may have written to the socket.
        """
        for envelope, raw in self._reader.read():
            yield decode_from_executor(envelope), raw

    @property
    def drained(self) -> bool:
        """True when the last ``read`` took all there was."""
        return self._reader.drained

    @property
    def hung_up(self) -> bool:
        """True when its end of the socket is closed: it is dying, or of no use any more."""
        return self._reader.ended

    def kill(self, number: signal.Signals) -> None:
        """Send a signal; SIGKILL to all its process group, so that what a task has started ends with the task."""
        if number == signal.SIGKILL:
            os.killpg(self.pid, number)
        else:
            os.kill(self.pid, number)

    def wait(self, timeout_s: float | None) -> None:
        """Wait until the process is over, or this long."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        poll.poll(None if timeout_s is None else timeout_s * 1000)

    def reap(self) -> str:
        """Close everything of an exited process and return the cause of its end, for people."""
        if not (self.stopping and self._exit_status() == (os.CLD_EXITED, 0)):
            self.kill(signal.SIGKILL)
        code = self._process.wait()
        self._connection.close()
        os.close(self.pidfd)
        if self.killed_for:
            return self.killed_for
        if code < 0:
            return signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return "stopped" if self.stopping and code == 0 else f"exit code {code}"

    def _exit_status(self) -> tuple[int, int]:
        info = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        assert info is not None, "waited for an exited process"
        return info.si_code, info.si_status
