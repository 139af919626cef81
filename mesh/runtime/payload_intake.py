"""Puts the large payloads of a message into the router's store, before the machine hears of the message.

Where that cannot be, the message is as if it had not come. A client is told, for it may go elsewhere. Who settles
has nobody else to tell, and his other results may fit: his session goes on until there is room, then it ends, and
everything that was not acknowledged comes again. A file that is not what was announced ends it at once: the bytes
come in the next.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from mesh.errors import StoreFull, StoreUnavailable
from mesh.messages import Message, Rejected, Submit
from mesh.model import Blob, Buffer, Peer
from mesh.store.base import Store


class Refusal(enum.Enum):
    """What becomes of a message whose large payloads were not taken, besides that it counts for nothing."""

    WAITS = "waits"  # its sender says it again once there is room
    AGAIN = "again"  # its sender is to say it again now, with the bytes


@dataclass(slots=True, frozen=True)
class NotTaken:
    """``what`` to do; ``why`` is for people."""

    what: Refusal | Rejected
    why: str


class PayloadIntake:
    """Of one router. ``new`` are the payloads that came since it was looked at."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.new: list[Blob] = []
        self._waiting: dict[Peer, int] = {}  # by peer: a payload of so many bytes found no room

    def take(
        self, peer: Peer, message: Message, blobs: Sequence[tuple[Blob, Sequence[Buffer]]], *, maps: bool
    ) -> NotTaken | None:
        """Put all of ``blobs``, or none. ``maps``: the peer is of this user and host, and may have left files."""
        new: list[Blob] = []
        why, full = None, False
        for blob, parts in blobs:
            try:
                if why is not None:
                    self._store.discard_blob(blob)
                elif self._put(blob, parts, maps):
                    new.append(blob)
            except StoreUnavailable as error:
                is_full = isinstance(error, StoreFull)
                why, full = f"the store is {'full' if is_full else 'away'}: {error}", True
                self._store.discard_blob(blob)
            except LookupError as error:
                why = f"send it again: {error}"
        if why is None:
            self.new += new
            return None
        for blob in new:
            self._store.take_back_blob(blob)
        if isinstance(message, Submit):
            return NotTaken(Rejected(message.batch, "overloaded", why), why)
        if not full:
            return NotTaken(Refusal.AGAIN, why)
        size = sum(blob.size for blob, _ in blobs)
        self._waiting[peer] = max(size, self._waiting.get(peer, 0))
        return NotTaken(Refusal.WAITS, why)

    def _put(self, blob: Blob, parts: Sequence[Buffer], maps: bool) -> bool:
        if blob.file is None:
            return self._store.put_blob(blob, parts)
        if not maps:
            raise LookupError(f"payload {blob.key} must be sent: who is not of this user and host leaves no files")
        return self._store.adopt_blob(blob)

    def forget(self, peer: Peer) -> None:
        """The connection is gone."""
        self._waiting.pop(peer, None)

    def fitting(self, free_bytes: int | None) -> list[Peer]:
        """Those whose payloads found no room, and would now."""
        found = [peer for peer, size in self._waiting.items() if free_bytes is None or size <= free_bytes]
        for peer in found:
            del self._waiting[peer]
        return found
