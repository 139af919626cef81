"""Commits of one router, each one script that is done once, also where its answer does not come."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mesh.core.commands import Record, RecordOutcomes
from mesh.errors import StoreDamaged, StoreError, StoreFull
from mesh.model import Outcome
from mesh.store.redis import scripts
from mesh.store.redis.journal import Journal
from mesh.store.redis.link import Value, as_text
from mesh.store.redis.outcomes import Outcomes
from mesh.store.redis.payloads import Payloads
from mesh.store.redis.prepared import Prepared, prepare
from mesh.store.redis.rows import Rows

_AHEAD_MAX = 10  # tries of a commit whose number was taken: each by one that came late


class Commits:
    """Into this journal. ``use`` says with which rows before the first."""

    _rows: Rows
    _payloads: Payloads
    _outcomes: Outcomes

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._serial = 0  # of commits, tried or done
        self._unsure: tuple[Prepared, list[Record]] | None = None  # a commit whose answer did not come

    def use(self, rows: Rows, payloads: Payloads, outcomes: Outcomes) -> None:
        """From now on, these: the row key is another."""
        self._rows, self._payloads, self._outcomes = rows, payloads, outcomes

    def commit(self, records: Sequence[Record], held_back: Collection[str]) -> list[Outcome]:
        """Write all records, or none; the outcomes that other routers had recorded before of the same tasks."""
        if (earlier := self.settle_unsure(records)) is not None:
            return earlier
        put, removed = self._payloads.to_commit(held_back)
        if not records and not put:
            return []
        self._serial += 1
        serial = f"{self._journal.epoch}.{self._serial}"
        number, last_seq = self._journal.commits + 1, self._journal.last_seq
        prepared = prepare(records, self._rows, serial, number, last_seq, put, removed)
        self._unsure = (prepared, list(records))
        found = self._do(prepared)
        return self._differing(records) if found is None else self._outcomes.first_of(found)

    def settle_unsure(self, records: Sequence[Record] = ()) -> list[Outcome] | None:
        """Make sure of the commit whose answer did not come; what it returns where that was of these records."""
        if self._unsure is None:
            return None
        prepared, unsure = self._unsure
        self._do(prepared)
        return self._differing(unsure) if list(records) == unsure else None

    def give_up_unsure(self) -> None:
        """The journal begins anew, and that commit is none of it."""
        self._unsure = None

    def _differing(self, records: Sequence[Record]) -> list[Outcome]:
        """What these tasks ended with, where that is not what the records say."""
        outcomes = {o.id: o for record in records if isinstance(record, RecordOutcomes) for o in record.outcomes}
        return [first for first in self._outcomes.first_of(list(outcomes)) if first != outcomes[first.id]]

    def _do(self, prepared: Prepared) -> list[str] | None:
        """The tasks that other routers had finished before; None where the server had done it already."""
        journal = self._journal
        for _ in range(_AHEAD_MAX):
            try:
                word, *values = journal.do(scripts.COMMIT, *self._arguments(prepared))
            except StoreFull:
                self._unsure = None  # nothing was written, and what comes next may be less
                raise
            if word == "behind":
                raise journal.miss(f"commit {int(values[0])}")
            if word == "ahead":
                journal.commits = int(values[0])
            else:
                break
            prepared.number = journal.commits + 1
        else:
            where = f"{journal.link.name} key {journal.meta}"
            raise StoreDamaged(f"{where}: field commits grows by itself: who else writes there?")
        self._unsure = None
        if word == "there":
            raise StoreError(f"{journal.link.name}: journal row {as_text(values[0])} is there already")
        journal.commits = prepared.number
        journal.last_seq = prepared.last_seq
        self._payloads.committed(prepared.put, prepared.removed)
        return [as_text(task_id) for task_id in values[0]] if values else None

    def _arguments(self, prepared: Prepared) -> list[Value]:
        return [
            prepared.number,
            self._journal.lock_ms,
            self._journal.holder,
            int(prepared.grows),
            prepared.last_seq,
            self._journal.router_id,
            prepared.serial,
            len(prepared.batches) // 2,
            *prepared.batches,
            *prepared.operations,
        ]
