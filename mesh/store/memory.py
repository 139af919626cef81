"""A store that forgets everything with its process: for tests, simulations and meshes that say so by name.

It keeps the whole contract otherwise. The object stands for the disk: a router that crashed is simulated by
dropping the router and calling ``recover`` on the same object.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from mesh.core.commands import AppendBatch, Record
from mesh.entries import Entry, Position
from mesh.errors import StoreError, StoreFull
from mesh.model import Blob, Buffer, FunctionCode, NodeInfo, Outcome, TaskMark
from mesh.store.base import Recovered, StoredBatch, StoreUsage
from mesh.store.blob_file import cut_parts
from mesh.store.changes import Changes, gather

T = TypeVar("T")


def always_room() -> bool:
    """The default of ``MemoryStore.room``."""
    return True


class MemoryStore:
    """``room`` is asked before each commit; when it says False, the commit raises ``StoreFull``."""

    level = "memory"
    router_id: str | None = None
    depot: Path | None = None
    salvaged: Sequence[str] = ()

    def __init__(self, url: str = "memory://", *, room: Callable[[], bool] = always_room) -> None:
        self.url = url
        self.room = room
        self._boot = 0
        self._last_seq = 0
        self._batches: dict[int, tuple[bytes, float]] = {}
        self._marks: dict[str, TaskMark] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._forgotten: dict[int, set[str]] = {}  # by batch: finished, and their outcomes dropped
        self._expiries: list[tuple[float, str]] = []
        self._functions: dict[str, FunctionCode] = {}
        self._function_uses: dict[str, float] = {}
        self._nodes: dict[str, NodeInfo] = {}
        self._apps: dict[str, float] = {}
        self._entries: dict[str, Entry] = {}
        self._positions: dict[str, Position] = {}
        self._blobs: dict[str, bytes] = {}
        self._uncommitted_blobs: dict[str, None] = {}

    def recover(self) -> Recovered:
        """As a start after a crash would: blobs that no commit followed are gone."""
        for key in self._uncommitted_blobs:
            self._blobs.pop(key, None)
        self._uncommitted_blobs.clear()
        self._boot += 1
        batches = {seq: StoredBatch(seq, raw, at) for seq, (raw, at) in sorted(self._batches.items())}
        for outcome in self._outcomes.values():
            if outcome.batch in batches:
                batches[outcome.batch].settled.add(outcome.id)
        for seq, ids in self._forgotten.items():
            if seq in batches:
                batches[seq].settled |= ids
        return Recovered(
            self._boot,
            self._last_seq + 1,
            list(batches.values()),
            list(self._marks.values()),
            list(self._nodes.values()),
            dict(sorted(self._function_uses.items(), key=lambda use: use[1])),
            dict(self._apps),
            list(self._entries.values()),
            list(self._positions.values()),
        )

    def commit(self, records: Sequence[Record], held_back: Collection[str] = ()) -> None:
        """Apply all records, or none. Raises ``StoreFull``; ``StoreError`` for a batch that is there already."""
        if not self.room():
            raise StoreFull(f"{self.url}: no room")
        for record in records:
            if isinstance(record, AppendBatch) and record.seq in self._batches:
                raise StoreError(f"{self.url}: journal row {record.seq} is there already")
        self._uncommitted_blobs = {key: None for key in self._uncommitted_blobs if key in held_back}
        for changes in gather(records):
            self._apply(changes)

    def _apply(self, changes: Changes) -> None:
        self._last_seq = max(self._last_seq, changes.last_seq)
        for seq, accepted_at, raw in changes.batches:
            self._batches[seq] = (raw, accepted_at)
        _update(self._marks, changes.marks)
        for outcome in changes.outcomes:
            self._record(outcome)
        for seq in changes.dropped_batches:
            self._batches.pop(seq, None)
            self._forgotten.pop(seq, None)
        for task_id in changes.dropped_outcomes:
            self._drop(task_id)
        for digest, saved in changes.functions.items():
            if saved is None:
                self._drop_function(digest)
            else:
                self._functions.setdefault(digest, saved.code)
        self._function_uses.update(changes.function_uses)
        _update(self._nodes, changes.nodes)
        _update(self._apps, changes.apps)
        _update(self._entries, changes.entries)
        _update(self._positions, changes.positions)
        for key in changes.dropped_blobs:
            self._blobs.pop(key, None)

    def _record(self, outcome: Outcome) -> None:
        known = self._outcomes.setdefault(outcome.id, outcome)
        if known is outcome:
            heapq.heappush(self._expiries, (outcome.expires_at, outcome.id))
        elif isinstance(outcome.payload, Blob):
            kept = known.payload.key if isinstance(known.payload, Blob) else None
            if outcome.payload.key != kept:
                self._blobs.pop(outcome.payload.key, None)

    def _drop_function(self, digest: str) -> None:
        self._function_uses.pop(digest, None)
        code = self._functions.pop(digest, None)
        if code is not None and isinstance(code.payload, Blob):
            self._blobs.pop(code.payload.key, None)

    def _drop(self, task_id: str) -> None:
        outcome = self._outcomes.get(task_id)
        if outcome is not None and (outcome.batch in self._batches or outcome.batch > self._last_seq):
            self._forgotten.setdefault(outcome.batch, set()).add(task_id)
        self._forget(task_id)

    def _forget(self, task_id: str) -> None:
        outcome = self._outcomes.pop(task_id, None)
        if outcome is not None and isinstance(outcome.payload, Blob):
            self._blobs.pop(outcome.payload.key, None)

    def outcomes(self, ids: Sequence[str]) -> list[Outcome]:
        """The outcomes there are of these ids."""
        return [self._outcomes[i] for i in dict.fromkeys(ids) if i in self._outcomes]

    def function(self, digest: str) -> FunctionCode | None:
        """A shipped function, or None."""
        return self._functions.get(digest)

    def put_blob(self, blob: Blob, parts: Iterable[Buffer]) -> bool:
        """Keep a large payload, unless one of its key was committed; whether there was none yet.

        Raises ``StoreError`` when the parts are not of its size.
        """
        data = b"".join(parts)
        if len(data) != blob.size:
            raise StoreError(f"blob {blob.key}: {len(data)} bytes came where {blob.size} were announced")
        new = blob.key not in self._blobs
        if new or blob.key in self._uncommitted_blobs:
            self._uncommitted_blobs[blob.key] = None
            self._blobs[blob.key] = data
        return new

    def take_back_blob(self, blob: Blob) -> bool:
        """Remove a payload that was put since the last commit; whether it was."""
        if blob.key not in self._uncommitted_blobs:
            return False
        del self._uncommitted_blobs[blob.key], self._blobs[blob.key]
        return True

    def adopt_blob(self, blob: Blob) -> bool:
        """Raise ``LookupError``: there is no depot to leave files in."""
        raise LookupError(f"{self.url} has no depot: blob {blob.key} must be sent")

    def discard_blob(self, blob: Blob) -> None:
        """There is no depot."""

    def read_blob(self, blob: Blob) -> Sequence[bytes | memoryview] | None:
        """A large payload in parts, or None."""
        data = self._blobs.get(blob.key)
        return None if data is None else list(cut_parts(blob, [data]))

    def prune(self, now: float, limit: int) -> int:
        """Forget up to ``limit`` outcomes that expired before ``now`` and whose batch is finished."""
        kept: list[tuple[float, str]] = []
        pruned = 0
        while pruned < limit and self._expiries and self._expiries[0][0] < now:
            entry = heapq.heappop(self._expiries)
            outcome = self._outcomes.get(entry[1])
            if outcome is None or outcome.expires_at != entry[0]:
                continue  # forgotten before it expired
            if outcome.batch in self._batches:
                kept.append(entry)
                continue
            self._forget(outcome.id)
            pruned += 1
        for entry in kept:
            heapq.heappush(self._expiries, entry)
        return pruned

    def usage(self) -> StoreUsage:
        """How much is held; there is no disk."""
        return StoreUsage(None, len(self._outcomes), len(self._batches))

    def close(self) -> None:
        """Nothing to let go of: what was committed stays for the next ``recover``."""


def _update(kept: dict[str, T], changed: Mapping[str, T | None]) -> None:
    for key, value in changed.items():
        if value is None:
            kept.pop(key, None)
        else:
            kept[key] = value
