"""Says what goes wrong again and again a few times, and then how often: a stranger must not fill the log."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from logging import INFO, WARNING

FIRST = 5  # of a kind that are said one by one
PAUSE_S = 60.0  # between two lines about the rest


@dataclass(slots=True)
class _Kind:
    level: int
    said: int = 0
    held_back: int = 0
    last: str = ""  # of those held back
    say_at: float = 0.0


class Complaints:
    """What is told by kind, for one log. Times are monotonic seconds; ``due`` is to be called every second or so."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._kinds: dict[str, _Kind] = {}

    def add(self, kind: str, text: str, now: float, *, is_wrong: bool = True) -> None:
        """``text`` is one more of its kind; what is not wrong is told as a fact."""
        known = self._kinds.setdefault(kind, _Kind(WARNING if is_wrong else INFO))
        if known.said < FIRST:
            known.said += 1
            known.say_at = now + PAUSE_S
            self._log.log(known.level, "%s", text)
        else:
            known.held_back += 1
            known.last = text

    def over(self, kind: str) -> None:
        """It is over, and somebody says so: nothing more is said of it, and of the next time one line at once."""
        known = self._kinds.get(kind)
        if known is not None:
            known.said, known.held_back = FIRST - 1, 0

    def due(self, now: float) -> None:
        """Say what was held back for long enough, whether or not more has come."""
        for kind in self._kinds.values():
            if kind.held_back and now >= kind.say_at:
                text = "%s (the last of %d like it since the last line about them)"
                self._log.log(kind.level, text, kind.last, kind.held_back)
                kind.held_back = 0
                kind.say_at = now + PAUSE_S
