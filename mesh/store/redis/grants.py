"""Due times that the store grants to one router, and to no other."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from mesh.core.commands import DueSpan
from mesh.core.events import DueGrant
from mesh.store.redis import scripts
from mesh.store.redis.journal import Journal
from mesh.store.redis.rows import Rows, due_field

log = logging.getLogger("mesh.store")

_FORGED_MAX = 3  # rows of due times that no router wrote, one after the other, in the way of one bid


class Grants:
    """To the router that has this journal."""

    def __init__(self, journal: Journal, rows: Rows) -> None:
        self._journal = journal
        self._rows = rows

    def grant(self, number: int, spans: Sequence[DueSpan]) -> list[DueGrant]:
        """Let this router, and no other, fire these due times, by its bid ``number``."""
        fields = list(map(due_field, spans))
        rows = [self._rows.due(span, number) for span in spans]
        damaged = [b""] * len(spans)
        for _ in range(_FORGED_MAX):
            each = zip(fields, spans, rows, damaged)
            args = [value for field, span, row, bad in each for value in (field, span.first_us, row, bad)]
            _, *answers = self._journal.do(scripts.GRANT, self._journal.router_id, number, *args)
            grants: list[DueGrant] = []
            for place, (word, found) in enumerate(zip(answers[::2], answers[1::2])):
                grants.append(self._read(fields[place], word, found))
                if found and self._rows.read_due(fields[place], found) is None:
                    damaged[place] = found
            if all(grant.is_granted or not bad for grant, bad in zip(grants, damaged)):
                break
        return grants

    def _read(self, field: str, word: bytes, found: bytes) -> DueGrant:
        """What a script says that does not know who wrote a row; by one that no router wrote nothing is refused."""
        read = self._rows.read_due(field, found) if found else None
        if found and read is None:
            where = f"{self._journal.link.name} key {self._journal.base}dues"
            log.error("%s: %r is not what a router wrote; it counts as nothing", where, field)
        if word == b"granted":
            return DueGrant(True)
        if word == b"held" or read is None:
            return DueGrant(False)
        bid, first_us, last_us = read
        return DueGrant(False, first_us - 1 if bid else last_us)
