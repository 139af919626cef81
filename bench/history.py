"""What was measured before: one line of JSON for each recorded run, in a file for each scenario.

Only medians and ratios are kept, with the commit, and what must be the same for two lines to be compared.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench.checkout import is_checkout
from bench.diff import change_in_percent, verdict
from bench.report import Report
from mesh.errors import ConfigError

DIRECTORY = Path(__file__).parent / "history"
MACHINE = ("cpu", "cpus", "memory_gib", "kernel", "python", "load_before", "file_system", "fdatasync_us")
OF_THE_COMMIT = ("mesh", "floor")  # defaults that a commit may change: what that does is to be seen
UNKNOWN = "unknown"
BUT_HISTORY = ("--", ":(top)", ":(top,exclude)bench/history")
"""What was recorded since the commit does not change what is measured."""

EARLIER_MAX = 10
"""So many earlier runs are what the latest is held against."""

EARLIER_MIN = 2
"""Fewer say nothing of how much a figure comes and goes by itself."""

REGRESSION_PERCENT = 10.0
"""A change for the worse is pointed out from here on; smaller ones come and go on most machines."""

Medians = dict[str, tuple[float, str]]
"""Figures with their units."""


@dataclass(frozen=True)
class Entry:
    """One recorded run; ``figures`` are medians, each with its unit."""

    date: str
    commit: str
    scenario: str
    machine: dict[str, Any]
    settings: dict[str, Any]
    figures: Medians
    ratios: dict[str, float]

    def comparable(self, other: Entry) -> bool:
        """Whether both were measured on such a machine and with such settings that a difference says something."""
        same_machine = all(self.machine.get(name) == other.machine.get(name) for name in ("cpu", "cpus", "python"))
        return same_machine and self.settings == other.settings


@dataclass(frozen=True)
class Trend:
    """One figure or ratio over the comparable runs; ``values`` end with the latest."""

    name: str
    unit: str
    values: list[float]

    @property
    def earlier(self) -> float | None:
        before = self.values[-1 - EARLIER_MAX : -1]
        return median(before) if before else None

    @property
    def percent(self) -> float | None:
        return None if self.earlier is None else change_in_percent(self.earlier, self.values[-1])

    @property
    def regressed(self) -> bool:
        """Clearly worse than the median of those before, and worse than each of them."""
        *before, latest = self.values[-1 - EARLIER_MAX :]
        if len(before) < EARLIER_MIN or self.percent is None or abs(self.percent) < REGRESSION_PERCENT:
            return False
        return all(verdict(self.unit, one, latest) == "worse" for one in before)


def entry(report: Report, date: str, commit: str) -> Entry:
    """What is kept of a report."""
    return Entry(
        date,
        commit,
        report.scenario,
        {name: report.machine.get(name) for name in MACHINE},
        {name: value for name, value in report.settings.items() if name not in OF_THE_COMMIT},
        {name: (found.median, found.unit) for name, found in report.figures.items()},
        dict(report.ratios),
    )


def trends(entries: Sequence[Entry]) -> list[Trend]:
    """Each figure, then each ratio, of the latest run, over the runs that compare with it."""
    latest = entries[-1]
    alike = [one for one in entries if one.comparable(latest)]
    found = [
        Trend(name, unit, [one.figures[name][0] for one in alike if name in one.figures])
        for name, (_, unit) in latest.figures.items()
    ]
    found += [Trend(name, "x", [one.ratios[name] for one in alike if name in one.ratios]) for name in latest.ratios]
    return found


def path_of(scenario: str, directory: Path = DIRECTORY) -> Path:
    return directory / f"{scenario}.jsonl"


def check_recordable(directory: Path = DIRECTORY) -> None:
    """Look before the measurement whether a line can be added. Raises ``ConfigError``."""
    if not is_checkout():
        raise ConfigError("--record adds to the history in a checkout of the project, and this is an installed package")
    for path in (directory, *directory.glob("*.jsonl")):
        if not os.access(path, os.W_OK):
            raise ConfigError(f"{path} cannot be written, so nothing can be recorded")


def record(report: Report, date: str, directory: Path = DIRECTORY) -> Path:
    """Add a line for this report. Raises ``ConfigError`` where it cannot be written."""
    path = path_of(report.scenario, directory)
    line = json.dumps(asdict(entry(report, date, current_commit())))
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(line + "\n")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error}") from None
    return path


def read(scenario: str, directory: Path = DIRECTORY) -> list[Entry]:
    """All lines, oldest first. Raises ``ConfigError`` when there are none, or one is damaged."""
    path = path_of(scenario, directory)
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        there = ", ".join(sorted(found.stem for found in directory.glob("*.jsonl"))) or "none"
        raise ConfigError(
            f"nothing is recorded of {scenario} (recorded: {there}): `mesh bench {scenario} --record`"
        ) from None
    found = [_entry(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise ConfigError(f"{path} is empty: `mesh bench {scenario} --record`")
    return found


def _entry(line: str, place: str) -> Entry:
    try:
        kept = json.loads(line)
        kept["figures"] = {name: (float(value), str(unit)) for name, (value, unit) in kept["figures"].items()}
        return Entry(**kept)
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{place} is not a recorded run: {error}") from None


def current_commit() -> str:
    """The commit of the checkout, with ``+`` if files were changed since; ``unknown`` outside of one."""
    commit = _git("rev-parse", "--short", "HEAD")
    if not commit:
        return UNKNOWN
    return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no", *BUT_HISTORY) else "")


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def sparkline(values: Iterable[float]) -> str:
    """The values as a line of small blocks, the least and the most as low and high as it goes."""
    drawn = list(values)
    low, high = min(drawn), max(drawn)
    if high == low:
        return "▄" * len(drawn)
    return "".join("▁▂▃▄▅▆▇█"[round((value - low) / (high - low) * 7)] for value in drawn)
