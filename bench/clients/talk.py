"""The other end of ``bench.processes.Talk``: lines of words come in, lines of JSON go out."""

from __future__ import annotations

import json
import sys
from typing import Any


def answer(found: dict[str, Any]) -> None:
    """Tell something to the measurement."""
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


def word() -> str:
    """What we are told next; empty when there is nothing more to do."""
    return sys.stdin.readline().strip()
