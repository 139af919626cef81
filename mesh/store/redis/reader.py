"""Reads what one router keeps on a Redis server, beside that router: it asks, and writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from mesh.entries import Entry, Position
from mesh.errors import ConfigError, RowDamaged, StoreDamaged, StoreError
from mesh.model import Blob, FunctionCode, NodeInfo, Outcome, TaskMark
from mesh.store.base import StoredBatch
from mesh.store.moved import read_move
from mesh.store.reading import CHUNK, Facts, cut, named
from mesh.store.reading import Rows as Chunks
from mesh.store.redis import scripts
from mesh.store.redis.address import RedisAddress
from mesh.store.redis.adoption import odd_journals
from mesh.store.redis.durability import look_up
from mesh.store.redis.holder import is_gone, read_holder
from mesh.store.redis.kinds import DIGITS, FORMAT, WAY_OUT, kinds, read_count, wrong_kind
from mesh.store.redis.link import Link, as_text
from mesh.store.redis.naming import router_at
from mesh.store.redis.payloads import Payloads
from mesh.store.redis.row_key import places_of, without_key
from mesh.store.redis.rows import Rows, is_router_id, router_of
from mesh.store.redis.sealing import StoreKeys, find_row_key

JOURNALS_SHOWN = 10  # where the one that was asked for is not there
SUSPECTS_MAX = 1_000  # rows that are looked at again
ASKED_MAX = 5  # times, before two numbers that do not agree count as wrong

T = TypeVar("T")

_MEASURED = ("outcomes", "expiries", "functions")  # of all routers; and of this one:
_MEASURED_MINE = ("journal", "marks", "schedules", "positions")


class RedisReader:
    """Of the journal that ``address`` names. Opening raises ``ConfigError`` for a wrong key.

    ``StoreError`` where there is no such journal: that of a wrong name would be read as an empty one.
    """

    def __init__(self, address: RedisAddress, mesh: str, keys: StoreKeys, timeout_s: float) -> None:
        self.url = address.name
        self._base = f"{address.prefix}:{{{mesh}}}:"
        self._unnamed: dict[str, Outcome] = {}  # outcomes that were read and that nothing seems to name
        self._unsettled: dict[int, None] = {}  # batches of which somebody else says what is finished
        self._link = Link(address, timeout_s)
        try:
            self._router = router_at(self._link, self._base, address)
            self._mine = f"{self._base}r:{self._router}:"
            row_key = self._row_key(keys)
            self._shared = blake2b(row_key, digest_size=16).hexdigest()  # random, so of one mesh on one server
            self._rows = Rows(row_key, self._router)
            found, owner = self._link.command("HMGET", f"{self._mine}meta", "format", "owner")
            if owner is None:
                whose = f"router {address.router}" if address.router else f"this machine's router {self._router}"
                raise StoreError(
                    f"{self.url}: no journal of {whose} there; there are: {', '.join(self._journals()) or 'none'}; "
                    "?router=NAME (or the id) says whose is meant"
                )
            if found is not None and found != b"%d" % FORMAT:
                raise ConfigError(
                    f"{self.url}: the journal of router {self._router} has format {as_text(found)}, "
                    f"and this version knows {FORMAT}"
                )
        except BaseException:
            self._link.close()
            raise
        self._payloads = Payloads(self._link, self._rows.blobs, self._base, self._mine)

    def _row_key(self, keys: StoreKeys) -> bytes:
        found = self._link.command("HGETALL", f"{self._base}keys")
        sealed = {as_text(key_id): row for key_id, row in found.items()}
        if not sealed and self._link.command("EXISTS", f"{self._mine}meta", *places_of(self._base)):
            raise StoreError(without_key(self.url, self._base))
        if not sealed:
            raise StoreError(f"{self.url}: there is no store (no key begins with {self._base})")
        row_key = find_row_key(sealed, keys)
        if row_key is None:
            raise ConfigError(
                f"{self.url}: what is there was written with another key of the mesh "
                f"(of {', '.join(sorted(sealed))}, here: {', '.join(key_id for key_id, _ in keys) or 'none'})"
            )
        return row_key

    def _journals(self) -> list[str]:
        """The names of some routers that have one, their ids, and who runs them."""
        ids = self._routers()
        shown = ids[:JOURNALS_SHOWN]
        named = [
            " ".join([self._name_of(i) or "router", i if holder is None else f"{i} (of {holder})"])
            for i, holder in zip(shown, self._holders(shown))
        ]
        return named + (["..."] if len(ids) > len(shown) else [])

    def _name_of(self, router_id: str) -> str | None:
        """By which name a journal is asked for; None where nobody has said so."""
        row = self._link.command("HGET", f"{self._base}r:{router_id}:meta", "name")
        return None if row is None else self._rows.read_name(router_id, row)

    def facts(self) -> Facts:
        """What the server says of this router's part."""
        fields = ("boot", "commits", "seq", "batches")
        meta = self._link.command("HMGET", f"{self._mine}meta", *fields)
        where = f"{self.url} key {self._mine}meta"
        boot, commits, last_seq, batches = (read_count(value, field, where) for value, field in zip(meta, fields))
        marks, functions, entries, outcomes, held, moved = self._link.commands(
            [
                ("HLEN", f"{self._mine}marks"),
                ("ZCARD", f"{self._mine}functions"),
                ("HLEN", f"{self._mine}schedules"),
                ("HLEN", f"{self._base}outcomes"),
                ("GET", f"{self._mine}lock"),
                ("GET", f"{self._mine}moved"),
            ]
        )
        durability = look_up(self._link)
        return Facts(
            router_id=self._router,
            router_name=self._name_of(self._router),
            level=durability.level,
            warning=durability.warning or None,
            where=f"{self._base}* (router {self._router})",
            shared=self._shared,
            size=self._size(),
            boot=boot,
            commits=commits,
            last_seq=last_seq,
            batches=batches,
            outcomes=outcomes,
            marks=marks,
            functions=functions,
            entries=entries,
            holder=None if held is None else _holder_name(held),
            move=None if moved is None else read_move(moved, f"{self.url} key {self._mine}moved"),
            others=self._others(),
        )

    def _others(self) -> list[str]:
        """Who runs the other routers that have a journal there."""
        holders = self._holders([one for one in self._routers() if one != self._router])
        return [holder for holder in holders if holder is not None]

    def _routers(self) -> list[str]:
        """The ids of the routers that have a journal; other names in the list are no router's."""
        names = self._link.command("SMEMBERS", f"{self._base}routers")
        return sorted(name.decode() for name in names if is_router_id(name))

    def _holders(self, routers: Sequence[str]) -> list[str | None]:
        """Who runs each of these; None where nobody does."""
        locks = self._link.commands([("GET", f"{self._base}r:{one}:lock") for one in routers])
        return [None if held is None else _holder_name(held) for held in locks]

    def _size(self) -> int | None:
        """Without large payloads: how large those are, each of them would have to be asked."""
        places = [self._base + name for name in _MEASURED] + [self._mine + name for name in _MEASURED_MINE]
        try:
            return sum(size or 0 for size in self._link.commands([("MEMORY", "USAGE", place) for place in places]))
        except StoreError:  # a server, or its user, that may not be asked
            return None

    def seqs(self) -> list[int]:
        """The numbers of the batches that are open, in order."""
        fields = self._link.command("HKEYS", f"{self._mine}journal")
        # Others are no router's: ``faults`` counts them.
        return sorted(int(seq) for seq in fields if seq.isdigit() and len(seq) <= DIGITS["seq"])

    def batches(self, seqs: Sequence[int]) -> list[tuple[int, StoredBatch | None]]:
        """These batches with the ids in them that are finished; those that were finished meanwhile are left out."""
        if not seqs:
            return []
        settled = self._link.commands([("SMEMBERS", f"{self._mine}settled:{seq}") for seq in seqs])
        # The rows after that: of a batch that is still there, all that is settled was there, too.
        rows = self._link.command("HMGET", f"{self._mine}journal", *seqs)
        found: list[tuple[int, StoredBatch | None]] = []
        for seq, row, some in zip(seqs, rows, settled):
            if row is None:
                continue
            batch = self._rows.read_batch(b"%d" % seq, row)
            finished, damaged = self._rows.read_settled(seq, some)
            if damaged and len(self._unsettled) < SUSPECTS_MAX:
                self._unsettled[seq] = None
            found.append((seq, None if batch is None else StoredBatch(seq, batch[2], batch[1], finished)))
        return found

    def marks(self) -> Chunks[TaskMark]:
        """By id of the task."""
        return self._hash(f"{self._mine}marks", self._rows.read_mark)

    def nodes(self) -> Chunks[NodeInfo]:
        """By id of the node."""
        return self._hash(f"{self._mine}nodes", self._rows.read_node)

    def apps(self) -> Chunks[float]:
        """When the code of each was declared, by name."""

        def read(name: bytes, row: bytes) -> float | None:
            app = self._rows.read_app(name, row)
            return None if app is None else app[1]

        return self._hash(f"{self._mine}apps", read)

    def entries(self) -> Chunks[Entry]:
        """By name."""
        return self._hash(f"{self._mine}schedules", self._rows.read_entry)

    def positions(self) -> Chunks[Position]:
        """By name of the entry."""
        return self._hash(f"{self._mine}positions", self._rows.read_position)

    def functions(self) -> Chunks[tuple[FunctionCode, float]]:
        """Those that this router keeps and when it last used each, by digest."""
        place = f"{self._base}functions"
        uses = self._link.command("ZRANGE", f"{self._mine}functions", 0, -1, "WITHSCORES")
        for some in cut(list(zip(uses[::2], uses[1::2]))):
            rows = self._link.command("HMGET", place, *(digest for digest, _ in some))
            chunk: list[tuple[str, tuple[FunctionCode, float] | None]] = []
            for (name, used_at), row in zip(some, rows):
                if row is None:  # dropped meanwhile
                    continue
                digest = as_text(name)
                code = _unless_damaged(self._rows.read_function, digest, row, place)
                chunk.append((digest, None if code is None else (code, float(used_at))))
            yield chunk

    def outcomes(self, *, of_all: bool = False) -> Chunks[Outcome]:
        """Those that this router wrote, and of its open batches, or all, by id of the task; some may come twice.

        The numbers of other routers' batches mean nothing in this one's journal.
        """
        place = f"{self._base}outcomes"
        batch_of = self._settled()
        for rows in self._link.scan(place):
            chunk: list[tuple[str, Outcome | None]] = []
            mine: list[Outcome] = []
            for key, row in rows.items():
                name, is_mine = as_text(key), router_of(row) in (self._router, None)
                if is_mine or of_all or name in batch_of:
                    outcome = _unless_damaged(self._rows.read_outcome, name, row, place)
                    if outcome is not None and not is_mine:
                        outcome = replace(outcome, batch=batch_of.get(name, 0))
                    elif outcome is not None:
                        mine.append(outcome)
                    chunk.append((name, outcome))
            self._note_unnamed(mine)
            yield chunk

    def _settled(self) -> dict[str, int]:
        """The finished tasks of the batches that are open, each with its batch."""
        found: dict[str, int] = {}
        for some in cut(self.seqs()):
            settled = self._link.commands([("SMEMBERS", f"{self._mine}settled:{seq}") for seq in some])
            for seq, rows in zip(some, settled):
                found.update(dict.fromkeys(self._rows.read_settled(seq, rows)[0], seq))
        return found

    def _note_unnamed(self, outcomes: Sequence[Outcome]) -> None:
        """Outcomes that would never go: neither the expiries have them nor the batch that is open."""
        if not outcomes:
            return
        expiries = self._link.command("ZMSCORE", f"{self._base}expiries", *(outcome.id for outcome in outcomes))
        unnamed = [outcome for outcome, expiry in zip(outcomes, expiries) if expiry is None]
        held = self._link.commands([("SISMEMBER", f"{self._mine}held:{o.batch}", o.id) for o in unnamed])
        for outcome, is_held in zip(unnamed, held):
            if not is_held and len(self._unnamed) < SUSPECTS_MAX:
                self._unnamed[outcome.id] = outcome

    def outcomes_of(self, ids: Sequence[str]) -> list[Outcome]:
        """The whole outcomes there are of these ids, whichever router wrote them."""
        if not ids:
            return []
        place = f"{self._base}outcomes"
        rows = self._link.command("HMGET", place, *ids)
        found = (_unless_damaged(self._rows.read_outcome, i, row, place) for i, row in zip(ids, rows) if row)
        return [outcome for outcome in found if outcome is not None]

    def _hash(self, place: str, read: Callable[[bytes, bytes], T | None]) -> Chunks[T]:
        for rows in self._link.scan(place):
            yield [(as_text(name), _unless_damaged(read, name, row)) for name, row in rows.items()]

    def read_blob(self, blob: Blob) -> Sequence[bytes | memoryview] | None:
        """A large payload in parts; None when it is gone. Raises ``StoreDamaged``."""
        return self._payloads.read(blob)

    def faults(self) -> list[str]:
        """Keys and numbers that no router wrote, and batches that are missing."""
        return self._wrong_kinds() + self._wrong_numbers() + self._missing_batches()

    def _wrong_kinds(self) -> list[str]:
        wanted = list(kinds(self._base, self._mine).items())
        found = self._link.commands([("TYPE", key) for key, _ in wanted])
        wrong = [key for (key, kind), is_there in zip(wanted, found) if as_text(is_there) not in ("none", kind)]
        if f"{self._mine}lock" not in wrong and self._link.command("PTTL", f"{self._mine}lock") == -1:
            return [*map(self._in_words, wrong), f"key {self._mine}lock has no time to run out: no router wrote it"]
        return [*map(self._in_words, wrong)]

    def _in_words(self, key: str) -> str:
        return f"{self.url}: {wrong_kind(key)}; {WAY_OUT}"  # as who reads it is told, too

    def _wrong_numbers(self) -> list[str]:
        faults = []
        for field, value in zip(DIGITS, self._link.command("HMGET", f"{self._mine}meta", *DIGITS)):
            try:
                read_count(value, field, f"{self.url} key {self._mine}meta")
            except StoreDamaged as damaged:
                faults.append(str(damaged))
        return faults

    def _missing_batches(self) -> list[str]:
        for _ in range(ASKED_MAX):  # a router may commit between the two questions
            try:
                journal, written = self._link.commands(
                    [("HLEN", f"{self._mine}journal"), ("HGET", f"{self._mine}meta", "batches")]
                )
                there = read_count(written, "batches", self.url)
            except StoreDamaged:  # which is said already
                return []
            if journal == there:
                return []
        return [f"batches in the journal: {journal} where {there} were written"]

    def loose_ends(self) -> list[str]:
        """Outcomes that no expiry names and the reverse, functions without code, journals that nobody would adopt."""
        found: list[str] = []
        _, odd, strange = self._link.script(scripts.LOOK, [f"{self._base}routers"], [self._base])
        if wrong := odd_journals([one.decode() for one in odd], int(strange)):
            found.append(f"{wrong}; no router wrote them so, and none adopts them")
        if self._unsettled:
            where = named(list(map(str, self._unsettled)))
            found.append(f"finished tasks that no router wrote down, in batches: {where}")
        if aside := self._link.command("HLEN", f"{self._mine}journal:damaged"):
            found.append(f"rows of the journal that no router wrote, and that were set aside under :damaged: {aside}")
        if unnamed := self._still(self._unnamed_now, list(self._unnamed)):
            found.append(f"outcomes without an expiry, which never go: {named(unnamed)}")
        if gone := self._still(self._without_outcome, self._expiries()):
            found.append(f"expiries of outcomes that are not there: {named(gone)}; they go at their time")
        uses = self._link.command("ZRANGE", f"{self._mine}functions", 0, -1)
        if lost := self._still(self._without_code, [as_text(name) for name in uses]):
            found.append(f"functions without their code: {named(lost)}; clients send them again")
        listed = self._link.command("SISMEMBER", f"{self._base}routers", self._router)
        if not listed and self._link.command("EXISTS", f"{self._mine}journal"):
            found.append(
                "the journal is not in the list of routers: nobody adopts it; its router mends that while it runs"
            )
        return found

    def _still(self, look: Callable[[Sequence[str]], list[str]], ids: list[str]) -> list[str]:
        """Those that are wrong each time: a router may be at work on the others."""
        for _ in range(ASKED_MAX):
            ids = [one for some in cut(ids) for one in look(some)]
        return ids

    def _unnamed_now(self, ids: Sequence[str]) -> list[str]:
        there = {outcome.id: outcome for outcome in self.outcomes_of(ids)}
        self._unnamed.clear()
        self._note_unnamed(list(there.values()))
        return [one for one in ids if one in self._unnamed]

    def _expiries(self) -> list[str]:
        """Some of those that name no outcome."""
        found: list[str] = []
        cursor = 0
        while len(found) < SUSPECTS_MAX:
            cursor, pairs = self._link.command("ZSCAN", f"{self._base}expiries", cursor, "COUNT", CHUNK)
            found += self._without_outcome([as_text(name) for name, _ in pairs])
            if not cursor:
                break
        return list(dict.fromkeys(found))

    def _without_outcome(self, ids: Sequence[str]) -> list[str]:
        there = self._link.commands([("HEXISTS", f"{self._base}outcomes", i) for i in ids])
        expiries = self._link.commands([("ZSCORE", f"{self._base}expiries", i) for i in ids])
        return [i for i, outcome, expiry in zip(ids, there, expiries) if not outcome and expiry is not None]

    def _without_code(self, digests: Sequence[str]) -> list[str]:
        there = self._link.commands([("HEXISTS", f"{self._base}functions", digest) for digest in digests])
        used = self._link.commands([("ZSCORE", f"{self._mine}functions", digest) for digest in digests])
        return [d for d, code, use in zip(digests, there, used) if not code and use is not None]

    def close(self) -> None:
        """Cut the connection."""
        self._link.close()


def _holder_name(held: bytes) -> str | None:
    holder = read_holder(held)
    if holder is None:
        return "an unknown process"
    return None if is_gone(holder) else holder.name


def _unless_damaged(read: Callable[..., T | None], *args: object) -> T | None:
    try:
        return read(*args)
    except (RowDamaged, ValueError, msgspec.MsgspecError):
        return None
