"""Writes all that a router has in memory into a store that lost it, some of it at a time.

While it does, nothing new is accepted or told, as while the store is away; what happens meanwhile is recorded as ever
and committed after it. So whatever was written of a task that has changed since is made right by that.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from mesh.core.commands import Record, SaveFunction
from mesh.core.router import RouterMachine
from mesh.runtime.waiting import weight
from mesh.store.shared import SharedStore

log = logging.getLogger("mesh.router")

BYTES_AT_ONCE = 512 * 1024  # about, in one commit: a server answers one question at a time


class Rewriting:
    """Begins at once. ``waiting``: the records that are committed after it.

    Raises ``StoreUnavailable``, and ``StoreLost`` where another router has the journal.
    """

    def __init__(self, machine: RouterMachine, store: SharedStore, waiting: Sequence[Record]) -> None:
        why = store.set_back
        self._store = store
        functions = machine.table.functions
        there = store.begin_anew(machine.table.last_seq, list(functions.kept))
        about_to_be = {record.code.digest for record in waiting if isinstance(record, SaveFunction)}
        lost = functions.kept.keys() - about_to_be - set(there)
        for digest in lost:
            functions.lose(digest)
        self._left = machine.contents()
        self._part: list[Record] = []
        log.error(
            "%s. All that is unfinished is in memory and is written there anew: %d tasks, %d entries of periodic "
            "tasks. Results that were stored since are gone, who asks for one is told that nobody knows it; %d "
            "shipped functions are gone, clients send them again",
            why,
            len(machine.table.tasks),
            len(machine.periodic.book.entries),
            len(lost),
        )

    def go_on(self) -> bool:
        """Write some more; whether that was all. Raises ``StoreUnavailable``: call it again."""
        if not self._part:
            self._part = self._take()
        if self._part:
            self._store.commit(self._part)
            self._part = []
            return False
        log.warning("%s: all that is unfinished is written anew", self._store.url)
        return True

    def _take(self) -> list[Record]:
        part: list[Record] = []
        left = BYTES_AT_ONCE
        for record in self._left:
            part.append(record)
            left -= weight(record)[1]
            if left <= 0:
                break
        return part
