"""Seeded histories of periodic tasks: whatever becomes of leaders, routers, clocks and messages, each due time is one
task, of those that count."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Collection, Sequence

import pytest
from msgspec.structs import replace

from mesh.core.commands import AppendBatch, Record, SaveEntry, SavePositions, Send
from mesh.entries import Entry, Position, firing_id
from mesh.errors import StoreFull
from mesh.messages import Fire
from mesh.model import TaskOptions
from mesh.schedules import Every, dues_between, microseconds
from mesh.settings import Settings
from mesh.store.memory import MemoryStore
from tests.sim.world import ROUTER, WALL, Faults, WorkerNode, World

SEEDS = int(os.environ.get("MESH_SIM_SEEDS", "4"))
MANY = int(os.environ.get("MESH_SIM_MANY", "1100"))
SETTINGS = Settings(hello_retry_s=0.5, grace_s=1.0, schedule_lease_ttl_s=1.5, heartbeat_s=4.0)
HOUR = 3_600.0


class Committed:
    """What a store was given to keep, beside the store."""

    def __init__(self, store: MemoryStore) -> None:
        self.tasks: Counter[str] = Counter()
        self.positions: dict[str, list[tuple[Entry, Position]]] = {}  # and the form the entry had then
        self._entries: dict[str, list[Entry]] = {}
        self.takes_tasks = True  # else there is room for what finishes some
        self._commit = store.commit
        store.commit = self.commit  # type: ignore[method-assign]

    def commit(self, records: Sequence[Record], held_back: Collection[str] = ()) -> None:
        if not self.takes_tasks and any(isinstance(record, AppendBatch) for record in records):
            raise StoreFull("no room for new tasks")
        self._commit(records, held_back)
        for record in records:
            if isinstance(record, AppendBatch):
                self.tasks.update(spec.id for spec in record.submit.tasks)
            elif isinstance(record, SaveEntry):
                self._entries.setdefault(record.entry.name, []).append(record.entry)
            elif isinstance(record, SavePositions):
                for position in record.positions:
                    self.positions.setdefault(position.entry, []).append((self._form(position), position))

    def _form(self, position: Position) -> Entry:
        """Of the entry: one that was changed in this very wake-up may have come so far before that."""
        before, now = ([None] + self._entries[position.entry])[-2:]
        is_before = before is not None and position.last_due_us <= microseconds(now.revised_at)
        return before if is_before else now  # type: ignore[return-value]

    def dues(self, name: str) -> list[float]:
        """The due times that are behind an entry, in order, by the forms that it had."""
        found: list[float] = []
        last = self.positions[name][0][1].last_due_us / 1e6
        for entry, position in self.positions[name][1:]:
            until = position.last_due_us / 1e6
            found += dues_between(entry.schedule, max(last, entry.revised_at), until, 1 << 40)
            last = until
        return found


class Story:
    """Workers with the same code, each of which may lead, and what happens to them."""

    def __init__(self, seed: int, faults: Faults, *, jumps: bool = False) -> None:
        self.rng = rng = random.Random(seed * 6_271 + 5)
        self.world = World(seed, faults, SETTINGS)
        self.jumps = jumps
        self.committed = Committed(self.world.store)
        self.intervals = (3.0, 60.0) if jumps else (0.05, 5.0)
        self.entries = [
            Entry(
                f"e{number}",
                Every(round(rng.uniform(*self.intervals), 3)),
                TaskOptions(rng.choice(["work", "work", "fails", "slow"])),
                catchup=catchup,
                catchup_max=10_000,
                catchup_window_s=rng.choice([0.5, 3.0, 2 * HOUR]) if number else 3 * HOUR,
                overlap=rng.choice(["allow", "skip", "queue_one"]) if number else "allow",
                jitter_s=rng.choice([0.0, 1.0]),
            )
            for number, catchup in enumerate(["all", "all", "latest", "skip"])  # type: ignore[arg-type]
        ]
        self.stale = 0
        for _ in range(rng.randint(2, 4)):
            self.add_worker()

    def add_worker(self) -> WorkerNode:
        worker = self.world.add_worker(self.rng.randint(1, 3), entries=self.entries)
        worker.skew_s = self.rng.choice([0.0, 0.0, 30.0, -HOUR, HOUR])
        return worker

    def redeploy(self) -> None:
        """A node comes with other code; then all that are started have that."""
        changed = replace(self.entries[1], schedule=Every(round(self.rng.uniform(*self.intervals), 3)))
        self.entries = [self.entries[0], changed, *self.entries[2:]]
        self.add_worker()

    def leader(self) -> WorkerNode | None:
        """The one that would fire."""
        for worker in self.world.workers:
            if worker.machine.scheduler.leads:
                return worker
        return None

    def trouble(self) -> None:
        rng, world = self.rng, self.world
        what = rng.random()
        leader = self.leader() or rng.choice(world.workers)
        if what < 0.1:
            self.redeploy()
        elif what < 0.25:
            world.crash_worker(leader)
            world.after(rng.uniform(0, 1), self.add_worker)
        elif what < 0.5:
            self.stall(leader, rng.uniform(0.5, 5.0) * SETTINGS.schedule_lease_ttl_s)
        elif what < 0.65 and world.router is not None:
            self.count_stale()
            world.crash_router()
            world.after(rng.uniform(0.01, 3.0), world.start_router)
        elif what < 0.7 and world.router is not None:
            store = world.router.store
            store.is_away = True
            world.after(rng.uniform(0.1, 3.0), lambda: setattr(store, "is_away", False))
        elif what < 0.75:
            world.cut_connection(leader)
        elif what < 0.78:
            world.store.room = lambda: False
            world.after(rng.uniform(0.1, 2.0), lambda: setattr(world.store, "room", lambda: True))
        elif what < 0.82:
            self.committed.takes_tasks = False
            world.after(rng.uniform(0.1, 3.0), lambda: setattr(self.committed, "takes_tasks", True))
        elif what < 0.85:
            leader.stop()
            self.add_worker()
        elif self.jumps:
            world.sites[ROUTER].skew_s += rng.choice([HOUR, -HOUR, 90.0, -90.0])
        else:
            leader.skew_s += rng.choice([HOUR, -HOUR])

    def stall(self, leader: WorkerNode, seconds: float) -> None:
        """It stops between its look at the clock and its FIRE."""

        def once(commands: list[object]) -> float:
            if not any(isinstance(c, Send) and isinstance(c.message, Fire) for c in commands):
                return 0.0
            leader.stalls = lambda commands: 0.0
            return seconds

        leader.stalls = once

    def count_stale(self) -> None:
        router = self.world.router
        self.stale += router.machine.counters["firings_stale"] if router is not None else 0

    # what must hold

    def check(self) -> None:
        """Each due time is one task, or was left out and counted; and all is fired up to now."""
        doubled = [task_id for task_id, times in self.committed.tasks.items() if times > 1]
        assert not doubled, f"taken in twice: {doubled}"
        made = set(self.committed.tasks)
        for entry in self.entries:
            positions = [position for _, position in self.committed.positions[entry.name]]
            order = [position.last_due_us for position in positions]
            assert order == sorted(order), f"{entry.name}: a position went back"
            dues, now, last = self.committed.dues(entry.name), positions[-1], order[-1] / 1e6
            told = now.fired + now.skipped + (now.queued_due_us is not None)
            assert told == len(dues), f"{entry.name}: {len(dues)} were due, {now}"
            expected = {firing_id(entry.name, microseconds(due)) for due in dues}
            made_of = made & expected
            made -= expected
            assert len(made_of) == now.fired, f"{entry.name}: fired {now.fired}, made {len(made_of)}"
            if entry.name == "e0":
                assert made_of == expected, "a due time was lost"
            router_now = WALL + self.world.now_s + self.world.sites[ROUTER].skew_s
            behind = router_now - entry.schedule.seconds - 0.5  # type: ignore[union-attr]
            waits = self.jumps and entry.name != "e0"  # what was left out is told with what is due next
            assert waits or last >= behind, f"{entry.name}: nothing is fired any more, {behind - last:g} s behind"
        assert not made, f"tasks of no due time: {made}"


def play(seed: int, faults: Faults, *, troubles: int, jumps: bool = False) -> Story:
    story = Story(seed, faults, jumps=jumps)
    world = story.world
    for _ in range(troubles):
        world.at(story.rng.uniform(1.0, 25.0), story.trouble)
    world.run(30.0)
    world.faults = Faults()
    world.run(50.0)
    story.count_stale()
    story.check()
    return story


def replay(seed: int, faults: Faults, *, troubles: int, jumps: bool = False) -> Story:
    try:
        return play(seed, faults, troubles=troubles, jumps=jumps)
    except Exception:
        print(f"\nrun it again with play({seed}, {faults}, troubles={troubles}, jumps={jumps})")
        raise


def bad_network(seed: int) -> Story:
    return replay(seed, Faults(drop=0.02, double=0.02, delay_s=0.05, reorder=seed % 2 == 0), troubles=0)


def troubles(seed: int) -> Story:
    faults = Faults(drop=0.01, double=0.01, delay_s=0.02, reorder=True) if seed % 3 == 0 else Faults()
    return replay(100_000 + seed, faults, troubles=1 + seed % 6)


def jumps(seed: int) -> Story:
    return replay(200_000 + seed, Faults(), troubles=1 + seed % 6, jumps=True)


HISTORIES = [bad_network, troubles, jumps]


@pytest.mark.parametrize("history", HISTORIES)
def test_each_due_time_is_one_task_or_left_out_and_counted(history: object) -> None:
    assert callable(history)
    for seed in range(SEEDS // 2):
        history(seed)


def test_what_a_leader_fires_when_another_leads_is_refused_and_counted_and_nothing_is_lost() -> None:
    for seed in range(4):
        story = Story(seed, Faults())
        world = story.world
        world.run(5.0)
        leader = story.leader()
        assert leader is not None and world.router is not None
        term = world.router.machine.periodic.lease.term
        story.stall(leader, 3 * SETTINGS.schedule_lease_ttl_s)
        world.run(20.0)
        assert (
            world.router.machine.periodic.lease.term == term + 1
            and world.router.machine.periodic.lease.holder_name != leader.name
        )
        assert world.router.machine.counters["firings_stale"] > 0
        story.check()


def test_the_same_seed_gives_the_same_history_of_firings() -> None:
    faults = Faults(drop=0.02, double=0.02, delay_s=0.05, reorder=True)
    first, second = (play(10, faults, troubles=5) for _ in range(2))
    assert first.world.log == second.world.log and first.committed.positions == second.committed.positions


@pytest.mark.deep
@pytest.mark.timeout(400)
@pytest.mark.parametrize("block", range(4))
@pytest.mark.parametrize("history", HISTORIES)
def test_the_same_holds_for_more_histories(history: object, block: int) -> None:
    assert callable(history)
    for seed in range(SEEDS // 2, MANY // 10)[block::4]:
        history(seed)
