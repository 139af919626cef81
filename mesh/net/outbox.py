"""Messages that wait until a peer can take them: in order, and bounded in bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from mesh.model import Buffer
from mesh.net.frames import size_of

_MESSAGE_BYTES = 200  # what a waiting message costs besides its frames


class Outbox:
    """What is unsent to one peer."""

    __slots__ = ("_bytes_max", "_messages", "bytes")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._messages: deque[Sequence[Buffer]] = deque()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, frames: Sequence[Buffer]) -> bool:
        """Keep a message for later; False where it is over the limit (an empty outbox takes any one message)."""
        size = size_of(frames) + _MESSAGE_BYTES
        if self._messages and self.bytes + size > self._bytes_max:
            return False
        self._messages.append(frames)
        self.bytes += size
        return True

    def flush(self, send: Callable[[Sequence[Buffer]], bool]) -> int:
        """Give messages to ``send`` in order while it takes them; how many it took."""
        taken = 0
        while self._messages and send(self._messages[0]):
            self.bytes -= size_of(self._messages.popleft()) + _MESSAGE_BYTES
            taken += 1
        return taken

    def clear(self) -> None:
        self._messages.clear()
        self.bytes = 0
