"""Findings for people and for scripts. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.text import Text

from nodes.counts import count_of
from nodes.doctor.findings import Finding, Grade, counts
from nodes.shown import shown_lines

STYLES = {Grade.OK: "green", Grade.WARNING: "yellow", Grade.FAILURE: "bold red"}
_CHECK_WIDTH = 10


def lines(findings: Sequence[Finding]) -> Text:
    """A line for each finding, the advice below it, and the summary."""
    text = Text()
    for finding in findings:
        text.append(f"{finding.grade:<8}", STYLES[finding.grade])
        text.append(f" {finding.check:<{_CHECK_WIDTH}} {shown_lines(finding.text)}\n")
        if finding.advice:
            text.append(f"{'':<8} {'':<{_CHECK_WIDTH}} → {shown_lines(finding.advice)}\n", "bold")
    return text.append(summary(findings))


def summary(findings: Sequence[Finding]) -> str:
    """``14 ok, 1 warning, no failures``."""
    found = counts(findings)
    bad = [
        count_of(found[grade], str(grade)) if found[grade] else f"no {grade}s"
        for grade in (Grade.WARNING, Grade.FAILURE)
    ]
    return ", ".join([f"{found[Grade.OK]} ok", *bad])


def data(mesh: str, findings: Sequence[Finding]) -> dict[str, Any]:
    """One object for scripts."""
    found = counts(findings)
    return {
        "mesh": mesh,
        "ok": not found[Grade.FAILURE],
        "counts": {str(grade): count for grade, count in found.items()},
        "findings": [{"check": f.check, "grade": str(f.grade), "text": f.text, "advice": f.advice} for f in findings],
    }
