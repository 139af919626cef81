"""Which shipped functions a router keeps: those that open batches name, and those that were used not long ago.

A function is written down with the moment of its last use, and looked at again ``ttl_s`` later: if a batch has named it
meanwhile, or is open and needs it, that is written down as a use, else it goes. So a batch costs a look into a set, a
function a small row in each ``ttl_s``, and one that is used stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from mesh.clock import Now
from mesh.core.commands import DropFunctions, KeepFunctions, Record, SaveFunction
from mesh.core.ledger import Ledger
from mesh.model import FunctionCode, TaskOptions

PRUNED_AT_ONCE = 1_000  # functions looked at in one go


class ShippedFunctions:
    """``kept``: the digests the store has, each with its last use as it was written down, oldest first."""

    def __init__(self, ledger: Ledger, ttl_s: float) -> None:
        self._ledger = ledger
        self._ttl_s = ttl_s
        self.kept: dict[str, float] = {}
        self._used: set[str] = set()  # of those: named since
        self._needed: dict[str, int] = {}  # by how many open batches

    def restore(self, kept: Mapping[str, float]) -> None:
        """Begin with what the store has, the oldest first."""
        self.kept.update(kept)

    def adopt(self, kept: Mapping[str, float]) -> None:
        """Batches that may name these are about to come: they stay for one more round."""
        if kept:
            self.kept = dict(sorted({**kept, **self.kept}.items(), key=lambda use: use[1]))
            self._used.update(kept)

    def put(self, code: FunctionCode, now: Now) -> None:
        """Keep a function that a client sent."""
        self.kept.pop(code.digest, None)
        self.kept[code.digest] = now.wall
        self._ledger.functions.append(SaveFunction(code, now.wall))

    def missing(self, options: Sequence[TaskOptions]) -> str | None:
        """A function that a batch with these options needs and that is not here."""
        for one in options:
            if one.function is not None and one.function not in self.kept:
                return one.function
        return None

    def use(self, options: Sequence[TaskOptions]) -> tuple[str, ...]:
        """A batch with these options is open; what to ``release`` when it no longer is."""
        named = {one.function: None for one in options if one.function is not None}
        for digest in named:
            self._used.add(digest)
            self._needed[digest] = self._needed.get(digest, 0) + 1
        return tuple(named)

    def release(self, digests: Iterable[str]) -> None:
        """A batch that needed these is finished."""
        for digest in digests:
            self._needed[digest] -= 1
            if not self._needed[digest]:
                del self._needed[digest]

    def lose(self, digest: str) -> None:
        """The store cannot read it: who needs it shall send it again."""
        self.kept.pop(digest, None)
        self._used.discard(digest)

    def contents(self) -> Iterator[Record]:
        """When each was last used."""
        return (KeepFunctions([digest], used_at) for digest, used_at in list(self.kept.items()))

    def prune(self, now: Now) -> None:
        """Let some of those go whose time is over."""
        if not self.kept or next(iter(self.kept.values())) + self._ttl_s > now.wall:
            return
        again: list[str] = []
        gone: list[str] = []
        for digest, used_at in list(islice(self.kept.items(), PRUNED_AT_ONCE)):
            if used_at + self._ttl_s > now.wall:
                break
            del self.kept[digest]
            if digest in self._used or digest in self._needed:
                self.kept[digest] = now.wall
                again.append(digest)
            else:
                gone.append(digest)
            self._used.discard(digest)
        if again:
            self._ledger.functions.append(KeepFunctions(again, now.wall))
        if gone:
            self._ledger.functions.append(DropFunctions(gone))

    def check(self, open_batches: Iterable[Sequence[str]]) -> None:
        """Raise ``AssertionError`` unless these are what the open batches need."""
        needed: dict[str, int] = {}
        for digests in open_batches:
            for digest in digests:
                needed[digest] = needed.get(digest, 0) + 1
        assert needed == self._needed, "functions of open batches miscounted"
