"""Waits for sockets, for file descriptors of the owner, and for other threads.

It waits on the descriptors ZeroMQ gives out, not with zmq's poller: an eighth of the cost, and it also wakes when a
full peer has room again. Such a descriptor tells only of *news*, so the owner must have asked each socket for its
EVENTS after its last use and before it waits; a socket that has something already must not be waited for.
"""

from __future__ import annotations

import os
import select
import socket

from mesh.errors import MeshError

_FAILED = select.EPOLLHUP | select.EPOLLERR


class Poll:
    """One thread waits; any thread or signal handler may wake it. Belongs to the process that made it."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._epoll = select.epoll()
        self._waker, self._bell = socket.socketpair()
        self._waker.setblocking(False)
        self._bell.setblocking(False)
        self._bell_fd = self._bell.fileno()
        self._epoll.register(self._bell_fd, select.EPOLLIN)
        self._ringing = False
        self._watched: set[int] = set()

    def check_process(self) -> None:
        """Raise ``MeshError`` after a fork: the child has the sockets but not the threads that move their bytes."""
        if os.getpid() != self._pid:
            raise MeshError(
                f"this transport belongs to process {self._pid} and cannot be used in its fork {os.getpid()}: "
                "make a new one here, or start processes with the 'spawn' method"
            )

    @property
    def fd(self) -> int:
        """Readable when ``wait`` would return, for who waits for other things, too."""
        return self._epoll.fileno()

    @property
    def is_own(self) -> bool:
        return os.getpid() == self._pid

    def add(self, fd: int) -> None:
        """Wait for a socket of the owner."""
        self._epoll.register(fd, select.EPOLLIN)

    def remove(self, fd: int) -> None:
        """Forget a socket; before it is closed."""
        self._epoll.unregister(fd)

    def watch(self, fd: int, write: bool) -> None:
        """Report ``fd`` when it can be read, and with ``write`` when it can be written. Calling again changes that."""
        mask = select.EPOLLIN | (select.EPOLLOUT if write else 0)
        if fd in self._watched:
            self._epoll.modify(fd, mask)
        else:
            self._epoll.register(fd, mask)
            self._watched.add(fd)

    def unwatch(self, fd: int) -> None:
        """Report ``fd`` no more; also right for one that is closed already."""
        if fd in self._watched:
            self._watched.discard(fd)
            try:
                self._epoll.unregister(fd)
            except OSError:
                return  # closing a descriptor unregisters it

    def wake(self) -> None:
        """Make ``wait`` return, now or the next time. What the woken thread is to find must be there before."""
        self.check_process()
        if self._ringing:
            return  # it has not been heard yet, so what we have left will be found with it
        self._ringing = True
        try:
            self._waker.send(b"!")
        except OSError:
            return  # closed: nobody waits any more

    def wait(self, timeout_s: float | None, readable: list[int], writable: list[int]) -> list[int]:
        """Wait at most so long; fill in the watched descriptors and give back those of the owner's sockets."""
        fired: list[int] = []
        for fd, mask in self._epoll.poll(timeout_s):
            if fd == self._bell_fd:
                self._bell.recv(64)
                self._ringing = False
            elif fd in self._watched:
                if mask & (select.EPOLLIN | _FAILED):
                    readable.append(fd)
                if mask & (select.EPOLLOUT | _FAILED):
                    writable.append(fd)
            else:
                fired.append(fd)
        return fired

    def close(self) -> None:
        self._epoll.close()
        self._waker.close()
        self._bell.close()
