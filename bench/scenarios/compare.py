"""The mesh and other entrants, with the same work, on this machine, in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.comparison import MEASURES, key_of
from bench.figures import left_out, paired_ratio
from bench.machine import describe
from bench.peers.catalog import ENTRANTS, Entrant, not_installed
from bench.peers.running import RunningEntrant, running_entrant
from bench.progress import Runs
from bench.redis_server import find_server
from bench.report import Report
from bench.scenarios.directory import scratch_directory
from mesh.errors import ConfigError, MeshError

LONG_ENOUGH = 0.25
"""Part of the wanted time. A shorter try says little: who moves tasks in batches, or polls, is not at its pace yet."""


@dataclass(frozen=True)
class Part:
    """One measurement: how much of it a first try has, and the bounds of how much is measured."""

    what: str
    first: int
    least: int
    most: int


PARTS = {
    part.what: part
    for part in (
        Part("tasks", 200, 100, 200_000),
        Part("bulk", 500, 100, 200_000),
        Part("latency", 50, 200, 5_000),
        Part("echo", 5, 10, 1_000),
        Part("mixed", 1, 1, 1),
    )
}


PERCENTILES = ("p50_us", "p99_us")


@dataclass(frozen=True)
class Comparison:
    """``seconds``: about how long each measurement lasts; how many tasks that are is found out for each entrant."""

    names: Sequence[str]
    runs: int
    seconds: float
    workers: int
    level: str
    redis_level: str
    parts: Sequence[str] = tuple(PARTS)


@dataclass
class State:
    """``counts``: how much of what each entrant is given; ``failed``: who takes no further turn, and why."""

    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    stated: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def run_compare(plan: Comparison, runs: Runs) -> Report:
    """Entrants take turns; only one of them has processes at a time. Who is not installed, or fails, is named."""
    entrants, missing = _who(plan.names)
    for name, how in missing.items():
        runs.tell(f"{name}: {how}")
    if not entrants:
        raise ConfigError(f"peers are {not_installed()}")
    state = State()
    with scratch_directory() as directory:
        machine = describe(directory)
        for turn in range(plan.runs):
            for entrant in entrants:
                if entrant.name in state.failed:
                    continue
                place = directory / f"{entrant.name}-{turn}"
                try:
                    with running_entrant(
                        entrant, place, workers=plan.workers, level=plan.level, redis_level=plan.redis_level
                    ) as running:
                        _take_turn(running, plan, state, runs)
                except (MeshError, OSError) as error:
                    state.failed[entrant.name] = " ".join(str(error).split())
                    runs.tell(f"{entrant.name}: failed: {state.failed[entrant.name]}")
    settings = {
        "workers": plan.workers,
        "runs": plan.runs,
        "seconds": plan.seconds,
        "level": plan.level,
        "redis_level": plan.redis_level,
        "entrants": {name: {**facts, "tasks": state.counts[name]} for name, facts in state.stated.items()},
        "not_installed": missing,
        "failed": state.failed,
    }
    ratios = _ratios(runs, [entrant for entrant in entrants if entrant.name not in state.failed])
    wanted = [f"{name}_{percentile}" for name in runs.distributions for percentile in PERCENTILES]
    notes = left_out(wanted, runs.figures)
    return Report("compare", settings, machine, runs.figures, ratios, runs.distributions, notes)


def _who(names: Iterable[str]) -> tuple[list[Entrant], dict[str, str]]:
    chosen = [ENTRANTS[name] for name in dict.fromkeys(names)]
    redis = find_server() is not None
    missing = {}
    for entrant in chosen:
        if not entrant.installed:
            missing[entrant.name] = not_installed(entrant.module)
        elif entrant.redis and not redis:
            missing[entrant.name] = "no Redis server is installed: `make bench-peers` says how"
    return [entrant for entrant in chosen if entrant.name not in missing], missing


def _take_turn(running: RunningEntrant, plan: Comparison, state: State, runs: Runs) -> None:
    entrant = running.entrant
    state.stated.setdefault(entrant.name, running.stated)
    counts = state.counts.setdefault(entrant.name, {})
    for name in plan.parts:
        part = PARTS[name]
        if name not in counts:
            counts[name] = how_many(part, plan.seconds, running.measure)
        if counts[name]:
            KEEP[name](key_of(entrant.name), running.measure(name, counts[name]), runs)


def how_many(part: Part, seconds: float, measure: Callable[[str, int], Mapping[str, Any]]) -> int:
    """How much lasts about so long: tries grow until one is long enough to tell. 0 where nothing is measured."""
    count = part.first
    while per_s := measure(part.what, count).get("per_s", 0.0):
        wanted: int = min(part.most, max(part.least, round(per_s * seconds)))
        if wanted <= count or count / per_s >= seconds * LONG_ENOUGH:
            return wanted
        count = wanted
    return 0


def _keep_tasks(key: str, found: dict[str, Any], runs: Runs) -> None:
    runs.add(f"{key}_tasks_per_s", found["per_s"], "tasks/s")
    runs.add(f"{key}_cpu_us", found["cpu_us"], "us/task")


def _keep_bulk(key: str, found: dict[str, Any], runs: Runs) -> None:
    runs.add(f"{key}_bulk_tasks_per_s", found["per_s"], "tasks/s")


def _keep_latency(key: str, found: dict[str, Any], runs: Runs) -> None:
    for name in PERCENTILES:
        if name in found:
            runs.add(f"{key}_{name}", found[name], "us")
    runs.add_distribution(key, found["histogram"], "us")


def _keep_echo(key: str, found: dict[str, Any], runs: Runs) -> None:
    runs.add(f"{key}_echo_mib_per_s", found["per_s"], "MiB/s")


def _keep_mixed(key: str, found: dict[str, Any], runs: Runs) -> None:
    runs.add(f"{key}_mixed_to_ideal", found["to_ideal"], "x ideal")


KEEP: dict[str, Callable[[str, dict[str, Any], Runs], None]] = {
    "tasks": _keep_tasks,
    "bulk": _keep_bulk,
    "latency": _keep_latency,
    "echo": _keep_echo,
    "mixed": _keep_mixed,
}


def _ratios(runs: Runs, entrants: Iterable[Entrant]) -> dict[str, float]:
    """Ours to each other entrant's, turn by turn."""
    found = {}
    for measure in MEASURES:
        ours = runs.values(f"mesh_{measure.suffix}")
        for entrant in entrants:
            key = key_of(entrant.name)
            theirs = runs.values(f"{key}_{measure.suffix}")
            if measure.ratio and ours and theirs and entrant.name != "mesh" and len(ours) == len(theirs):
                found[f"{measure.ratio}_{key}"] = paired_ratio(ours, theirs)
    return found
