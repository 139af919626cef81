"""The store on a Redis server.

All keys of a mesh begin with ``taskmesh:{mesh}:`` and so lie in one slot of a cluster: a commit is one script and one
round trip. Outcomes and functions are there for all routers, the rest is of one router each, below ``r:<router id>:``.

    keys         key id → the key of the rows, sealed with that mesh key
    outcomes     task id → row                     expiries   when each may go, in order
    functions    digest → row                      users      how many routers keep each
    blob_at      key → the router that has the large payload
    names        what the id of a name stands for: a router that was moved here, and stays who it was
    adopted      task id → row: the router that has adopted it, and not finished it
    dues         due:ENTRY, queued:ENTRY → which due times were granted last to which router, and whether they are fired
    routers      whose journals there are
    r:ID:meta    format, owner, epoch; boot, booted_by: how many starts, and which was the last; commits, serial: how
                 many, and which was the last; seq, batches; adopter: who moves them into its own journal; bid: the last
                 for due times; merged: its periodic tasks are those of an adopter, too; name: by which it is asked for
    r:ID:lock    who has the journal; runs out unless renewed
    r:ID:journal, marks, nodes, functions (when each was last used), schedules, positions, apps
    r:ID:settled:SEQ   rows that say which tasks of an open batch are finished, one of each commit
    r:ID:early   batches that tasks were settled of before they were written
    r:ID:held:SEQ      outcomes that an open batch keeps from expiring
    r:ID:moved   where the journal went, or what has not all come here yet
    r:ID:b:KEY, s:KEY  a large payload; one that no commit followed yet (``staged`` has their keys)
    *:damaged, *:damaged:MS   rows, or a whole key, that no router wrote, set aside for people

A router that ended and left nothing that others adopt is in ``routers`` no more, and its ``meta`` goes after
``FORGET_S``; so do the periodic tasks that an adopter has merged.

Every script that writes is *fenced*: it does nothing for who has the journal no more. These are not, and do no harm:
``s:KEY``, for no commit of his follows and the next start of that journal removes it; rows that a start reads as
damaged and sets aside, for they are no router's; ``adopted`` of what no router signed, for it counts as nothing;
``name``, which is written where the journal was just taken and is the same whoever writes it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from mesh.core.commands import DueSpan, Record
from mesh.core.events import DueGrant
from mesh.errors import ConfigError, StoreDamaged, StoreError, StoreUnavailable
from mesh.model import Blob, Buffer, FunctionCode, Outcome, TaskMark
from mesh.store.base import Recovered, StoredBatch, StoreUsage
from mesh.store.moved import Move, read_move, refuse_moved
from mesh.store.reading import CHUNK, cut
from mesh.store.redis import scripts
from mesh.store.redis.address import parse_address
from mesh.store.redis.adoption import Adoption
from mesh.store.redis.commits import Commits
from mesh.store.redis.durability import look_up
from mesh.store.redis.grants import Grants
from mesh.store.redis.journal import Journal
from mesh.store.redis.kinds import WAY_OUT
from mesh.store.redis.link import Link, as_text
from mesh.store.redis.naming import id_of, keep_name, name_of, refuse_another, router_at
from mesh.store.redis.outcomes import Outcomes
from mesh.store.redis.payloads import Payloads
from mesh.store.redis.recovery import Recovery
from mesh.store.redis.rights import ask_for_rights
from mesh.store.redis.row_key import RowKey
from mesh.store.redis.rows import Rows
from mesh.store.redis.salvage import Salvage
from mesh.store.redis.sealing import StoreKeys
from mesh.store.shared import ClaimedJournal, ClaimedSchedules, Handover

log = logging.getLogger("mesh.store")


class RedisStore:
    """``router_id`` names the journal; ``salvaged`` has a line for each thing given up with ``salvage``.

    Opening raises ``ConfigError``, ``StoreUnavailable``, ``StoreDamaged``, and ``StoreLocked`` while another process
    has the journal: one that was killed is noticed at once on its own host, elsewhere after half of ``lock_s``.
    """

    depot: Path | None = None

    def __init__(
        self,
        url: str,
        *,
        mesh: str,
        keys: Callable[[], StoreKeys],
        timeout_s: float = 2.0,
        lock_s: float = 4.0,
        login_wait_s: float = 60.0,
        salvage: bool = False,
        force: bool = False,
        moving: bool = False,
        becomes: str | None = None,
    ) -> None:
        address = parse_address(url)
        self.url = address.name
        self._keys = keys
        self._base = f"{address.prefix}:{{{mesh}}}:"
        self._link = Link(address, timeout_s, login_wait_s=login_wait_s)
        self._salvage = Salvage(self._link, self._base, self._keep_by_and_by) if salvage else None
        self.salvaged = self._salvage.lines if self._salvage else []
        try:
            ask_for_rights(self._link, self._base)
            self._free_bytes()  # what it may not do it learns here, and not when it runs
            if self._salvage:  # before they are read, which is before any script
                self._salvage.set_aside_keys([f"{self._base}keys", f"{self._base}names"], b"hash")
            self._name = name_of(address)
            router_id = router_at(self._link, self._base, address, becomes)
            self.router_id: str | None = router_id
            self.durability = look_up(self._link)
            self.level = self.durability.level
            self._journal = Journal(
                self._link,
                self._base,
                router_id,
                lock_s=lock_s,
                salvage=self._salvage,
                moving=moving,
                promise=self.durability.promise,
            )
            self._commits = Commits(self._journal)
            self._row_key = RowKey(self._link, self._base, self._journal.meta)
            self._open(becomes)
        except BaseException:
            self._link.close()
            raise
        try:
            if not moving:
                self._refuse_moved(force)
            self._link.proven = True
        except BaseException:
            self.close()
            raise

    def _open(self, becomes: str | None) -> None:
        self._row_key.find(self._keys)
        self._use_row_key()
        self._is_made_here = becomes is not None and refuse_another(
            self._link, self._base, self._journal.router_id, becomes, self._rows
        )
        self._journal.name_connection()
        self._journal.acquire()
        self._keep_name()
        log.info("%s: %s", self.url, self.durability.promise)
        if self.durability.warning:
            log.warning("%s: %s", self.url, self.durability.warning)

    def _use_row_key(self) -> None:
        self._rows = Rows(self._row_key.value, self._journal.router_id)
        self._payloads = Payloads(self._link, self._rows.blobs, self._base, self._journal.mine)
        self._outcomes = Outcomes(self._link, self._base, self._rows)
        self._commits.use(self._rows, self._payloads, self._outcomes)
        self._adoption = Adoption(self._journal, self._row_key.value, self._rows)
        self._grants = Grants(self._journal, self._rows)

    def _keep_name(self) -> None:
        keep_name(self._link, self._base, self._journal.router_id, self._name, self._rows)

    # moving elsewhere

    def _refuse_moved(self, force: bool) -> None:
        """Raise ``StoreMoved`` where the journal is in another store now, or has not all arrived in this one."""
        place = f"{self._journal.mine}moved"
        found = self._link.command("GET", place)
        move = None if found is None else self._read_move(found, place)
        if refuse_moved(move, self.url, force=force):
            self.note_move(None)

    def _read_move(self, found: bytes, place: str) -> Move | None:
        try:
            return read_move(found, f"{self.url} key {place}")
        except StoreError as error:
            if not self._salvage:
                raise StoreDamaged(f"{error}; {WAY_OUT}") from error
            self._salvage.set_aside(place, str(error))
            return None

    def note_move(self, move: Move | None) -> None:
        """Write down that the journal moves, or take that back."""
        place = f"{self._journal.mine}moved"
        self._link.command(*(("DEL", place) if move is None else ("SET", place, move.text)))

    def become(self, router_id: str) -> None:
        """Raise ``ConfigError`` unless this is the journal of this router: opening made it so, where that could be."""
        ours = self._journal.router_id
        if router_id != ours:
            raise ConfigError(f"{self.url}: that is the journal of router {ours}: give TO another ?router=NAME")

    def empty(self) -> None:
        """Begin without anything in the journal. Outcomes stay."""
        self.begin_anew(0, [])

    def count_on(self, boot: int) -> None:
        """Go on counting starts from ``boot``."""
        self._link.command("HSET", self._journal.meta, "boot", boot)

    # a server that lost what it had

    @property
    def set_back(self) -> str:
        """Why the server has less than it had acknowledged; empty where it does not."""
        return self._journal.set_back

    def begin_anew(self, last_seq: int, functions: Sequence[str]) -> list[str]:
        """Make the journal this router's again, and empty; those of the functions that are there."""
        try:
            is_another = self._row_key.find(self._keys)
        except ConfigError as error:  # who emptied the server, or is at work on the key file, may mend it
            raise StoreUnavailable(str(error)) from error
        if is_another:
            self._use_row_key()
        self._adoption.claimed.clear()
        self._journal.take_anew(last_seq)
        there: list[str] = []
        for some in cut(functions, 10 * CHUNK):
            there += map(as_text, self._link.script(scripts.FIND, [f"{self._base}functions"], some)[1])
        self._keep_name()
        self._commits.give_up_unsure()
        self._journal.taken_anew(last_seq)
        return there

    # starting and writing

    def recover(self) -> Recovered:
        """Read what is unfinished and count this start. Raises ``StoreDamaged`` naming the rows."""
        self._commits.settle_unsure()
        stored = self._journal.begin_life()
        self._payloads.forget_new()
        return Recovery(self._journal, self._rows, self._salvage, self._keep_by_and_by).read(stored)

    def commit(self, records: Sequence[Record], held_back: Collection[str] = ()) -> list[Outcome]:
        """Write all records by one script, or none. Raises ``StoreUnavailable``, ``StoreFull``, ``StoreLost``.

        Returns the outcomes that other routers had recorded before of the same tasks.
        """
        return self._commits.commit(records, held_back)

    # reading

    def outcomes(self, ids: Sequence[str]) -> list[Outcome]:
        """The outcomes there are of these ids. Raises ``RowDamaged`` naming the id."""
        return self._outcomes.of(ids)

    def function(self, digest: str) -> FunctionCode | None:
        """A shipped function, or None. Raises ``RowDamaged``."""
        place = f"{self._base}functions"
        row = self._link.command("HGET", place, digest)
        return None if row is None else self._rows.read_function(digest, row, f"{self.url} key {place}")

    # large payloads

    def put_blob(self, blob: Blob, parts: Iterable[Buffer]) -> bool:
        """Write a large payload, unless this router has committed one of its key; whether there was none yet.

        Raises ``StoreError`` when the parts are not of its size.
        """
        return self._payloads.put(blob, parts)

    def take_back_blob(self, blob: Blob) -> bool:
        """Forget a payload that was put since the last commit; whether it was. It goes with the next one."""
        return self._payloads.take_back(blob.key)

    def adopt_blob(self, blob: Blob) -> bool:
        """Raise ``LookupError``: there is no depot to leave files in."""
        raise LookupError(f"{self.url} has no depot: blob {blob.key} must be sent")

    def discard_blob(self, blob: Blob) -> None:
        """There is no depot."""

    def read_blob(self, blob: Blob) -> Sequence[bytes | memoryview] | None:
        """A large payload in parts, or None. Raises ``StoreDamaged``."""
        return self._payloads.read(blob)

    # journals of routers that are lost

    def keep(self) -> dict[str, float]:
        """Renew the lock; the routers whose journals nobody has, or nobody has soon, and that left something there."""
        return self._adoption.keep()

    def _keep_by_and_by(self) -> None:
        """A long start must not lose the lock meanwhile."""
        if self._journal.is_to_be_kept:
            self.keep()

    def claim(self, router_id: str) -> ClaimedJournal | None:
        """Take a journal that nobody has."""
        return self._adoption.claim(router_id)

    def read_claimed(self, journal: ClaimedJournal, seqs: Sequence[int]) -> list[StoredBatch]:
        """Those of these batches that are left."""
        return self._adoption.read(journal, seqs)

    def find(self, journal: ClaimedJournal, ids: Sequence[str]) -> tuple[list[Outcome], list[TaskMark]]:
        """Of tasks of that journal: outcomes that other routers wrote, and marks."""
        return self.finished(ids), self._adoption.marks(journal, ids)

    def finished(self, ids: Sequence[str]) -> list[Outcome]:
        """The outcomes there are of these tasks, by whichever router; cheap where there are none."""
        found: list[str] = []
        for some in cut(ids, 10 * CHUNK):
            self._keep_by_and_by()
            found += self._adoption.finished(some)
        return self._outcomes.first_of(found)

    def elsewhere(self, ids: Sequence[str]) -> list[str]:
        """Those of these that another router has adopted, and not finished."""
        return [task_id for some in cut(ids, 10 * CHUNK) for task_id in self._adoption.elsewhere(some)]

    def move(self, journal: ClaimedJournal, moves: Sequence[Handover]) -> None:
        """Make these batches ours, all or none."""
        self._adoption.move(journal, moves)

    def read_schedules(self, journal: ClaimedJournal) -> ClaimedSchedules:
        """Its periodic tasks."""
        return self._adoption.schedules(journal)

    def leave(self, journal: ClaimedJournal) -> None:
        """Nothing is left in it."""
        self._adoption.leave(journal)

    def let_go(self, journal: ClaimedJournal) -> None:
        """Keep it no more."""
        self._adoption.let_go(journal)

    # periodic tasks

    def grant_dues(self, number: int, spans: Sequence[DueSpan]) -> list[DueGrant]:
        """Let this router, and no other, fire these due times."""
        return self._grants.grant(number, spans)

    # keeping house

    def prune(self, now: float, limit: int) -> int:
        """Forget up to ``limit`` outcomes that expired before ``now``, whichever router wrote them."""
        return int(self._journal.do(scripts.PRUNE, repr(now), limit)[1])

    def usage(self) -> StoreUsage:
        """How full the server is; also renews the lock, and lets in who has a new key of the mesh."""
        outcomes, batches = self._journal.usage()
        if not self._row_key.look_again(self._keys):
            raise self._journal.miss("nothing")
        return StoreUsage(self._free_bytes(), outcomes, batches)

    def _free_bytes(self) -> int | None:
        if self._link.is_cluster:
            return None
        memory = self._link.command("INFO", "memory")
        most = int(memory.get("maxmemory", 0))
        return max(0, most - int(memory["used_memory"])) if most else None

    def close(self) -> None:
        """Let go of the journal, so that the next router need not wait for the lock to run out."""
        try:
            if self._is_made_here:
                self._journal.forget(id_of(self._name))
            self._journal.release()
        except StoreError as error:
            log.warning("the lock is left to run out: %s", error)
        self._link.close()
