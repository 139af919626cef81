"""What a check found: how bad it is, what it is about, and what to do."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

JOIN = "on the router's machine, type `mesh key show --secret`; here, `mesh join --force KEY`"


class Grade(enum.StrEnum):
    OK = "ok"
    WARNING = "warning"  # it works, and something will be missed
    FAILURE = "failure"  # something does not work


@dataclass(frozen=True, slots=True)
class Finding:
    """``check`` is one word of docs/LAN.md; ``advice`` is what to do, empty where nothing is to be done."""

    check: str
    grade: Grade
    text: str
    advice: str = ""


def ok(check: str, text: str) -> Finding:
    return Finding(check, Grade.OK, text)


def warning(check: str, text: str, advice: str = "") -> Finding:
    return Finding(check, Grade.WARNING, text, advice)


def failure(check: str, text: str, advice: str = "") -> Finding:
    return Finding(check, Grade.FAILURE, text, advice)


def counts(findings: Sequence[Finding]) -> dict[Grade, int]:
    """How many there are of each grade."""
    return {grade: sum(finding.grade is grade for finding in findings) for grade in Grade}


def exit_code(findings: Sequence[Finding]) -> int:
    """1 where anything failed."""
    return int(counts(findings)[Grade.FAILURE] > 0)
