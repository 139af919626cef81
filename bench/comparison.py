"""The figures of a comparison as a table of entrants, from a report alone. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.figures import Figure


@dataclass(frozen=True)
class Measure:
    """One column: what figures are called behind the name of the entrant, and what people read."""

    suffix: str
    heading: str
    unit: str
    title: str
    ratio: str = ""
    """How the ratio of ours to theirs begins; none where there is none."""

    @property
    def more_is_better(self) -> bool:
        return self.unit.endswith("/s")


MEASURES = (
    Measure("tasks_per_s", "one by one", "tasks/s", "No-op tasks submitted one by one, until the last result", "to"),
    Measure("bulk_tasks_per_s", "in bulk", "tasks/s", "No-op tasks, the entrant's own way for many", "bulk_to"),
    Measure("cpu_us", "cpu", "us/task", "Processor time per task of all processes, one by one", "cpu_to"),
    Measure("p50_us", "p50", "us", "One task there and back, median", "p50_to"),
    Measure("p99_us", "p99", "us", "One task there and back, 99th percentile", "p99_to"),
    Measure("echo_mib_per_s", "echo", "MiB/s", "1 MiB of bytes there and back, one after the other", "echo_to"),
    Measure("mixed_to_ideal", "mixed", "x ideal", "190 tasks of 2 ms and 10 of 100 ms: time against the ideal"),
)


@dataclass(frozen=True)
class Row:
    """One entrant; ``cells`` in the order of ``MEASURES``, ``facts``: versions and settings."""

    name: str
    cells: tuple[Figure | None, ...]
    facts: Mapping[str, Any]

    def lines(self) -> list[str]:
        """What was run with which settings, as people read it."""
        what = [f"{package} {version}" for package, version in self.facts.get("versions", {}).items()]
        what += [self.facts["redis"]] if "redis" in self.facts else []
        settings = [f"{name}: {value}" for name, value in self.facts.get("settings", {}).items()]
        counts = [f"{count:,} of {name}" for name, count in self.facts.get("tasks", {}).items() if count]
        ran = [f"in a run: {', '.join(counts)}"] if counts else []
        return [line for line in (", ".join(what), *settings, *ran) if line]


def key_of(name: str) -> str:
    """The name of an entrant, as it stands in those of its figures, ratios and distributions."""
    return name.replace("-", "_")


def rows(figures: Mapping[str, Figure], settings: Mapping[str, Any]) -> list[Row]:
    """The entrants that took turns, in that order; who failed has no figures, for others had more turns."""
    entrants, failed = settings.get("entrants", {}), settings.get("failed", {})
    found = []
    for name in dict.fromkeys((*entrants, *failed)):
        values = (figures.get(f"{key_of(name)}_{measure.suffix}") for measure in MEASURES)
        cells = tuple(None if name in failed else value for value in values)
        if any(cells) or name in failed:
            found.append(Row(name, cells, entrants.get(name, {})))
    return found


def absent(settings: Mapping[str, Any]) -> dict[str, str]:
    """Who has no figures, or not all, and why."""
    failed = {name: f"failed: {why}" for name, why in settings.get("failed", {}).items()}
    no_way = {
        f"{name}, in bulk": facts["settings"].get("in bulk", "it has no way of its own")
        for name, facts in settings.get("entrants", {}).items()
        if facts.get("tasks", {}).get("bulk") == 0 and name not in failed
    }
    return {**settings.get("not_installed", {}), **failed, **no_way}


def is_comparison(figures: Mapping[str, Figure], settings: Mapping[str, Any]) -> bool:
    return bool(rows(figures, settings))
