"""What a start reads of its router's journal, and what becomes of rows in it that no router wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from mesh.errors import StoreDamaged
from mesh.model import NodeInfo, TaskMark
from mesh.store.base import Recovered, StoredBatch
from mesh.store.reading import cut, named
from mesh.store.redis import scripts
from mesh.store.redis.journal import Journal
from mesh.store.redis.kinds import WAY_OUT
from mesh.store.redis.link import as_text
from mesh.store.redis.rows import Rows
from mesh.store.redis.salvage import Salvage

T = TypeVar("T")


class Recovery:
    """Of this journal, whose rows are ``rows``. ``keep`` is called all the time, so that the lock does not run out."""

    def __init__(self, journal: Journal, rows: Rows, salvage: Salvage | None, keep: Callable[[], None]) -> None:
        self._journal = journal
        self._link = journal.link
        self._mine = journal.mine
        self._rows = rows
        self._salvage = salvage
        self._keep = keep

    def read(self, stored: int) -> Recovered:
        """What is unfinished; ``stored`` batches were written. Raises ``StoreDamaged`` naming the rows."""
        batches = self._read_batches(stored)
        marks: list[TaskMark] = self._read_all("marks", "marks of tasks", self._rows.read_mark)
        nodes: list[NodeInfo] = self._read_all("nodes", "workers", self._rows.read_node)
        uses = self._link.command("ZRANGE", f"{self._mine}functions", 0, -1, "WITHSCORES")
        functions = {as_text(digest): float(used_at) for digest, used_at in zip(uses[::2], uses[1::2])}
        found = [batches[seq] for seq in sorted(batches)]
        self._journal.last_seq = max(self._journal.last_seq, *batches, 0)  # adopted ones may have greater numbers
        apps = dict(self._read_all("apps", "apps", self._rows.read_app))
        entries = self._read_all("schedules", "entries of periodic tasks", self._rows.read_entry)
        positions = self._read_all("positions", "positions of entries", self._rows.read_position)
        next_seq = self._journal.last_seq + 1
        return Recovered(self._journal.boot, next_seq, found, marks, nodes, functions, apps, entries, positions)

    def _read_batches(self, stored: int) -> dict[int, StoredBatch]:
        batches = {
            seq: StoredBatch(seq, raw, accepted_at)
            for seq, accepted_at, raw in self._read_all("journal", "batches", self._rows.read_batch)
        }
        if len(batches) != stored:
            self._miss_batches(len(batches), stored)
        for seqs in cut(sorted(batches)):
            if self._salvage:
                self._salvage.set_aside_keys(
                    [f"{self._mine}{place}:{seq}" for seq in seqs for place in ("settled", "held")], b"set"
                )
            settled = self._link.commands([("SMEMBERS", f"{self._mine}settled:{seq}") for seq in seqs])
            self._link.commands([("SCARD", f"{self._mine}held:{seq}") for seq in seqs])  # now, and not in a commit
            self._keep()
            for seq, rows in zip(seqs, settled):
                batches[seq].settled, damaged = self._rows.read_settled(seq, rows)
                if damaged:
                    self._set_settled_aside(f"{self._mine}settled:{seq}", damaged)
        return batches

    def _read_all(self, place: str, what: str, read: Callable[[bytes, bytes], T | None]) -> list[T]:
        key = f"{self._mine}{place}"
        rows: dict[bytes, bytes] = {}
        for some in self._link.scan(key, self._keep):
            rows.update(some)
        found, damaged = [], []
        for name, row in rows.items():
            value = read(name, row)
            if value is None:
                damaged.append(name)
            else:
                found.append(value)
        if damaged:
            self._set_aside(key, what, damaged, rows)
        return found

    def _set_aside(self, key: str, what: str, damaged: Sequence[bytes], rows: Mapping[bytes, bytes]) -> None:
        where = f"{self._link.name} key {key}"
        text = f"{where}: {what} that are not what a router wrote: {named(list(map(as_text, damaged)))}"
        self._needed(text).set_aside_rows(key, text, damaged, rows)

    def _set_settled_aside(self, key: str, damaged: Sequence[bytes]) -> None:
        text = f"{self._link.name} key {key}: rows of finished tasks that are not what a router wrote: {len(damaged)}"
        salvage = self._needed(text)
        for row in damaged:
            self._link.commands([("SADD", f"{key}:damaged", row), ("SREM", key, row)])
        salvage.lines.append(f"{text}; set aside in key {key}:damaged")

    def _miss_batches(self, found: int, stored: int) -> None:
        text = f"{self._link.name} key {self._mine}journal: {found} whole batches where {stored} were written"
        salvage = self._needed(text)
        self._journal.do(scripts.RECOUNT, found)
        salvage.lines.append(text)

    def _needed(self, text: str) -> Salvage:
        """Raise ``StoreDamaged`` where nothing may be given up."""
        if self._salvage is None:
            raise StoreDamaged(f"{text}; {WAY_OUT}")
        return self._salvage
