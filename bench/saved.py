"""Reports that were printed by ``--json``, read again. What is not a report is refused in one line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.figures import Figure
from bench.report import Distribution, Report
from mesh.errors import ConfigError


def load(path: Path) -> list[Report]:
    """The report in a file, or the reports in a list. Raises ``ConfigError``."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    return parse(text, str(path))


def parse(text: str, source: str) -> list[Report]:
    """The same of text; ``source`` is for the error."""
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{source} is not JSON, as `mesh bench SCENARIO --json` prints it: {error}") from None
    if isinstance(content, dict) and isinstance(content.get("reports"), list):  # as `mesh bench all` prints them
        content = content["reports"]
    found = content if isinstance(content, list) else [content]
    if not found:
        raise ConfigError(f"{source} has no report in it")
    return [_report(one, source) for one in found]


def _report(content: Any, source: str) -> Report:
    try:
        return Report(
            str(content["scenario"]),
            dict(content["settings"]),
            dict(content["machine"]),
            {name: _figure(found) for name, found in content["figures"].items()},
            {name: float(ratio) for name, ratio in content.get("ratios", {}).items()},
            {name: _distribution(found) for name, found in content.get("distributions", {}).items()},
            [str(note) for note in content.get("notes", [])],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{source} is not a report of `mesh bench SCENARIO --json` ({why})") from None


def _figure(found: Mapping[str, Any]) -> Figure:
    return Figure(float(found["median"]), float(found["min"]), float(found["max"]), str(found["unit"]))


def _distribution(found: Mapping[str, Any]) -> Distribution:
    counts = {str(int(bucket)): int(count) for bucket, count in found["counts"].items()}
    return Distribution(str(found["unit"]), counts, int(found["per_decade"]))
