"""Polls file descriptors for a pool, as a transport does."""

from __future__ import annotations

import select


class Watched:
    """``fds`` are those that are watched now."""

    def __init__(self) -> None:
        self.fds: set[int] = set()
        self._epoll = select.epoll()

    def watch_fd(self, fd: int, write: bool = False) -> None:
        mask = select.EPOLLIN | (select.EPOLLOUT if write else 0)
        if fd in self.fds:
            self._epoll.modify(fd, mask)
        else:
            self._epoll.register(fd, mask)
        self.fds.add(fd)

    def unwatch_fd(self, fd: int) -> None:
        self.fds.remove(fd)
        self._epoll.unregister(fd)

    def ready(self, timeout_s: float) -> list[int]:
        """Wait at most so long for one of them."""
        return [fd for fd, _ in self._epoll.poll(timeout_s)]
