"""Seeded histories of meshes with several routers: what one has accepted ends, whatever becomes of that one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mesh.core.worker import WorkerMachine
from mesh.model import Peer, TaskOptions
from tests.sim.test_world import MANY, SEEDS, Story
from tests.sim.world import ClientNode, Faults, Site, World


class SeveralRouters(Story):
    """Besides what happens to one router: routers stay away, some for good, and nodes cannot reach some of them."""

    def __init__(self, seed: int, faults: Faults, *, shared: bool = False) -> None:
        super().__init__(seed, faults, routers=2 + seed % 2, shared=shared)
        if self.rng.random() < 0.3 and not shared:
            self.world.add_router("memory")

    def submit(self) -> None:
        rng, client = self.rng, self.rng.choice(self.clients)
        super().submit()
        if rng.random() < 0.2 and client.submitted:
            ids = sorted(client.submitted)
            rng.choice(self.clients).watch(rng.sample(ids, k=min(len(ids), 5)))

    def trouble(self) -> None:
        rng, world = self.rng, self.world
        what = rng.random()
        site = rng.choice(list(world.sites.values()))
        if what < 0.25:
            self.crash(site)
        elif what < 0.27:
            world.add_router("process")
        elif what < 0.35:
            self.lose_an_answer()
        elif what < 0.39 and site.router is not None:
            store = site.router.store
            store.is_away = True
            world.after(rng.uniform(0.1, 2.0), lambda: setattr(store, "is_away", False))
        elif what < 0.42:
            site.store.room = lambda: False
            world.after(rng.uniform(0.1, 2.0), lambda: setattr(site.store, "room", lambda: True))
        elif what < 0.55 and world.workers:
            world.crash_worker(rng.choice(world.workers))
            world.after(rng.uniform(0, 1), self.add_worker)
        elif what < 0.7:
            world.cut_connection(rng.choice(world.nodes), site.peer)
        elif what < 0.85:
            nodes = [node for node in world.nodes if rng.random() < 0.5]
            routers = [peer for peer in world.sites if rng.random() < 0.5]
            until_s = world.now_s + rng.choice([0.5, 2.0, 6.0, 20.0])
            world.part(nodes, routers, until_s, deaf=rng.random() < 0.3)
        elif what < 0.9 and world.workers:
            rng.choice(world.workers).stop()
            self.add_worker()
        elif world.workers:
            rng.choice(world.workers).crash_executor()

    def lose_an_answer(self) -> None:
        """A client is not told that its tasks are accepted, for its home cannot tell it, or is gone just then."""
        rng, world = self.rng, self.world
        client = rng.choice(self.clients)
        home = client.machine.home
        if home is None:
            return
        for _ in range(3):
            client.submit(rng.choice([1, 4]), TaskOptions(rng.choice(["slow", "work", "retries", "kills", "once"])))
        if rng.random() < 0.5:
            world.part([client], [home], world.now_s + rng.choice([2.0, 6.0, 20.0]), deaf=True)
        else:
            world.after(rng.uniform(0.001, 0.02), lambda: self.crash(world.sites[home]))

    def give_to_two(self) -> None:
        """Two routers have the same tasks, and both crash."""
        rng, world = self.rng, self.world
        client = rng.choice(self.clients)
        first = client.machine.home
        if first is None:
            return
        client.submit(30, TaskOptions(rng.choice(["work", "slow", "retries", "once"])))
        world.part([client], [first], world.now_s + 6.0, deaf=True)
        world.after(rng.uniform(3.0, 6.0), lambda: self.crash_both(first, client.machine.home))

    def crash_both(self, first: Peer, second: Peer | None) -> None:
        for peer in dict.fromkeys((first, second)):
            if peer is not None:
                self.crash(self.world.sites[peer])

    def crash(self, site: Site) -> None:
        rng, world = self.rng, self.world
        if site.router is None:
            return
        others = [other for other in world.sites.values() if other is not site and not other.gone]
        in_memory = site.level == "memory"
        for_good = rng.random() < 0.15 and bool(others)
        world.crash_router(site.peer, for_good=for_good or in_memory)
        if not for_good:
            again = (lambda: world.add_router("memory")) if in_memory else (lambda: world.start_router(site.peer))
            world.after(rng.choice([0.01, 0.3, 2.0, 5.0, 20.0]), again)


def play(seed: int, faults: Faults, *, troubles: int, doubled: bool = False) -> World:
    return play_out(SeveralRouters(seed, faults), troubles=troubles, doubled=doubled)


def play_out(story: SeveralRouters, *, troubles: int, doubled: bool = False) -> World:
    """One history: faults for 12 s, then none but routers that return late, and all must drain."""
    rng, world = story.rng, story.world
    for _ in range(rng.randint(5, 20)):
        world.at(rng.uniform(0, 8), story.submit)
    for _ in range(rng.randint(1, troubles) if troubles else 0):
        world.at(rng.uniform(0.2, 10), story.trouble)
    if doubled:
        world.at(rng.uniform(0.2, 4), story.give_to_two)
    world.run(12.0)
    world.faults = Faults()
    for site in world.sites.values():
        site.store.room = lambda: True
    if not world.workers:
        world.add_worker()
    world.run(33.0)  # all that returns has returned, and what parts nodes is over
    world.run(900.0, stop=world.drained)
    assert world.drained(), "did not drain: " + world.situation()
    world.run(world.now_s + 10.0)  # what is told late
    world.check()
    check_nothing_is_left(world)
    return world


def check_nothing_is_left(world: World) -> None:
    """Nobody holds anything, or waits for anything."""
    for site in world.sites.values():
        assert site.router is None or not site.router.machine.table.limbo
    for worker in world.workers:
        machine: WorkerMachine = worker.machine
        assert not machine.held, f"{worker.name} holds {sorted(machine.held)}"
        gone = {site.peer for site in world.sites.values() if site.gone}
        owed = [peer for peer, router in machine.routers.items() if router.owed and peer not in gone]
        assert not owed, f"{worker.name} owes {owed}"
        twins = [one.delivery.id for peer in world.sites for one in machine._twins.of(peer)]
        assert not twins, f"{worker.name} holds twins: {twins}"


def replay(seed: int, faults: Faults, troubles: int, *, doubled: bool = False) -> World:
    try:
        return play(seed, faults, troubles=troubles, doubled=doubled)
    except Exception:
        print(f"\nrun it again with play({seed}, {faults}, troubles={troubles}, doubled={doubled})")
        raise


def quiet(seed: int) -> World:
    return replay(seed, Faults(), 0)


def bad_network(seed: int) -> World:
    return replay(200_000 + seed, Faults(drop=0.01, double=0.01, delay_s=0.05, reorder=seed % 2 == 0), 0)


def troubles(seed: int) -> World:
    faults = Faults(drop=0.005, double=0.01, delay_s=0.02, reorder=True) if seed % 4 == 0 else Faults()
    return replay(300_000 + seed, faults, 6)


def storms(seed: int) -> World:
    return replay(2 * (200_000 + seed) + 1, Faults(), 25)


def doubled(seed: int) -> World:
    return replay(2 * (250_000 + seed) + 1, Faults(), 3, doubled=True)


def test_what_any_router_accepts_ends_once_whatever_becomes_of_routers_and_nodes() -> None:
    for seed in range(SEEDS // 6):
        troubles(seed)


def test_of_routers_that_all_crash_none_waits_for_another_for_ever() -> None:
    for seed in range(SEEDS // 6):
        storms(seed)
        doubled(seed)


def with_two_routers(seed: int) -> tuple[World, ClientNode]:
    """Two routers, two workers and a client, which all know each other."""
    world = World(seed, Faults(), routers=2)
    client = world.add_client()
    for _ in range(2):
        world.add_worker()
    world.run(1.0)
    return world, client


def test_what_is_at_most_once_by_its_definition_runs_once_where_two_routers_are_given_it() -> None:
    world, client = with_two_routers(1)
    home = client.machine.home
    assert home is not None
    world.part([client], [home], 20.0, deaf=True)
    ids = client.submit(20, TaskOptions("once"))
    world.run(60.0)
    assert world.drained(), world.situation()
    world.check()
    assert {world.runs.get(task_id) for task_id in ids} == {1}
    assert all(site.has(task_id) for site in world.sites.values() for task_id in ids), "one router was not given it"


def test_the_router_that_did_not_answer_tells_of_what_one_that_is_gone_for_good_had_accepted() -> None:
    world, client = with_two_routers(2)
    first = client.machine.home
    assert first is not None
    world.part([client], [first], 20.0, deaf=True)
    for worker in list(world.workers):
        world.crash_worker(worker)
    ids = client.submit(5, TaskOptions("work"))
    world.run(10.0)
    second = client.machine.home
    assert second is not None and second != first
    world.crash_router(second, for_good=True)
    world.add_worker()
    forgotten_at = world.now_s + world.settings.router_ttl_s
    world.run(forgotten_at - 1.0, stop=lambda: not client.machine.waiting)
    assert set(ids) <= set(world.outcomes)


def test_without_faults_everything_runs_once_whichever_router_has_it() -> None:
    for seed in range(SEEDS // 6):
        assert not list(quiet(seed).again())


def test_a_bad_network_to_several_routers_loses_nothing() -> None:
    for seed in range(SEEDS // 6):
        bad_network(seed)


@pytest.mark.deep
@pytest.mark.timeout(400)
@pytest.mark.parametrize("block", range(8))
@pytest.mark.parametrize("history", [quiet, bad_network, troubles, storms, doubled])
def test_the_same_holds_for_more_histories(history: Callable[[int], World], block: int) -> None:
    for seed in range(SEEDS // 6, SEEDS + MANY // 50)[block::8]:  # each takes as long as twenty of one router
        history(seed)
