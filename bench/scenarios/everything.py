"""Every scenario, one after the other; one that fails does not keep the others from being run."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from rich.console import Console

from bench.machine import describe
from bench.progress import Runs
from bench.report import Report, show_all
from bench.scenarios.catalog import CATALOG
from bench.scenarios.directory import scratch_directory
from mesh.errors import MeshError


@dataclass
class Everything:
    """What all scenarios found, and by name why some of them found nothing, or were not to be run here."""

    quick: bool
    machine: dict[str, Any]
    reports: list[Report] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    interruption: BaseException | None = None
    """What broke it off; those that were finished by then are reported all the same."""

    def to_json(self) -> str:
        """One object: each report as ``--json`` of its scenario prints it, in ``reports``."""
        content = {
            "scenario": "all",
            "settings": {"quick": self.quick, "seconds": self.seconds},
            "machine": self.machine,
            "reports": [report.to_dict() for report in self.reports],
            "failed": self.failed,
            "left_out": self.left_out,
        }
        return json.dumps(content, indent=2)

    def show(self, console: Console) -> None:
        """The table of each scenario under its name."""
        show_all(self.reports, console)
        for name, why in self.left_out.items():
            console.print(f"{name} was left out: {why}", highlight=False, soft_wrap=True)
        for name, why in self.failed.items():
            console.print(f"{name} failed: {why}", highlight=False, soft_wrap=True)
        console.print(self.took(), highlight=False, soft_wrap=True)

    def what_was_kept(self) -> str:
        """Of a run that was broken off, in a line."""
        *_, broken_off = self.failed
        kept = ", ".join(report.scenario for report in self.reports)
        return f"{broken_off} was broken off, and what was to follow left out; kept: {kept or 'nothing'}"

    def took(self) -> str:
        """How many seconds, and for which of them."""
        total = sum(self.seconds.values())
        each = ", ".join(f"{name} {seconds:.0f}" for name, seconds in self.seconds.items())
        return f"{total:.0f} s in all: {each}"


def run_all(quick: bool, console: Console) -> Everything:
    """Run them in the order of the catalog; ``console`` shows the progress."""
    with scratch_directory() as directory:
        found = Everything(quick, describe(directory))
    for number, scenario in enumerate(CATALOG, 1):
        console.print(f"scenario {number} of {len(CATALOG)}: {scenario.name}", highlight=False)
        if (why := scenario.missing()) is not None:
            found.left_out[scenario.name] = why
            continue
        began = monotonic()
        try:
            with Runs(console) as runs:
                report = scenario.run(scenario.plan(quick=quick), runs).of_a_run(quick)
        except MeshError as error:
            found.failed[scenario.name] = str(error)
        except (KeyboardInterrupt, SystemExit) as error:
            found.failed[scenario.name] = "broken off"
            found.interruption = error
            break
        else:
            # What the machine did by now is what the scenarios before have left, and no other work.
            report.machine["load_before"] = found.machine["load_before"]
            found.reports.append(report)
        found.seconds[scenario.name] = round(monotonic() - began, 1)
    return found
