"""A cable of so many bytes a second, between one node and a router."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

_BITE = 64 << 10
_BUFFER = 256 << 10  # of each socket, else most of a message would be on its way at once


class SlowCable:
    """Passes on what comes to ``address`` to ``port`` here, and back; nothing at all while it is ``cut``."""

    def __init__(self, port: int, bytes_per_s: int) -> None:
        self._port = port
        self._bytes_per_s = bytes_per_s
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._whole = threading.Event()
        self._whole.set()
        self._ends: list[socket.socket] = []
        self.carried = 0  # bytes, in both directions
        self.connections = 0
        self._held = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._whole.clear()

    @property
    def is_still(self) -> bool:
        """Whether it was cut, and holds back what came since."""
        return self._held > 0

    def mend(self) -> None:
        self._whole.set()

    def close(self) -> None:
        self.mend()
        for end in (self._listening, *self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.socket()
                far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
                far.connect(("127.0.0.1", self._port))
                self.connections += 1
                for one, other in ((near, far), (far, near)):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
                    self._ends.append(one)
                    threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        due = time.monotonic()
        with suppress(OSError):
            while data := one.recv(_BITE):
                due = max(due, time.monotonic()) + len(data) / self._bytes_per_s
                time.sleep(max(0.0, due - time.monotonic()))
                if not self._whole.is_set():
                    self._held += 1
                    self._whole.wait()
                    self._held -= 1
                other.sendall(data)
                self.carried += len(data)
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
