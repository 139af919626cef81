"""Reads every row and every large payload of a store, and says what is not as it was written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from mesh.entries import Entry
from mesh.errors import StoreDamaged
from mesh.model import Blob, FunctionCode, Outcome
from mesh.store.reading import Reader, Rows, cut, named, needed_blobs, new_arguments

NAMED_MAX = 1_000  # damaged keys that are kept of each kind; all are counted

T = TypeVar("T")


@dataclass(slots=True)
class Kind:
    """How many rows of one kind were read, and which of them are damaged."""

    read: int = 0
    damaged: int = 0
    keys: list[str] = field(default_factory=list)

    def add_damaged(self, key: str) -> None:
        """Count one more."""
        self.damaged += 1
        if len(self.keys) < NAMED_MAX:
            self.keys.append(key)


@dataclass(slots=True)
class Checked:
    """What a check found, by kind; ``faults`` are those of the store as a whole."""

    kinds: dict[str, Kind] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def damaged(self) -> int:
        """How many rows and payloads are not what was written."""
        return sum(kind.damaged for kind in self.kinds.values())

    @property
    def is_whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults and not self.damaged

    @property
    def whole(self) -> int:
        """How many rows and payloads are what was written."""
        return sum(self.counts().values())

    def counts(self) -> dict[str, int]:
        """How many whole rows there are of each kind."""
        return {name: kind.read - kind.damaged for name, kind in self.kinds.items()}


def check(reader: Reader, told: Callable[[str, int], None] = lambda kind, count: None) -> Checked:
    """Read all of it; ``told`` how far it is: the kind, and how many of it were read."""
    return _Check(reader, told).run()


class _Check:
    """Payloads that seem to be missing are looked for again at the end: a router may have finished their task."""

    def __init__(self, reader: Reader, told: Callable[[str, int], None]) -> None:
        self._reader = reader
        self._told = told
        self._found = Checked()
        self._payloads = Kind()
        self._arguments: dict[str, Blob | None] = {}
        self._functions: set[str] = set()
        self._positions: set[str] = set()
        self._entries: set[str] = set()  # but for those that were removed
        self._suspects: list[tuple[Blob, Callable[[], list[Blob]]]] = []

    def run(self) -> Checked:
        reader = self._reader
        self._found.faults = reader.faults()
        parts: tuple[Callable[[], None], ...] = (
            self._journal,
            lambda: self._count("marks", reader.marks()),
            lambda: self._count("nodes", reader.nodes()),
            lambda: self._count("apps", reader.apps()),
            lambda: self._count("entries", reader.entries(), self._look_at_entry),
            lambda: self._count("positions", reader.positions(), lambda found: self._positions.add(found.entry)),
            lambda: self._count("functions", reader.functions(), self._look_at_function),
            lambda: self._count("outcomes", reader.outcomes(), self._look_at_outcome),
            self._look_again,
            self._look_for_entries,
            lambda: self._found.faults.extend(reader.loose_ends()),
        )
        for part in parts:
            try:
                part()
            except StoreDamaged as damaged:  # so much that its rows cannot be read one by one; others can
                if str(damaged) not in self._found.faults:
                    self._found.faults.append(str(damaged))
        self._found.kinds["payloads"] = self._payloads
        return self._found

    def _journal(self) -> None:
        kind = self._found.kinds["batches"] = Kind()
        seqs = self._reader.seqs()
        self._arguments = new_arguments(self._reader)
        for some in cut(seqs):
            for seq, batch in self._reader.batches(some):
                kind.read += 1
                if batch is None:
                    kind.add_damaged(str(seq))
                    continue
                try:
                    needed = needed_blobs(batch, self._arguments)
                except msgspec.MsgspecError:  # whole, and of another version or of nobody's
                    kind.add_damaged(str(seq))
                    continue
                for blob in needed:
                    self._look_at(blob, lambda seq=seq: self._needed_now(seq))  # type: ignore[misc]
            self._told("batches", kind.read)

    def _needed_now(self, seq: int) -> list[Blob]:
        batches = [batch for _, batch in self._reader.batches([seq]) if batch is not None]
        return [blob for batch in batches for blob in needed_blobs(batch, self._arguments)]

    def _count(self, name: str, rows: Rows[T], look: Callable[[T], None] = lambda value: None) -> None:
        kind = self._found.kinds[name] = Kind()
        for chunk in rows:
            for key, value in chunk:
                kind.read += 1
                if value is None:
                    kind.add_damaged(key)
                else:
                    look(value)
            self._told(name, kind.read)

    def _look_for_entries(self) -> None:
        """A position is of an entry, and goes with it."""
        reader = self._reader
        there = {name for chunk in reader.entries() for name, _ in chunk}
        if not self._positions <= there:  # a router may have removed some meanwhile
            self._positions &= {name for chunk in reader.positions() for name, _ in chunk}
        if loose := sorted(self._positions - there):
            self._found.faults.append(f"positions without an entry: {named(loose)}; the router's next start drops them")
        if self._entries - self._positions:
            self._positions |= {name for chunk in reader.positions() for name, _ in chunk}
            left = {one.name for chunk in reader.entries() for _, one in chunk if one is not None and not one.gone}
            if lost := sorted((self._entries - self._positions) & left):
                text = f"entries without a position: {named(lost)}"
                self._found.faults.append(
                    f"{text}; they begin at the router's next start, and nothing missed is made good"
                )

    def _look_at_entry(self, entry: Entry) -> None:
        if not entry.gone:
            self._entries.add(entry.name)

    def _look_at_function(self, found: tuple[FunctionCode, float]) -> None:
        code = found[0]
        if isinstance(code.payload, Blob):
            blob = code.payload
            self._look_at(blob, lambda: [blob] if code.digest in self._functions else [])

    def _look_at_outcome(self, outcome: Outcome) -> None:
        if isinstance(outcome.payload, Blob):
            blob = outcome.payload
            self._look_at(blob, lambda: [blob for now in self._reader.outcomes_of([outcome.id]) if now == outcome])

    def _look_at(self, blob: Blob, now: Callable[[], list[Blob]]) -> None:
        self._payloads.read += 1
        if not self._is_whole(blob):
            if len(self._suspects) < NAMED_MAX:
                self._suspects.append((blob, now))
            else:
                self._payloads.add_damaged(blob.key)

    def _is_whole(self, blob: Blob) -> bool:
        try:
            return self._reader.read_blob(blob) is not None
        except StoreDamaged:
            return False

    def _look_again(self) -> None:
        if self._suspects:
            self._arguments = new_arguments(self._reader)
            self._reader.seqs()  # which looks up what is finished
            self._functions = {digest for chunk in self._reader.functions() for digest, _ in chunk}
        for blob, now in self._suspects:
            if blob in now() and not self._is_whole(blob):
                self._payloads.add_damaged(blob.key)
        self._told("payloads", self._payloads.read)
