"""Journals of routers that are lost, on their way into the journal of one that is not."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from mesh.errors import StoreDamaged
from mesh.model import NodeInfo, TaskMark
from mesh.store.base import StoredBatch
from mesh.store.reading import cut
from mesh.store.redis import scripts
from mesh.store.redis.journal import FORGET_S, Journal, is_disconnected
from mesh.store.redis.kinds import FORMAT
from mesh.store.redis.link import Value, as_text
from mesh.store.redis.rows import Rows
from mesh.store.shared import ClaimedJournal, ClaimedSchedules, Handover

log = logging.getLogger("mesh.store")

SAY_S = 60.0  # between two lines about what others did to the list of routers and to journals

_SEQ = re.compile(rb"[1-9][0-9]{0,15}")

T = TypeVar("T")


class Adoption:
    """Into this journal, whose rows are ``rows``."""

    def __init__(self, journal: Journal, row_key: bytes, rows: Rows) -> None:
        self._journal = journal
        self._link = journal.link
        self._base = journal.base
        self._id = journal.router_id
        self._row_key = row_key
        self._rows = rows
        self.claimed: dict[str, None] = {}  # routers whose journals are being moved
        self._disconnected: dict[str, bytes] = {}  # what those wrote into their locks that are not there any more
        self._said = ""  # of what others did to the list of routers and to journals
        self._say_at = 0.0

    def keep(self) -> dict[str, float]:
        """Renew the locks; the routers whose journals nobody has, or nobody has soon: in how many seconds."""
        _, silent, odd, strange, is_back = self._journal.keep(list(self.claimed))
        alone = odd_journals(list(map(as_text, odd)), int(strange))
        words = [f"{alone}; left alone"] if alone else []
        words += ["the list of routers had lost this one, and has it again"] if is_back else []
        self._say("; ".join(words))
        self._disconnected.clear()
        missing: dict[str, float] = {}
        for name, left_ms, held in silent:
            router_id, left = as_text(name), int(left_ms)
            if held and is_disconnected(self._link, held):
                self._disconnected[router_id] = held
                left = max(0, left - self._journal.lock_ms // 2)
            missing[router_id] = left / 1000
        return missing

    def _say(self, found: str) -> None:
        if found != self._said and (not found or time.monotonic() >= self._say_at):
            self._said = found
            if found:
                self._say_at = time.monotonic() + SAY_S
                log.error("%s: %s", self._base, found)

    def claim(self, router_id: str) -> ClaimedJournal | None:
        """Take a journal that nobody has; not one that makes no sense, of which ``keep`` speaks."""
        taken_from = self._disconnected.get(router_id, b"")
        as_ours = (self._journal.lock_ms, self._journal.holder, FORMAT, taken_from)
        word, *values = self._journal.do(scripts.CLAIM, self._id, router_id, *as_ours)
        if word in ("held", "odd"):
            return None
        boot, stored, uses = values
        there = f"{self._base}r:{router_id}:"
        fields: list[bytes] = self._link.command("HKEYS", f"{there}journal")
        seqs = sorted(int(field) for field in fields if _SEQ.fullmatch(field))
        if alien := [field for field in fields if not _SEQ.fullmatch(field)]:
            log.error("%sjournal: %d rows that no router wrote, set aside under :damaged", there, len(alien))
            self._set_aside(router_id, alien)
        if len(seqs) != int(stored):
            log.error("%sjournal: %d batches where %d were written; the rest is adopted", there, len(seqs), int(stored))
        functions = {as_text(digest): float(used_at) for digest, used_at in zip(uses[::2], uses[1::2])}
        journal = ClaimedJournal(router_id, int(boot), seqs, self._nodes(router_id), functions)
        self.claimed[router_id] = None  # now, for until then a failure is as if it had not been claimed
        return journal

    def _set_aside(self, router_id: str, fields: Sequence[Value]) -> None:
        for some in cut(fields):
            self._journal.do(scripts.ASIDE, router_id, *some)

    def _nodes(self, router_id: str) -> list[NodeInfo]:
        return self._all(router_id, "nodes", Rows(self._row_key, router_id).read_node)

    def schedules(self, journal: ClaimedJournal) -> ClaimedSchedules:
        """Its periodic tasks, as far as a router wrote them."""
        rows, there = Rows(self._row_key, journal.router_id), journal.router_id
        apps = dict(self._all(there, "apps", rows.read_app))
        entries = self._all(there, "schedules", rows.read_entry)
        return ClaimedSchedules(apps, entries, self._all(there, "positions", rows.read_position))

    def _all(self, router_id: str, place: str, read: Callable[[bytes, bytes], T | None]) -> list[T]:
        """What is in these rows of a router; those that no router wrote are left out."""
        key = f"{self._base}r:{router_id}:{place}"
        found: dict[bytes, T] = {}
        for some in self._link.scan(key):
            for name, row in some.items():
                one = read(name, row)
                if one is None:
                    log.error("%s: the row of %r is not what a router wrote; it is left out", key, name)
                else:
                    found[name] = one
        return list(found.values())

    def read(self, journal: ClaimedJournal, seqs: Sequence[int]) -> list[StoredBatch]:
        """Those of these batches that are left; what no router wrote is set aside."""
        if not seqs:
            return []
        there = f"{self._base}r:{journal.router_id}:"
        rows = Rows(self._row_key, journal.router_id)
        found, *settled = self._link.commands(
            [("HMGET", f"{there}journal", *seqs), *(("SMEMBERS", f"{there}settled:{seq}") for seq in seqs)]
        )
        batches: list[StoredBatch] = []
        for seq, row, finished in zip(seqs, found, settled):
            if row is None:
                continue
            ids, damaged = rows.read_settled(seq, finished)
            if damaged:
                log.error("%ssettled:%d: %d rows that no router wrote; they are left out", there, seq, len(damaged))
            read = rows.read_batch(b"%d" % seq, row)
            if read is None:
                log.error("%sjournal: batch %d is not what a router wrote, and set aside under :damaged", there, seq)
                self._set_aside(journal.router_id, [seq])
            else:
                batches.append(StoredBatch(seq, read[2], read[1], ids))
        return batches

    def finished(self, ids: Sequence[str]) -> list[str]:
        """Those of these tasks that have an outcome, by whichever router."""
        return list(map(as_text, self._link.script(scripts.FIND, [f"{self._base}outcomes"], ids)[1])) if ids else []

    def elsewhere(self, ids: Sequence[str]) -> list[str]:
        """Those of these tasks that another router has adopted, and not finished."""
        if not ids:
            return []
        key = f"{self._base}adopted"
        found: list[str] = []
        for task_id, row in zip(ids, self._link.command("HMGET", key, *ids)):
            if row is None:
                continue
            router = self._rows.read_adopted(task_id, row)
            if router is None:
                log.error("%s: that task %r is adopted no router wrote; it counts as nothing, and goes", key, task_id)
                self._link.command("HDEL", key, task_id)
            elif router != self._id:
                found.append(task_id)
        return found

    def marks(self, journal: ClaimedJournal, ids: Sequence[str]) -> list[TaskMark]:
        """What is remembered of these tasks."""
        key = f"{self._base}r:{journal.router_id}:marks"
        if not ids or not self._link.command("EXISTS", key):
            return []
        rows = Rows(self._row_key, journal.router_id)
        found: list[TaskMark] = []
        for task_id, row in zip(ids, self._link.command("HMGET", key, *ids)):
            mark = None if row is None else rows.read_mark(task_id.encode(), row)
            if mark is not None:
                found.append(mark)
            elif row is not None:
                log.error("%s: the mark of task %s is not what a router wrote; it is left out", key, task_id)
        return found

    def move(self, journal: ClaimedJournal, moves: Sequence[Handover]) -> None:
        """Make these batches ours."""
        args: list[Value] = [len(moves)]
        for one in moves:
            args += (one.seq, one.to, self._rows.batch(one.to, one.accepted_at, one.raw) if one.ids else b"")
        marks = [mark for one in moves for mark in one.marks]
        args.append(len(marks))
        for mark in marks:
            args += (mark.id, self._rows.mark(mark))
        ids = [task_id for one in moves for task_id in one.ids]
        args.append(len(ids))
        for task_id in ids:
            args += (task_id, self._rows.adopted(task_id))
        for keys in ([b.key for one in moves for b in one.blobs], [b.key for one in moves for b in one.unneeded]):
            args += (len(keys), *keys)
        word, *why = self._journal.do(scripts.MOVE, self._id, journal.router_id, *args)
        if word == "odd":
            raise self._damaged(journal, why[0])

    def leave(self, journal: ClaimedJournal) -> None:
        """Nothing is left in it."""
        word, *why = self._journal.do(scripts.LEAVE, journal.router_id, int(FORGET_S * 1000))
        if word == "odd":
            raise self._damaged(journal, why[0])
        if word == "more":
            raise self._damaged(journal, b"batches have come since it was claimed, and no router wrote them")
        self.let_go(journal)

    def let_go(self, journal: ClaimedJournal) -> None:
        """Keep it no more, whatever is left in it."""
        self.claimed.pop(journal.router_id, None)

    def _damaged(self, journal: ClaimedJournal, why: bytes) -> StoreDamaged:
        return StoreDamaged(f"{self._base}r:{journal.router_id}: {as_text(why)}")


def odd_journals(odd: Sequence[str], strange: int) -> str:
    """What scripts found that no router wrote, in words; empty where there is nothing."""
    found = [f"journals that make no sense: {', '.join(odd)}"] if odd else []
    found += [f"names in the list of routers that are none: {strange}"] if strange else []
    return "; ".join(found)
