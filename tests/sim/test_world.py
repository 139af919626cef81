"""Thousands of seeded histories: whatever the faults, what was accepted ends once, and everything drains."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest

from mesh.model import TaskOptions
from tests.sim.world import WALL, Faults, World

SEEDS = int(os.environ.get("MESH_SIM_SEEDS", "6"))
MANY = int(os.environ.get("MESH_SIM_MANY", "1100"))
KINDS = ["work", "work", "work", "work", "fails", "retries", "kills", "slow"]


class Story:
    """What happens to one world: clients submit and cancel, nodes crash and return."""

    def __init__(self, seed: int, faults: Faults, *, routers: int = 1, shared: bool = False) -> None:
        self.rng = rng = random.Random(seed * 7919 + 1)
        self.world = World(seed, faults, routers=routers, shared=shared)
        self.clients = [self.world.add_client() for _ in range(rng.randint(1, 3))]
        for _ in range(rng.randint(1, 3)):
            self.add_worker()

    def add_worker(self) -> None:
        self.world.add_worker(self.rng.randint(1, 3), max_tasks=self.rng.choice([None, None, 7]))

    def submit(self) -> None:
        rng, now = self.rng, WALL + self.world.now_s
        client = rng.choice(self.clients)
        options = TaskOptions(rng.choice(KINDS), at_most_once=rng.random() < 0.1, priority=rng.choice([0, 0, 5]))
        if rng.random() < 0.1:
            options = TaskOptions("limited", time_limit_s=1.0)
        if rng.random() < 0.3:
            options = TaskOptions("shipped", function=f"digest {rng.randint(1, 2)}", python="")
        fields = {"eta": now + rng.uniform(0, 3)} if rng.random() < 0.15 else {}
        if rng.random() < 0.05:
            fields["expires_at"] = now + rng.uniform(0, 2)
        ids = client.submit(rng.choice([1, 1, 5, 40]), options, **fields)
        if rng.random() < 0.15:
            client.cancel(rng.sample(ids, k=1), terminate=rng.random() < 0.5)

    def trouble(self) -> None:
        rng, world = self.rng, self.world
        what = rng.random()
        workers = list(world.workers)
        if what < 0.3 and world.router is not None:
            world.crash_router()
            world.after(rng.uniform(0.01, 2.0), world.start_router)
        elif what < 0.35 and world.router is not None:
            store = world.router.store
            store.is_away = True
            world.after(rng.uniform(0.1, 2.0), lambda: setattr(store, "is_away", False))
        elif what < 0.4:
            world.store.room = lambda: False
            world.after(rng.uniform(0.1, 2.0), lambda: setattr(world.store, "room", lambda: True))
        elif what < 0.6 and workers:
            world.crash_worker(rng.choice(workers))
            world.after(rng.uniform(0, 1), self.add_worker)
        elif what < 0.8:
            world.cut_connection(rng.choice([*workers, *world.clients]))
        elif what < 0.87 and workers:
            rng.choice(workers).stop()
            self.add_worker()
        elif workers:
            rng.choice(workers).crash_executor()


def play(seed: int, faults: Faults, *, crashes: bool) -> World:
    """One history: faults for 8 s, then none, and all must drain."""
    story = Story(seed, faults)
    rng, world = story.rng, story.world
    for _ in range(rng.randint(5, 25)):
        world.at(rng.uniform(0, 5), story.submit)
    if crashes:
        for _ in range(rng.randint(1, 6)):
            world.at(rng.uniform(0.2, 6), story.trouble)
    world.run(8.0)
    world.faults = Faults()
    if not world.workers:
        world.add_worker()
    world.run(400.0, stop=world.drained)
    assert world.drained(), "did not drain: " + world.situation()
    world.check()
    return world


def replay(seed: int, faults: Faults, crashes: bool) -> World:
    try:
        return play(seed, faults, crashes=crashes)
    except Exception:
        print(
            f"\nseed {seed}, {faults}, crashes={crashes}: run it again with play({seed}, {faults}, crashes={crashes})"
        )
        raise


def bad_network(seed: int) -> World:
    return replay(seed, Faults(drop=0.02, double=0.02, delay_s=0.05, reorder=seed % 2 == 0), crashes=False)


def crashes(seed: int) -> World:
    faults = Faults(drop=0.01, double=0.01, delay_s=0.02, reorder=True) if seed % 3 == 0 else Faults()
    return replay(100_000 + seed, faults, crashes=True)


@pytest.mark.parametrize("block", range(6))
def test_a_bad_network_loses_nothing_and_settles_each_task_once(block: int) -> None:
    for seed in range(block * SEEDS // 6, (block + 1) * SEEDS // 6):
        bad_network(seed)


@pytest.mark.parametrize("block", range(6))
def test_crashes_of_any_node_lose_nothing_and_settle_each_task_once(block: int) -> None:
    for seed in range(block * SEEDS // 6, (block + 1) * SEEDS // 6):
        crashes(seed)


@pytest.mark.deep
@pytest.mark.timeout(400)
@pytest.mark.parametrize("block", range(8))
@pytest.mark.parametrize("history", [bad_network, crashes])
def test_the_same_holds_for_thousands_of_histories(history: Callable[[int], World], block: int) -> None:
    for seed in range(SEEDS, MANY)[block::8]:
        history(seed)


def test_without_faults_every_task_that_kills_nobody_runs_once() -> None:
    for seed in range(6):
        world = World(seed, Faults())
        client = world.add_client()
        for _ in range(3):
            world.add_worker()
        ids = client.submit(200)
        world.run(60.0, stop=world.drained)
        world.check()
        assert {i: world.runs[i] for i in ids} == dict.fromkeys(ids, 1)


def test_a_client_that_uses_a_function_now_and_then_never_notices_that_it_goes_between() -> None:
    world = World(1, Faults())
    client = world.add_client()
    world.add_worker()
    for n in range(6):
        world.at(1.0 + 5.0 * n, lambda: client.submit(3, TaskOptions("shipped", function="digest", python="")))
        world.run(5.0 * (n + 1) + 0.9, stop=lambda: False)
        assert not world.store.recover().functions, "it is kept without end"
    assert len(world.runs) == 18 and world.drained()
    world.check()


def test_the_same_seed_gives_the_same_history() -> None:
    faults = Faults(drop=0.02, double=0.02, delay_s=0.05, reorder=True)
    assert play(11, faults, crashes=True).log == play(11, faults, crashes=True).log
