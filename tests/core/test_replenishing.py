"""When a machine starts a router because the mesh has too few."""

from __future__ import annotations

import random
from math import inf

from mesh.core.replenishing import SETTLE_S, SPREAD_S, Replenishing

LOWEST, HIGHEST = "0" * 16, "f" * 16


def test_with_enough_routers_none_is_started() -> None:
    one = Replenishing(2, LOWEST)
    assert not any(one.see(2, float(second)) for second in range(1_000))
    assert one.next_deadline() == inf


def test_a_router_that_is_missed_for_a_moment_only_is_not_replaced() -> None:
    one = Replenishing(1, LOWEST)
    assert not one.see(0, 10.0)
    assert one.next_deadline() == 10.0 + SETTLE_S
    assert not one.see(1, 10.0 + SETTLE_S / 2)
    assert not one.see(0, 10.0 + SETTLE_S), "counted anew"


def test_the_machine_with_the_lowest_id_is_first_and_all_have_had_their_turn_in_time() -> None:
    first, last = Replenishing(1, LOWEST), Replenishing(1, HIGHEST)
    assert not first.see(0, 0.0) and not last.see(0, 0.0)
    assert first.see(0, SETTLE_S) and not last.see(0, SETTLE_S)
    assert not first.see(0, SETTLE_S + 1.0), "once"
    assert last.see(0, SETTLE_S + SPREAD_S)


def test_of_many_machines_few_start_one() -> None:
    """Each sees the router of another a moment after it was started."""
    seen_after_s, seed = 0.5, random.randrange(2**32)
    rng = random.Random(seed)
    machines = [Replenishing(1, rng.randbytes(8).hex()) for _ in range(20)]
    started: list[float] = []
    for tick in range(100):
        now = tick / 10
        there = sum(1 for at in started if now >= at + seen_after_s)
        started += [now for machine in machines if machine.see(there, now)]
    assert 1 <= len(started) <= 10, f"seed {seed}: {started}"
