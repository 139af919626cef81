"""Whether more or less is better, and what stands in the names of figures; docs/BENCH.md says the same. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatch

from bench.comparison import MEASURES

MORE, LESS = "more", "less"

RATIOS: dict[str, tuple[tuple[str, str], ...]] = {
    "throughput": (("*cpu_to_*", LESS), ("*", MORE)),
    "latency": (("*", LESS),),
    "payload": (("*", MORE),),
    "backlog": (("*", MORE),),
    "balance": (("*", LESS),),
    "scaling": (("cost_*", LESS), ("nodes_*", MORE)),
    "redis": (("cpu_to_*", LESS), ("*", MORE)),
    "compare": tuple((f"{one.ratio}_*", MORE if one.more_is_better else LESS) for one in MEASURES if one.ratio),
}
"""By scenario: the first pattern that fits the name of a ratio."""

FIGURES = "Of rates (per second) more is better; of times, processor time and memory less."

WORDS = {
    "curve": "with all nodes and the client connected over tcp with encryption",
    "floor": "bare ZeroMQ over the same hops, with none of the promises",
    "map": "by app.map, which chooses its bundles by itself",
}
"""What parts of names mean that do not speak for themselves."""


def better(scenario: str, ratio: str) -> str:
    """``more`` or ``less``; nothing of a ratio that is not known here."""
    return next((side for pattern, side in RATIOS.get(scenario, ()) if fnmatch(ratio, pattern)), "")


def meanings(names: Iterable[str]) -> list[str]:
    """A line for each of the words that these names have in them."""
    parts = {part for name in names for part in name.split("_")}
    return [f"{word}: {meaning}." for word, meaning in WORDS.items() if word in parts]
