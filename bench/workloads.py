"""What is given to all entrants alike, and the least time it can take. Pure."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

SHORT_S, LONG_S = 0.002, 0.100
LONG_SHARE = 0.05

KIB, MIB = 1 << 10, 1 << 20
PAYLOADS = {"1kib": KIB, "32kib": 32 * KIB, "1mib": MIB, "10mib": 10 * MIB, "100mib": 100 * MIB}
BULK_BYTES = 256 * MIB  # of one size, echoed in one run in full
AT_ONCE_BYTES = 32 * MIB  # of payloads under way at a time; a larger one travels alone
ECHOES_MAX = 2_000


def mixed(count: int, seed: int = 1) -> list[float]:
    """Seconds that each of ``count`` tasks takes: a few long ones among many short ones, in the same order always."""
    long = max(1, round(count * LONG_SHARE))
    seconds = [LONG_S] * long + [SHORT_S] * (count - long)
    random.Random(seed).shuffle(seconds)
    return seconds


def ideal_makespan(seconds: Sequence[float], speeds: Sequence[float]) -> float:
    """The least time in which slots of these speeds can do tasks that take so long at speed 1.

    All slots busy to the end, but not less than the longest task on the fastest slot.
    """
    if not seconds or not speeds or min(speeds) <= 0:
        raise ValueError(f"{len(seconds)} tasks on slots of speeds {list(speeds)}: give tasks, and speeds above 0")
    return max(sum(seconds) / sum(speeds), max(seconds) / max(speeds))


def echoes(size: int, bulk_bytes: int = BULK_BYTES) -> int:
    """How many payloads of ``size`` bytes are echoed in one run: ``bulk_bytes`` of them, one at the least."""
    return max(1, min(ECHOES_MAX, bulk_bytes // size))


def under_way(size: int) -> int:
    """How many payloads of ``size`` bytes may be on their way at a time."""
    return max(1, AT_ONCE_BYTES // size)


def percent_shares(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Of all that was done between two looks, who did how much; those who did nothing are named too."""
    done = {name: max(0.0, count - before.get(name, 0.0)) for name, count in after.items()}
    total = sum(done.values())
    return {name: 100.0 * count / total if total else 0.0 for name, count in sorted(done.items())}
