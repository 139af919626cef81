"""A store at the other end of a wire: away for a while, and then a commit may be done although nobody is told so."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from mesh.core.commands import Record
from mesh.errors import StoreFull, StoreUnavailable
from mesh.model import Blob, Buffer, FunctionCode, Outcome
from mesh.store.base import Recovered, StoreUsage
from mesh.store.memory import MemoryStore


class RemoteStore:
    """How one life of a router sees ``store``, which stays; ``is_away`` is looked at before each call."""

    depot: Path | None = None
    router_id: str | None = None
    salvaged: Sequence[str] = ()

    def __init__(self, store: MemoryStore, seed: int) -> None:
        self._store = store
        self._rng = random.Random(seed)
        self._unsure: tuple[list[Record], bool] | None = None  # what was not answered, and whether it was done
        self.level, self.url = store.level, store.url
        self.is_away = False

    def _reach(self) -> None:
        if self.is_away:
            raise StoreUnavailable("no answer")

    def commit(self, records: Sequence[Record], held_back: Collection[str] = ()) -> None:
        """As a store must that cannot know what became of a commit: done once, and before any other."""
        if self._unsure is not None:
            assert list(records) == self._unsure[0], "a commit that may have been done is repeated before any other"
        done = self._unsure is not None and self._unsure[1]
        if self.is_away:
            if not done and self._store.room() and self._rng.random() < 0.5:
                with suppress(StoreFull):  # nobody is told that either
                    self._store.commit(records, held_back)
                    done = True
            self._unsure = (list(records), done)
            raise StoreUnavailable("no answer")
        if not done:
            self._unsure = None  # where there is no room, it was not done
            self._store.commit(records, held_back)
        self._unsure = None

    def outcomes(self, ids: Sequence[str]) -> list[Outcome]:
        self._reach()
        return self._store.outcomes(ids)

    def function(self, digest: str) -> FunctionCode | None:
        self._reach()
        return self._store.function(digest)

    def put_blob(self, blob: Blob, parts: Iterable[Buffer]) -> bool:
        self._reach()
        return self._store.put_blob(blob, parts)

    def read_blob(self, blob: Blob) -> Sequence[bytes | memoryview] | None:
        self._reach()
        return self._store.read_blob(blob)

    def take_back_blob(self, blob: Blob) -> bool:
        return self._store.take_back_blob(blob)

    def adopt_blob(self, blob: Blob) -> bool:
        return self._store.adopt_blob(blob)

    def discard_blob(self, blob: Blob) -> None:
        self._store.discard_blob(blob)

    def recover(self) -> Recovered:
        return self._store.recover()

    def prune(self, now: float, limit: int) -> int:
        self._reach()
        return self._store.prune(now, limit)

    def usage(self) -> StoreUsage:
        self._reach()
        return self._store.usage()

    def close(self) -> None:
        self._store.close()
