"""What clients were answered last: who asks again, for its session ended, is told that, and nothing is done twice."""

from __future__ import annotations

ANSWERS_MAX = 1_000
ANSWERS_BYTES_MAX = 4 << 20


class Answers:
    """Of one router in one life: the newest, by the node that asked and its number of the request."""

    def __init__(self) -> None:
        self._bodies: dict[tuple[str, int], bytes] = {}
        self._bytes = 0

    def get(self, node_id: str, request: int) -> bytes | None:
        """What was answered; None where that is not known any more, or it was not asked before."""
        return self._bodies.get((node_id, request))

    def keep(self, node_id: str, request: int, body: bytes) -> None:
        """This is the answer."""
        self._bodies[node_id, request] = body
        self._bytes += len(body)
        while len(self._bodies) > ANSWERS_MAX or self._bytes > ANSWERS_BYTES_MAX:
            self._bytes -= len(self._bodies.pop(next(iter(self._bodies))))
