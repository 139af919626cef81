"""What tasks ended with, by whichever router: these rows are there for all."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from mesh.errors import RowDamaged
from mesh.model import Outcome
from mesh.store.reading import cut
from mesh.store.redis.link import Link
from mesh.store.redis.rows import Rows

log = logging.getLogger("mesh.store")


class Outcomes:
    """Of the mesh whose keys begin with ``base``."""

    def __init__(self, link: Link, base: str, rows: Rows) -> None:
        self._link = link
        self._place = f"{base}outcomes"
        self._rows = rows

    def of(self, ids: Sequence[str]) -> list[Outcome]:
        """The outcomes there are of these ids. Raises ``RowDamaged`` naming the id."""
        where = f"{self._link.name} key {self._place}"
        found: list[Outcome] = []
        for some in cut(list(dict.fromkeys(ids))):
            rows = self._link.command("HMGET", self._place, *some)
            found += [self._rows.read_outcome(i, row, where) for i, row in zip(some, rows) if row is not None]
        return found

    def first_of(self, ids: Sequence[str]) -> list[Outcome]:
        """Whichever outcomes these tasks have now, but for those that cannot be read: who asks is told."""
        found: list[Outcome] = []
        for some in cut(ids):
            try:
                found += self.of(some)
            except RowDamaged:
                for task_id in some:
                    try:
                        found += self.of([task_id])
                    except RowDamaged as damaged:
                        log.error("%s", damaged)
        return found
