"""Sockets of libzmq, which tells their descriptors and nothing more."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def borrowed(fd: int) -> Iterator[socket.socket]:
    """A TCP connection by its descriptor, which stays its owner's to close.

    It may be closed by now, or be another's: whatever is done with it may raise ``OSError``.
    """
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, fileno=fd)
    try:
        yield connection
    finally:
        connection.detach()
