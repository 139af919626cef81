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
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from hashlib import blake2b
from math import inf
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from msgspec.structs import replace

from mesh.core.commands import DueSpan, Record, RecordOutcomes
from mesh.core.events import DueGrant
from mesh.errors import (
    ConfigError,
    RowDamaged,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreLost,
    StoreUnavailable,
)
from mesh.model import Blob, Buffer, FunctionCode, NodeInfo, Outcome, TaskMark
from mesh.store.base import Recovered, StoredBatch, StoreUsage
from mesh.store.moved import Move, read_move, refuse_moved
from mesh.store.reading import CHUNK, cut
from mesh.store.redis import scripts
from mesh.store.redis.address import RedisAddress, parse_address
from mesh.store.redis.adoption import FORGET_S, Adoption, is_disconnected
from mesh.store.redis.durability import look_up
from mesh.store.redis.holder import default_router, is_gone, read_holder, this_holder
from mesh.store.redis.kinds import WAY_OUT, read_count, wrong_kind, wrong_number
from mesh.store.redis.link import Link, Value, as_text
from mesh.store.redis.payloads import Payloads
from mesh.store.redis.prepared import Prepared, prepare
from mesh.store.redis.rights import ask_for_rights
from mesh.store.redis.rows import Rows, due_field, is_router_id
from mesh.store.redis.salvage import Salvage, arguments
from mesh.store.redis.sealing import StoreKeys, find_row_key, new_row_key, seal
from mesh.store.shared import ClaimedJournal, ClaimedSchedules, Handover

log = logging.getLogger("mesh.store")

FORMAT = 2  # of keys and rows
_FORGED_MAX = 3  # rows of due times that no router wrote, one after the other, in the way of one bid
_NAMED = 10  # damaged rows named in one message
_AHEAD_MAX = 10  # tries of a commit whose number was taken: each by one that came late

T = TypeVar("T")


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
        self.set_back = ""
        self._moving = moving
        self._keys = keys
        self._keys_seen: list[str] = []
        self._serial = 0  # of commits, tried or done
        self._kept_at = time.monotonic()
        self._no_keys = ""  # why they could not be read
        self._lock_ms = int(lock_s * 1000)
        self._base = f"{address.prefix}:{{{mesh}}}:"
        self._holder = this_holder()
        self._link = Link(address, timeout_s, login_wait_s=login_wait_s)
        self._salvage = Salvage(self._link, self._base, self._keep_by_and_by) if salvage else None
        self.salvaged = self._salvage.lines if self._salvage else []
        try:
            ask_for_rights(self._link, self._base)
            self._free_bytes()  # what it may not do it learns here, and not when it runs
            if self._salvage:  # before they are read, which is before any script
                self._salvage.set_aside_keys([f"{self._base}keys", f"{self._base}names"], b"hash")
            self._name = name_of(address)
            self._becomes = becomes
            self._id = router_at(self._link, self._base, address, becomes)
            self.router_id: str | None = self._id
            self._mine = f"{self._base}r:{self._id}:"
            self._meta = f"{self._mine}meta"
            self._open()
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

    def _open(self) -> None:
        self.durability = look_up(self._link)
        self.level = self.durability.level
        self._use(self._row_key())
        self._is_made_here = self._becomes is not None and self._refuse_another(self._becomes)
        self._unsure: tuple[Prepared, list[Record]] | None = None  # a commit whose answer did not come
        self._name_connection()
        self._acquire()
        self._keep_name()
        log.info("%s: %s", self.url, self.durability.promise)
        if self.durability.warning:
            log.warning("%s: %s", self.url, self.durability.warning)

    def _use(self, row_key: bytes) -> None:
        self._seal = row_key
        self._rows = Rows(row_key, self._id)
        self._payloads = Payloads(self._link, self._rows.blobs, self._base, self._mine)
        self._adoption = Adoption(self._link, self._base, self._id, row_key, self._rows, self._owned)

    # moving elsewhere

    def _refuse_moved(self, force: bool) -> None:
        """Raise ``StoreMoved`` where the journal is in another store now, or has not all arrived in this one."""
        place = f"{self._mine}moved"
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
        place = f"{self._mine}moved"
        self._link.command(*(("DEL", place) if move is None else ("SET", place, move.text)))

    def _refuse_another(self, router_id: str) -> bool:
        """Raise ``ConfigError`` where the journal of this router is there under another name; whether none is here."""
        name, there = self._link.commands(
            [("HGET", f"{self._base}r:{router_id}:meta", "name"), ("EXISTS", f"{self._base}r:{router_id}:meta")]
        )
        if there and router_id != self._id:
            known = None if name is None else self._rows.read_name(router_id, name)
            raise ConfigError(
                f"{self.url}: router {router_id} has a journal there already, under another name: give TO "
                f"?router={quote(known or router_id, safe=':')}, or a ?prefix= of its own"
            )
        return not self._link.command("EXISTS", self._meta)

    def become(self, router_id: str) -> None:
        """Raise ``ConfigError`` unless this is the journal of this router: opening made it so, where that could be."""
        if router_id != self._id:
            raise ConfigError(f"{self.url}: that is the journal of router {self._id}: give TO another ?router=NAME")

    def empty(self) -> None:
        """Begin without anything in the journal. Outcomes stay."""
        self.begin_anew(0, [])

    def count_on(self, boot: int) -> None:
        """Go on counting starts from ``boot``."""
        self._link.command("HSET", self._meta, "boot", boot)

    # who may write

    def _keep_name(self) -> None:
        """For people: the name cannot be told from the id."""
        if self._name != self._id:  # it was asked for by that
            self._link.command("HSET", self._meta, "name", self._rows.name(self._name))

    def _row_key(self, known: bytes | None = None) -> bytes:
        """What the rows are signed with; ``known`` where the server has lost it, and no other router was faster."""
        place = f"{self._base}keys"
        sealed = self._sealed()
        keys = self._keys()
        if not keys:
            raise ConfigError(f"{self.url}: a store on Redis takes the whole key of the mesh")
        row_key = find_row_key(sealed, keys)
        if row_key is None:
            if not sealed and known is None and self._link.command("EXISTS", self._meta, *places_of(self._base)):
                raise ConfigError(without_key(self.url, self._base))
            if sealed:
                raise ConfigError(
                    f"{self.url} key {place}: what is there was written with another key of mesh "
                    f"(of {', '.join(sorted(sealed))}, here: {', '.join(key_id for key_id, _ in keys)}): "
                    "give this router that key, or its store another ?prefix="
                )
            key_id, secret = keys[0]
            self._link.command("HSETNX", place, key_id, seal(known or new_row_key(), secret))
            return self._row_key(known)  # another router may have been first
        self._reseal(row_key, sealed, keys)
        return row_key

    def _sealed(self) -> dict[str, bytes]:
        found = self._link.command("HGETALL", f"{self._base}keys")
        return {as_text(key_id): row for key_id, row in found.items()}

    def _reseal(self, row_key: bytes, sealed: Collection[str], keys: StoreKeys) -> None:
        """Let in who has the newest key of the mesh, and those no more whose key does not count."""
        place = f"{self._base}keys"
        for key_id, secret in keys:
            if key_id not in sealed:
                self._link.command("HSET", place, key_id, seal(row_key, secret))
        live = [key_id for key_id, _ in keys]
        gone = [key_id for key_id in sealed if key_id not in live]
        if gone:
            self._link.command("HDEL", place, *gone)
        self._keys_seen = live

    def _acquire(self) -> None:
        deadline = inf  # whoever says nothing until then has no lock any more
        taken_from = b""
        lock = f"{self._mine}lock"
        wanted = arguments(self._base, self._mine, salvage=self._salvage is not None)
        while True:
            asked_at = time.monotonic()
            own = (self._holder.token, lock, self._lock_ms, self._holder.text)
            args = (*own, taken_from, FORMAT, f"{self._base}routers", self._id)
            word, *values = self._link.script(scripts.ACQUIRE, [self._meta], (*args, *wanted))
            if word == "ok":
                break
            if word in ("kinds", "numbers"):
                raise StoreDamaged(f"{self.url}: {'; '.join(self._in_words(word, values[0]))}; {WAY_OUT}")
            if word == "format":
                raise ConfigError(
                    f"{self.url}: the journal of router {self.router_id} has format {as_text(values[0])}, and this "
                    f"version knows {FORMAT}: start the version that wrote it, or use another ?prefix="
                )
            held, left_ms, adopter = values
            holder = read_holder(held)
            if adopter or deadline == inf:  # it is being emptied, which takes as long as it has tasks
                deadline = time.monotonic() + self._lock_ms / 1000
            silent = left_ms <= self._lock_ms // 2
            if holder is not None and (is_gone(holder) or (silent and is_disconnected(self._link, held))):
                taken_from = held
            elif asked_at >= deadline and left_ms < 0:
                text = f"{self.url}: key {lock} has no time to run out, so no router wrote it"
                if not self._salvage:
                    raise StoreDamaged(f"{text}; {WAY_OUT}")
                self.salvaged.append(text)
                taken_from = held
            elif asked_at >= deadline:
                raise StoreLocked(self._held_by(held))
            else:
                wait_ms = left_ms if silent else left_ms - self._lock_ms // 2
                time.sleep(min(max(wait_ms, 20), 200) / 1000)
        counts, wrong, numbers = values
        self._epoch, self._commits, self._last_seq, self._boot = self._counts(
            ("epoch", "commits", "seq", "boot"), counts
        )
        self.salvaged += [f"{self.url}: {text}; set aside" for text in self._in_words("kinds", wrong)]
        self.salvaged += [f"{self.url}: {text}; it begins anew" for text in self._in_words("numbers", numbers)]
        if self._salvage:
            self._salvage.count_anew(list(map(as_text, wrong)))

    def _in_words(self, word: str, names: Sequence[bytes]) -> list[str]:
        if word == "kinds":
            return [wrong_kind(as_text(name)) for name in names]
        return [f"key {self._meta}: {wrong_number(as_text(name))}" for name in names]

    def _counts(self, fields: Sequence[str], values: Sequence[bytes | int | None]) -> list[int]:
        where = f"{self.url} key {self._meta}"
        return [read_count(value, field, where) for field, value in zip(fields, values)]

    def _held_by(self, held: bytes) -> str:
        holder = read_holder(held)
        name = holder.name if holder is not None else "an unknown process"
        other_name = ", or give this one a name of its own with ?router=NAME at the end of its --store"
        return (
            f"{self.url}: the journal of router {self.router_id} is in use by {name}; one router uses a journal at a "
            f"time: stop that one{'' if self._moving else other_name}"  # what is moved is that journal and no other
        )

    def _lost(self, held: bytes) -> StoreLost:
        if held == self._holder.text:  # else who has it writes the lock, too
            return StoreLost(f"{self.url} key {self._meta}: field owner was changed, and by no router")
        adopted = f"{self.url}: another router has adopted what router {self.router_id} had"
        return StoreLost(f"{self._held_by(held) if held else adopted}; what was not committed is lost")

    def _owned(self, script: str, *args: Value) -> list[Any]:
        """Do a script as the owner of the journal. Raises ``StoreLost`` where another is."""
        if self.set_back:
            raise StoreUnavailable(self.set_back)
        own: tuple[Value, ...] = (self._holder.token, self._epoch, self._base, self._mine)
        word, *values = self._link.script(script, [self._meta], (*own, *args))
        if word == "gone":
            raise self._miss("nothing of the present start")
        if word == "lost":
            raise self._lost(values[0])
        return [word, *values]

    # a server that lost what it had

    def _miss(self, found: str) -> StoreUnavailable:
        """The server has come back with less than it had acknowledged, and nobody else has the journal."""
        self.set_back = (
            f"{self.url} lost data: it has {found} of router {self.router_id}, "
            f"and had acknowledged commit {self._commits} ({self.durability.promise})"
        )
        return StoreUnavailable(self.set_back)

    def begin_anew(self, last_seq: int, functions: Sequence[str]) -> list[str]:
        """Make the journal this router's again, and empty; those of the functions that are there."""
        try:
            row_key = self._row_key(known=self._seal)
        except ConfigError as error:  # who emptied the server, or is at work on the key file, may mend it
            raise StoreUnavailable(str(error)) from error
        if row_key != self._seal:
            self._use(row_key)
        self._adoption.claimed.clear()
        own = (self._holder.token, self._epoch, f"{self._mine}lock", self._lock_ms, self._holder.text)
        place = (self._base, self._mine, self._id, FORMAT)
        counts = (last_seq, self._boot, self._commits + 1)  # a commit that comes late is none of what follows
        word, *values = self._link.script(scripts.REFOUND, [self._meta], (*own, *place, *counts))
        if word == "lost":
            raise self._lost(values[0])
        there: list[str] = []
        for some in cut(functions, 10 * CHUNK):
            there += map(as_text, self._link.script(scripts.FIND, [f"{self._base}functions"], some)[1])
        self._keep_name()
        self._commits += 1
        self._last_seq = last_seq
        self._unsure = None
        self.set_back = ""
        return there

    # starting

    def recover(self) -> Recovered:
        """Read what is unfinished and count this start. Raises ``StoreDamaged`` naming the rows."""
        self._settle_unsure()
        _, *values = self._owned(scripts.BOOT, secrets.token_hex(8))
        self._boot, self._last_seq, stored, self._commits = self._counts(("boot", "seq", "batches", "commits"), values)
        self._payloads.forget_new()
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
            self._keep_by_and_by()
            for seq, rows in zip(seqs, settled):
                batches[seq].settled, damaged = self._rows.read_settled(seq, rows)
                if damaged:
                    self._set_settled_aside(f"{self._mine}settled:{seq}", damaged)
        marks: list[TaskMark] = self._read_all("marks", "marks of tasks", self._rows.read_mark)
        nodes: list[NodeInfo] = self._read_all("nodes", "workers", self._rows.read_node)
        uses = self._link.command("ZRANGE", f"{self._mine}functions", 0, -1, "WITHSCORES")
        functions = {as_text(digest): float(used_at) for digest, used_at in zip(uses[::2], uses[1::2])}
        found = [batches[seq] for seq in sorted(batches)]
        self._last_seq = max(self._last_seq, *batches, 0)  # adopted ones may have greater numbers
        apps = dict(self._read_all("apps", "apps", self._rows.read_app))
        entries = self._read_all("schedules", "entries of periodic tasks", self._rows.read_entry)
        positions = self._read_all("positions", "positions of entries", self._rows.read_position)
        next_seq = self._last_seq + 1
        return Recovered(self._boot, next_seq, found, marks, nodes, functions, apps, entries, positions)

    def _read_all(self, place: str, what: str, read: Callable[[bytes, bytes], T | None]) -> list[T]:
        key = f"{self._mine}{place}"
        rows: dict[bytes, bytes] = {}
        for some in self._link.scan(key, self._keep_by_and_by):
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

    def _set_aside(self, key: str, what: str, damaged: Sequence[bytes], rows: dict[bytes, bytes]) -> None:
        named = ", ".join(name.decode(errors="replace") for name in damaged[:_NAMED])
        more = " ..." if len(damaged) > _NAMED else ""
        text = f"{self.url} key {key}: {what} that are not what a router wrote: {named}{more} ({len(damaged)} in all)"
        if not self._salvage:
            raise StoreDamaged(f"{text}; {WAY_OUT}")
        self._salvage.set_aside_rows(key, text, damaged, rows)

    def _set_settled_aside(self, key: str, damaged: Sequence[bytes]) -> None:
        text = f"{self.url} key {key}: rows of finished tasks that are not what a router wrote: {len(damaged)}"
        if not self._salvage:
            raise StoreDamaged(f"{text}; {WAY_OUT}")
        for row in damaged:
            self._link.commands([("SADD", f"{key}:damaged", row), ("SREM", key, row)])
        self.salvaged.append(f"{text}; set aside in key {key}:damaged")

    def _miss_batches(self, found: int, stored: int) -> None:
        text = f"{self.url} key {self._mine}journal: {found} whole batches where {stored} were written"
        if not self._salvage:
            raise StoreDamaged(f"{text}; {WAY_OUT}")
        self._owned(scripts.RECOUNT, found)
        self.salvaged.append(text)

    # writing

    def commit(self, records: Sequence[Record], held_back: Collection[str] = ()) -> list[Outcome]:
        """Write all records by one script, or none. Raises ``StoreUnavailable``, ``StoreFull``, ``StoreLost``.

        Returns the outcomes that other routers had recorded before of the same tasks.
        """
        if (earlier := self._settle_unsure(records)) is not None:
            return earlier
        put, removed = self._payloads.to_commit(held_back)
        if not records and not put:
            return []
        self._serial += 1
        serial = f"{self._epoch}.{self._serial}"
        prepared = prepare(records, self._rows, serial, self._commits + 1, self._last_seq, put, removed)
        self._unsure = (prepared, list(records))
        found = self._do(prepared)
        return self._differing(records) if found is None else self._first_of(found)

    def _settle_unsure(self, records: Sequence[Record] = ()) -> list[Outcome] | None:
        """Make sure of the commit whose answer did not come; what it returns where that was of these records."""
        if self._unsure is None:
            return None
        prepared, unsure = self._unsure
        self._do(prepared)
        return self._differing(unsure) if list(records) == unsure else None

    def _differing(self, records: Sequence[Record]) -> list[Outcome]:
        """What these tasks ended with, where that is not what the records say."""
        outcomes = {o.id: o for record in records if isinstance(record, RecordOutcomes) for o in record.outcomes}
        return [first for first in self._first_of(list(outcomes)) if first != outcomes[first.id]]

    def _first_of(self, ids: Sequence[str]) -> list[Outcome]:
        """Whichever outcomes these tasks have now, but for those that cannot be read: who asks is told."""
        found: list[Outcome] = []
        for some in cut(ids):
            try:
                found += self.outcomes(some)
            except RowDamaged:
                for task_id in some:
                    try:
                        found += self.outcomes([task_id])
                    except RowDamaged as damaged:
                        log.error("%s", damaged)
        return found

    def _do(self, prepared: Prepared) -> list[str] | None:
        """The tasks that other routers had finished before; None where the server had done it already."""
        for _ in range(_AHEAD_MAX):
            try:
                word, *values = self._owned(scripts.COMMIT, *self._arguments(prepared))
            except StoreFull:
                self._unsure = None  # nothing was written, and what comes next may be less
                raise
            if word == "behind":
                raise self._miss(f"commit {int(values[0])}")
            if word == "ahead":
                self._commits = int(values[0])
            else:
                break
            prepared.number = self._commits + 1
        else:
            raise StoreDamaged(f"{self.url} key {self._meta}: field commits grows by itself: who else writes there?")
        self._unsure = None
        if word == "there":
            raise StoreError(f"{self.url}: journal row {as_text(values[0])} is there already")
        self._commits = prepared.number
        self._last_seq = prepared.last_seq
        self._payloads.committed(prepared.put, prepared.removed)
        return [as_text(task_id) for task_id in values[0]] if values else None

    def _arguments(self, prepared: Prepared) -> list[Value]:
        return [
            prepared.number,
            self._lock_ms,
            self._holder.text,
            int(prepared.grows),
            prepared.last_seq,
            self._id,
            prepared.serial,
            len(prepared.batches) // 2,
            *prepared.batches,
            *prepared.operations,
        ]

    # reading

    def outcomes(self, ids: Sequence[str]) -> list[Outcome]:
        """The outcomes there are of these ids. Raises ``RowDamaged`` naming the id."""
        place = f"{self._base}outcomes"
        where = f"{self.url} key {place}"
        found: list[Outcome] = []
        for some in cut(list(dict.fromkeys(ids))):
            rows = self._link.command("HMGET", place, *some)
            found += [self._rows.read_outcome(i, row, where) for i, row in zip(some, rows) if row is not None]
        return found

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
        self._kept_at = time.monotonic()
        self._name_connection()
        return self._adoption.keep(self._lock_ms, self._holder.text, FORMAT)

    def _name_connection(self) -> None:
        """Others see by it at once that this process has died: the lock says which one it is."""
        self._holder = replace(self._holder, connection=self._link.number())

    def _keep_by_and_by(self) -> None:
        """A long start must not lose the lock meanwhile."""
        if time.monotonic() >= self._kept_at + self._lock_ms / 4000:
            self.keep()

    def claim(self, router_id: str) -> ClaimedJournal | None:
        """Take a journal that nobody has."""
        return self._adoption.claim(router_id, self._lock_ms, self._holder.text, FORMAT)

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
        return self._first_of(found)

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
        fields = list(map(due_field, spans))
        rows = [self._rows.due(span, number) for span in spans]
        damaged = [b""] * len(spans)
        for _ in range(_FORGED_MAX):
            each = zip(fields, spans, rows, damaged)
            args = [value for field, span, row, bad in each for value in (field, span.first_us, row, bad)]
            _, *answers = self._owned(scripts.GRANT, self._id, number, *args)
            grants: list[DueGrant] = []
            for place, (word, found) in enumerate(zip(answers[::2], answers[1::2])):
                grants.append(self._read_grant(fields[place], word, found))
                if found and self._rows.read_due(fields[place], found) is None:
                    damaged[place] = found
            if all(grant.is_granted or not bad for grant, bad in zip(grants, damaged)):
                break
        return grants

    def _read_grant(self, field: str, word: bytes, found: bytes) -> DueGrant:
        """What a script says that does not know who wrote a row; by one that no router wrote nothing is refused."""
        read = self._rows.read_due(field, found) if found else None
        if found and read is None:
            log.error("%s key %sdues: %r is not what a router wrote; it counts as nothing", self.url, self._base, field)
        if word == b"granted":
            return DueGrant(True)
        if word == b"held" or read is None:
            return DueGrant(False)
        bid, first_us, last_us = read
        return DueGrant(False, first_us - 1 if bid else last_us)

    # keeping house

    def prune(self, now: float, limit: int) -> int:
        """Forget up to ``limit`` outcomes that expired before ``now``, whichever router wrote them."""
        return int(self._owned(scripts.PRUNE, repr(now), limit)[1])

    def usage(self) -> StoreUsage:
        """How full the server is; also renews the lock, and lets in who has a new key of the mesh."""
        _, outcomes, batches, found = self._owned(scripts.RENEW, self._lock_ms, self._holder.text)
        (commits,) = self._counts(("commits",), [found])
        if commits < self._commits:
            raise self._miss(f"commit {commits}")
        self._look_at_keys()
        return StoreUsage(self._free_bytes(), outcomes, batches)

    def _look_at_keys(self) -> None:
        try:
            keys = self._keys()
        except ConfigError as error:  # somebody is at work on the file: what was found at the start still counts
            if str(error) != self._no_keys:
                log.error("the mesh key cannot be read, the one from before counts for the store: %s", error)
            self._no_keys = str(error)
            return
        self._no_keys = ""
        if not keys:
            return
        is_hash = self._link.command("TYPE", f"{self._base}keys") in (b"hash", b"none")
        sealed = self._sealed() if is_hash else {}
        if find_row_key(sealed, keys) not in (None, self._seal):
            raise self._miss("nothing")  # another router has begun there since
        if [key_id for key_id, _ in keys] != self._keys_seen:
            self._reseal(self._seal, sealed, keys)
        elif find_row_key(sealed, keys[:1]) is None and (not sealed or any(key_id in sealed for key_id, _ in keys)):
            self._put_back(sealed, keys)  # where all are others' our keys do not count any more

    def _put_back(self, sealed: Collection[str], keys: StoreKeys) -> None:
        """Somebody has deleted the key of the rows, or written another thing into its place."""
        place = f"{self._base}keys"
        row = [value for key_id, secret in keys for value in (key_id, seal(self._seal, secret))]
        with suppress(StoreFull):  # the next look does it
            self._link.commands([*([] if sealed else [("DEL", place)]), ("HSET", place, *row)])
            log.error("%s key %s: the key of the rows was gone, and is put back", self.url, place)

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
                own = (self._holder.token, self._base, self._mine, self._id, id_of(self._name))
                self._link.script(scripts.FORGET, [self._meta], own)
            listed = (f"{self._base}routers", self._id, int(FORGET_S * 1000))
            self._link.script(scripts.RELEASE, [self._meta], (self._holder.token, f"{self._mine}lock", *listed))
        except StoreError as error:
            log.warning("the lock is left to run out: %s", error)
        self._link.close()


def places_of(base: str) -> list[str]:
    """Where something is that all routers of a mesh share, if there are any: also what is not signed."""
    names = ("routers", "outcomes", "expiries", "functions", "users", "adopted", "dues", "blob_at")
    return [base + name for name in names]


def without_key(url: str, base: str) -> str:
    """What to say where those are, and the key of the rows is not."""
    return (
        f"{url} key {base}keys is gone, while other keys of this mesh are there: what those are signed with is lost. A "
        "router of the mesh that runs puts it back within seconds: try again then. Where none runs, put it back from a "
        "copy of the server's data, or give the store another ?prefix= and begin anew"
    )


def name_of(address: RedisAddress) -> str:
    """By which name an address asks for a journal."""
    return address.router if address.router is not None else default_router()


def id_of(name: str) -> str:
    """The id of the router that a journal of this name is of, unless another was moved there."""
    return blake2b(name.encode(), digest_size=6).hexdigest()


def router_at(link: Link, base: str, address: RedisAddress, becomes: str | None = None) -> str:
    """Which router's journal an address names: that of its name, or the one that was moved there under this name.

    The id of a router that has one stands for that, too, unless there is one of this name. ``becomes``: the router
    whose journal is to come here, if nothing is here yet.
    """
    name = name_of(address)
    own = id_of(name)
    moved = link.command("HGET", f"{base}names", own)
    if moved is not None and not is_router_id(moved):
        raise StoreDamaged(f"{link.name} key {base}names: what {own} stands for is no router's id; delete that field")
    if moved is not None:
        return as_text(moved)
    if is_router_id(name.encode()):
        is_there, of_name = link.commands([("EXISTS", f"{base}r:{one}:meta") for one in (name, own)])
        if is_there and not of_name:
            return name
    if becomes is None or becomes == own or _is_used(link, f"{base}r:{own}:"):
        return own
    if link.command("EXISTS", f"{base}r:{becomes}:meta"):
        return own
    link.command("HSET", f"{base}names", own, becomes)
    return becomes


def _is_used(link: Link, mine: str) -> bool:
    """Whether a router has a journal, or keeps anything in it."""
    (seq, batches), *rest = link.commands(
        [
            ("HMGET", f"{mine}meta", "seq", "batches"),
            ("EXISTS", f"{mine}lock", f"{mine}marks", f"{mine}functions", f"{mine}schedules", f"{mine}moved"),
        ]
    )
    where = f"{link.name} key {mine}meta"
    return any((read_count(seq, "seq", where), read_count(batches, "batches", where), *rest))
