"""Two reports of the same scenario, figure by figure: what changed, and what is noise. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.figures import Figure
from bench.report import Report
from mesh.errors import ConfigError

NOISE = "noise"
"""The ranges of the runs overlap: another pair of measurements may say the opposite."""

RUNS_MIN = 3
"""Fewer runs do not show how much a figure comes and goes, so their ranges say nothing."""


@dataclass(frozen=True)
class Change:
    """One figure in both; ``percent``: from the first to the second, none where the first is zero.

    ``judged``: whether there are enough runs for a verdict.
    """

    name: str
    unit: str
    before: Figure
    after: Figure
    judged: bool = True

    @property
    def percent(self) -> float | None:
        return change_in_percent(self.before.median, self.after.median)

    @property
    def overlap(self) -> bool:
        return self.before.min <= self.after.max and self.after.min <= self.before.max

    @property
    def verdict(self) -> str | None:
        """``noise``, ``better``, ``worse``; ``differs`` where the unit does not say which is better."""
        if not self.judged:
            return None
        return NOISE if self.overlap else verdict(self.unit, self.before.median, self.after.median)


@dataclass(frozen=True)
class RatioChange:
    name: str
    before: float
    after: float

    @property
    def percent(self) -> float | None:
        return change_in_percent(self.before, self.after)


@dataclass(frozen=True)
class Diff:
    """``only_before``, ``only_after``: figures and ratios the other has not; ``conditions``: other conditions.

    ``runs``: how many each of the two is made of; ``caveats``: those of both.
    """

    scenario: str
    changes: list[Change]
    ratios: list[RatioChange]
    only_before: list[str]
    only_after: list[str]
    conditions: dict[str, tuple[Any, Any]]
    runs: tuple[int, int]
    caveats: list[str]

    def to_dict(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        return {
            "scenario": self.scenario,
            "figures": {
                change.name: {
                    "unit": change.unit,
                    "before": change.before.median,
                    "after": change.after.median,
                    "percent": change.percent,
                    "overlap": change.overlap,
                    "verdict": change.verdict,
                }
                for change in self.changes
            },
            "ratios": {ratio.name: {**asdict(ratio), "percent": ratio.percent} for ratio in self.ratios},
            "only_before": self.only_before,
            "only_after": self.only_after,
            "conditions": {name: list(pair) for name, pair in self.conditions.items()},
            "runs": list(self.runs),
            "caveats": self.caveats,
        }


def diff(before: Report, after: Report) -> Diff:
    """Raises ``ConfigError`` when they are of different scenarios."""
    if before.scenario != after.scenario:
        raise ConfigError(f"one is of {before.scenario}, the other of {after.scenario}: only the same can be compared")
    both = [name for name in before.figures if name in after.figures]
    runs = _runs(before), _runs(after)
    judged = enough(runs)
    changes = [
        Change(name, before.figures[name].unit, before.figures[name], after.figures[name], judged) for name in both
    ]
    ratios = [
        RatioChange(name, before.ratios[name], after.ratios[name]) for name in before.ratios if name in after.ratios
    ]
    return Diff(
        before.scenario,
        changes,
        ratios,
        _missing(before, after),
        _missing(after, before),
        conditions(before, after),
        runs,
        [f"the {which}: {one}" for which, side in (("first", before), ("second", after)) for one in side.caveats],
    )


def enough(runs: Sequence[int]) -> bool:
    """Whether so many runs on each side allow a verdict."""
    return min(runs) >= RUNS_MIN


def pairs(before: Sequence[Report], after: Sequence[Report]) -> list[Diff]:
    """The same for files with one report each, or with several, scenario by scenario."""
    if len(before) == len(after) == 1:
        return [diff(before[0], after[0])]
    later = {report.scenario: report for report in after}
    found = [diff(report, later[report.scenario]) for report in before if report.scenario in later]
    if not found:
        names = ", ".join(report.scenario for report in before), ", ".join(later)
        raise ConfigError(f"one has {names[0]}, the other {names[1]}: no scenario is in both")
    return found


def conditions(before: Report, after: Report) -> dict[str, tuple[Any, Any]]:
    """Settings and facts of the machine that are not the same, apart from how busy it was."""
    found = {}
    for title, one, other in (
        ("setting", before.settings, after.settings),
        ("machine", before.machine, after.machine),
    ):
        for name in dict.fromkeys([*one, *other]):
            if name not in VARYING and one.get(name) != other.get(name):
                found[f"{title} {name}"] = (one.get(name), other.get(name))
    return found


VARYING = ("load_before", "fdatasync_us", "entrants", "failed", "not_installed")
"""What is never the same twice, or is a matter of its own."""


def change_in_percent(before: float, after: float) -> float | None:
    return (after - before) / abs(before) * 100 if before else None


def verdict(unit: str, before: float, after: float) -> str:
    """Whether more of this unit is better: of rates it is, of times and sizes it is not."""
    if before == after:
        return NOISE
    if unit.endswith("/s"):
        return "better" if after > before else "worse"
    if unit.split("/")[0] in LESS_IS_BETTER:
        return "better" if after < before else "worse"
    return "differs"


LESS_IS_BETTER = ("us", "ms", "s", "bytes", "KiB", "MiB", "GiB", "x ideal", "%", "percent")


def _runs(report: Report) -> int:
    """How many runs its figures are made of; 0 where it does not say."""
    runs = report.settings.get("runs")
    return runs if isinstance(runs, int) else 0


def _missing(here: Report, there: Report) -> list[str]:
    mine: Mapping[str, object] = {**here.figures, **here.ratios}
    return [name for name in mine if name not in there.figures and name not in there.ratios]
