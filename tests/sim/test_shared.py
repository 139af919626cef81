"""Seeded histories of routers that share one store: what one had, another adopts, and each task ends once for all."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mesh.model import Peer, TaskOptions
from tests.sim.shared import FencedStore
from tests.sim.test_routers import SeveralRouters, play_out
from tests.sim.test_world import MANY, SEEDS
from tests.sim.world import ClientNode, Faults, Site, World


class SharedStore(SeveralRouters):
    """Besides what happens to several routers: they are held up, for shorter and longer than their lock.

    Some of them seem to have died meanwhile, for their connection to the store has ended.
    """

    def __init__(self, seed: int, faults: Faults) -> None:
        super().__init__(seed, faults, shared=True)

    def trouble(self) -> None:
        rng, world = self.rng, self.world
        site = rng.choice(list(world.sites.values()))
        if rng.random() < 0.25:
            world.pause_router(site.peer, rng.choice([1.0, 4.0, 5.5, 8.0, 15.0]))
            if rng.random() < 0.3 and site.router is not None and isinstance(site.router.store, FencedStore):
                site.router.store.is_cut = True
        else:
            super().trouble()

    def crash(self, site: Site) -> None:
        if site.router is not None and site.router.is_paused and self.rng.random() < 0.5:
            return
        super().crash(site)


def play(seed: int, faults: Faults, *, troubles: int, doubled: bool = False) -> World:
    return play_out(SharedStore(seed, faults), troubles=troubles, doubled=doubled)


def replay(seed: int, faults: Faults, troubles: int, *, doubled: bool = False) -> World:
    try:
        return play(seed, faults, troubles=troubles, doubled=doubled)
    except Exception:
        print(f"\nrun it again with play({seed}, {faults}, troubles={troubles}, doubled={doubled})")
        raise


def quiet(seed: int) -> World:
    return replay(500_000 + seed, Faults(), 0)


def troubles(seed: int) -> World:
    faults = Faults(drop=0.005, double=0.01, delay_s=0.02, reorder=True) if seed % 4 == 0 else Faults()
    return replay(600_000 + seed, faults, 6)


def storms(seed: int) -> World:
    return replay(2 * (700_000 + seed) + 1, Faults(), 25)


def doubled(seed: int) -> World:
    return replay(2 * (750_000 + seed) + 1, Faults(), 3, doubled=True)


def test_without_faults_nothing_is_adopted_and_everything_runs_once() -> None:
    for seed in range(SEEDS // 6):
        world = quiet(seed)
        assert not list(world.again()) and not world.robbed
        assert not any(site.router.machine.counters["adopted"] for site in world.sites.values() if site.router)


def test_what_any_router_accepts_ends_once_whatever_becomes_of_it() -> None:
    for seed in range(SEEDS // 6):
        troubles(seed)


def test_of_routers_that_are_lost_and_return_none_runs_what_another_adopted() -> None:
    for seed in range(SEEDS // 6):
        storms(seed)
        doubled(seed)


def with_two_routers(seed: int) -> tuple[World, ClientNode, Peer, Peer]:
    """Two routers that share a store, two workers, and a client; its home, and the other router."""
    world = World(seed, Faults(), routers=2, shared=True)
    client = world.add_client()
    for _ in range(2):
        world.add_worker()
    world.run(1.0)
    home = client.machine.home
    assert home is not None
    (other,) = set(world.sites) - {home}
    return world, client, home, other


@pytest.mark.parametrize("kind", ["slow", "once"])
def test_what_workers_run_for_a_router_that_is_lost_for_good_runs_once_and_is_told(kind: str) -> None:
    world, client, home, _ = with_two_routers(1)
    ids = client.submit(4, TaskOptions(kind, at_most_once=kind == "once"))
    world.run(2.0)
    world.crash_router(home, for_good=True)
    crashed_at = world.now_s
    more = client.submit(3, TaskOptions("work"))
    world.run(30.0, stop=lambda: set(ids + more) <= set(world.outcomes))
    assert set(ids + more) <= set(world.outcomes), world.situation()
    assert world.now_s - crashed_at < 8.0
    assert {world.runs.get(task_id) for task_id in ids} == {1}
    world.run(60.0)
    world.check()
    assert world.drained()


def test_a_router_that_is_held_up_past_its_lock_learns_it_and_goes_on_with_nothing() -> None:
    world, client, home, other = with_two_routers(2)
    for worker in list(world.workers):
        world.crash_worker(worker)
    ids = client.submit(30, TaskOptions("work"))
    world.run(2.0)
    world.pause_router(home, 8.0)
    world.run(9.0)
    adopter = world.sites[other].router
    assert adopter is not None and adopter.machine.counters["adopted"] == 30
    world.run(12.0)
    router = world.sites[home].router
    assert world.robbed == 1 and router is not None and not router.machine.table.tasks
    world.add_worker()
    world.run(40.0)
    assert set(ids) <= set(world.outcomes)
    assert {world.runs.get(task_id) for task_id in ids} == {1}
    world.check()


def test_a_router_that_is_held_up_for_four_seconds_keeps_its_journal() -> None:
    for seed in range(3, 8):
        world, client, home, _ = with_two_routers(seed)
        client.submit(30, TaskOptions("work"))
        world.run(2.0 + 0.07 * seed)
        world.pause_router(home, 4.0)
        world.run(40.0)
        assert not world.robbed and world.drained()
        world.check()


def test_an_adopter_that_is_lost_in_the_middle_loses_nothing() -> None:
    world, client, home, other = with_two_routers(9)
    for worker in list(world.workers):
        world.crash_worker(worker)
    ids = [task_id for _ in range(30) for task_id in client.submit(1, TaskOptions("work"))]
    world.run(2.0)
    world.add_router("process")
    third = list(world.sites)[-1]
    world.crash_router(home, for_good=True)
    adopters = (other, third)

    def in_the_middle() -> bool:
        return any(0 < r.machine.counters["adopted"] < 30 for p in adopters if (r := world.sites[p].router))

    world.run(10.0, stop=in_the_middle)
    assert in_the_middle()
    first = next(p for p in adopters if world.sites[p].router.machine.counters["adopted"])  # type: ignore[union-attr]
    world.crash_router(first, for_good=True)
    world.add_worker()
    world.run(60.0)
    assert set(ids) <= set(world.outcomes), world.situation()
    assert {world.runs.get(task_id) for task_id in ids} == {1}
    world.check()


@pytest.mark.deep
@pytest.mark.timeout(400)
@pytest.mark.parametrize("block", range(8))
@pytest.mark.parametrize("history", [quiet, troubles, storms, doubled])
def test_the_same_holds_for_more_histories(history: Callable[[int], World], block: int) -> None:
    for seed in range(SEEDS // 6, SEEDS + MANY // 50)[block::8]:
        history(seed)
