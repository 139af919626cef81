"""Who has a router's journal: it is taken, and what is written is refused to who has it no more.

``lock`` says who has it, and runs out unless renewed; ``owner`` and ``epoch`` in ``meta`` fence off who had it before.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from math import inf
from typing import Any

from msgspec.structs import replace

from mesh.errors import ConfigError, StoreDamaged, StoreLocked, StoreLost, StoreUnavailable
from mesh.store.redis import scripts
from mesh.store.redis.holder import is_gone, read_holder, this_holder
from mesh.store.redis.kinds import FORMAT, WAY_OUT, read_count, wrong_kind, wrong_number
from mesh.store.redis.link import Link, Value, as_text
from mesh.store.redis.salvage import Salvage, arguments

FORGET_S = 30 * 86_400.0  # how often a router that ended was started, and its merged periodic tasks, are kept so long


class Journal:
    """That of the router ``router_id``, whose keys begin with ``mine``, as this process has it.

    ``commits``, ``last_seq`` and ``boot`` are as in ``meta``, as far as this process knows. ``set_back`` says why the
    server has less than it had acknowledged (``promise``); nothing is written meanwhile.
    """

    def __init__(
        self,
        link: Link,
        base: str,
        router_id: str,
        *,
        lock_s: float,
        salvage: Salvage | None,
        moving: bool,
        promise: str,
    ) -> None:
        self.link = link
        self.base = base
        self.router_id = router_id
        self.mine = f"{base}r:{router_id}:"
        self.meta = f"{self.mine}meta"
        self.lock_ms = int(lock_s * 1000)
        self.epoch = self.commits = self.last_seq = self.boot = 0
        self.set_back = ""
        self._holder = this_holder()
        self._kept_at = time.monotonic()
        self._lock = f"{self.mine}lock"
        self._salvage = salvage
        self._moving = moving
        self._promise = promise

    @property
    def holder(self) -> bytes:
        """What stands in a lock that this process has."""
        return self._holder.text

    def acquire(self) -> None:
        """Take the journal. Raises ``StoreLocked`` while another process has it, ``StoreDamaged``, ``ConfigError``."""
        deadline = inf  # whoever says nothing until then has no lock any more
        taken_from = b""
        wanted = arguments(self.base, self.mine, salvage=self._salvage is not None)
        while True:
            asked_at = time.monotonic()
            own = (self._holder.token, self._lock, self.lock_ms, self.holder)
            args = (*own, taken_from, FORMAT, f"{self.base}routers", self.router_id)
            word, *values = self.link.script(scripts.ACQUIRE, [self.meta], (*args, *wanted))
            if word == "ok":
                break
            if word in ("kinds", "numbers"):
                raise StoreDamaged(f"{self.link.name}: {'; '.join(self._in_words(word, values[0]))}; {WAY_OUT}")
            if word == "format":
                raise ConfigError(
                    f"{self.link.name}: the journal of router {self.router_id} has format {as_text(values[0])}, and "
                    f"this version knows {FORMAT}: start the version that wrote it, or use another ?prefix="
                )
            held, left_ms, adopter = values
            holder = read_holder(held)
            if adopter or deadline == inf:  # it is being emptied, which takes as long as it has tasks
                deadline = time.monotonic() + self.lock_ms / 1000
            silent = left_ms <= self.lock_ms // 2
            if holder is not None and (is_gone(holder) or (silent and is_disconnected(self.link, held))):
                taken_from = held
            elif asked_at >= deadline and left_ms < 0:
                text = f"{self.link.name}: key {self._lock} has no time to run out, so no router wrote it"
                if not self._salvage:
                    raise StoreDamaged(f"{text}; {WAY_OUT}")
                self._salvage.lines.append(text)
                taken_from = held
            elif asked_at >= deadline:
                raise StoreLocked(self._held_by(held))
            else:
                wait_ms = left_ms if silent else left_ms - self.lock_ms // 2
                time.sleep(min(max(wait_ms, 20), 200) / 1000)
        counts, wrong, numbers = values
        self.epoch, self.commits, self.last_seq, self.boot = self.counts(("epoch", "commits", "seq", "boot"), counts)
        if self._salvage:
            name, lines = self.link.name, self._salvage.lines
            lines += [f"{name}: {text}; set aside" for text in self._in_words("kinds", wrong)]
            lines += [f"{name}: {text}; it begins anew" for text in self._in_words("numbers", numbers)]
            self._salvage.count_anew(list(map(as_text, wrong)))

    def _in_words(self, word: str, names: Sequence[bytes]) -> list[str]:
        if word == "kinds":
            return [wrong_kind(as_text(name)) for name in names]
        return [f"key {self.meta}: {wrong_number(as_text(name))}" for name in names]

    def counts(self, fields: Sequence[str], values: Sequence[bytes | int | None]) -> list[int]:
        """Numbers in ``meta``. Raises ``StoreDamaged`` where a router cannot have written one."""
        where = f"{self.link.name} key {self.meta}"
        return [read_count(value, field, where) for field, value in zip(fields, values)]

    def _held_by(self, held: bytes) -> str:
        holder = read_holder(held)
        name = holder.name if holder is not None else "an unknown process"
        other_name = ", or give this one a name of its own with ?router=NAME at the end of its --store"
        return (
            f"{self.link.name}: the journal of router {self.router_id} is in use by {name}; one router uses a journal "
            f"at a time: stop that one{'' if self._moving else other_name}"  # what is moved is that journal, no other
        )

    def do(self, script: str, *args: Value) -> list[Any]:
        """Do a script as the owner of the journal. Raises ``StoreLost`` where another is."""
        if self.set_back:
            raise StoreUnavailable(self.set_back)
        own: tuple[Value, ...] = (self._holder.token, self.epoch, self.base, self.mine)
        word, *values = self.link.script(script, [self.meta], (*own, *args))
        if word == "gone":
            raise self.miss("nothing of the present start")
        if word == "lost":
            raise self._lost(values[0])
        return [word, *values]

    def _lost(self, held: bytes) -> StoreLost:
        if held == self.holder:  # else who has it writes the lock, too
            return StoreLost(f"{self.link.name} key {self.meta}: field owner was changed, and by no router")
        adopted = f"{self.link.name}: another router has adopted what router {self.router_id} had"
        return StoreLost(f"{self._held_by(held) if held else adopted}; what was not committed is lost")

    def name_connection(self) -> None:
        """Others see by it at once that this process has died: the lock says which one it is."""
        self._holder = replace(self._holder, connection=self.link.number())

    def keep(self, others: Sequence[str]) -> list[Any]:
        """Renew the lock, and those of ``others``, whose journals are claimed; what the script says of all routers."""
        self._kept_at = time.monotonic()
        self.name_connection()
        return self.do(scripts.KEEP, self.lock_ms, self.holder, self.router_id, FORMAT, *others)

    @property
    def is_to_be_kept(self) -> bool:
        """Whether a quarter of the lock's time is over."""
        return time.monotonic() >= self._kept_at + self.lock_ms / 4000

    def begin_life(self) -> int:
        """Count this start; how many batches were written."""
        _, *values = self.do(scripts.BOOT, secrets.token_hex(8))
        self.boot, self.last_seq, stored, self.commits = self.counts(("boot", "seq", "batches", "commits"), values)
        return stored

    def usage(self) -> tuple[int, int]:
        """How many outcomes and open batches there are; also renews the lock."""
        _, outcomes, batches, found = self.do(scripts.RENEW, self.lock_ms, self.holder)
        (commits,) = self.counts(("commits",), [found])
        if commits < self.commits:
            raise self.miss(f"commit {commits}")
        return outcomes, batches

    def miss(self, found: str) -> StoreUnavailable:
        """The server has come back with less than it had acknowledged, and nobody else has the journal."""
        self.set_back = (
            f"{self.link.name} lost data: it has {found} of router {self.router_id}, "
            f"and had acknowledged commit {self.commits} ({self._promise})"
        )
        return StoreUnavailable(self.set_back)

    def take_anew(self, last_seq: int) -> None:
        """Make the journal this process's again, and empty. To be done again until ``taken_anew`` was said."""
        own = (self._holder.token, self.epoch, self._lock, self.lock_ms, self.holder)
        place = (self.base, self.mine, self.router_id, FORMAT)
        counts = (last_seq, self.boot, self.commits + 1)  # a commit that comes late is none of what follows
        word, *values = self.link.script(scripts.REFOUND, [self.meta], (*own, *place, *counts))
        if word == "lost":
            raise self._lost(values[0])

    def taken_anew(self, last_seq: int) -> None:
        """All was done that belongs to that."""
        self.commits += 1
        self.last_seq = last_seq
        self.set_back = ""

    def forget(self, name_id: str) -> None:
        """The journal was made for what did not come, under the name that has this id."""
        own = (self._holder.token, self.base, self.mine, self.router_id, name_id)
        self.link.script(scripts.FORGET, [self.meta], own)

    def release(self) -> None:
        """Let go of the journal, so that the next router need not wait for the lock to run out."""
        listed = (f"{self.base}routers", self.router_id, int(FORGET_S * 1000))
        self.link.script(scripts.RELEASE, [self.meta], (self._holder.token, self._lock, *listed))


def is_disconnected(link: Link, held: bytes) -> bool:
    """Whether who wrote this into a lock is seen to be gone, or to have no connection to the server any more.

    The system ends the connections of a process that dies; one that is only held up keeps its own.
    """
    holder = read_holder(held)
    return holder is not None and (is_gone(holder) or not link.has(holder.connection))
