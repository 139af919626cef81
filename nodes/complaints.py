"""Says what goes wrong again and again a few times, and then how often: a stranger must not fill the log."""

from __future__ import annotations

import logging

FIRST = 5  # of a kind that are said one by one
PAUSE_S = 60.0  # between two lines about the rest


class Complaints:
    """Warnings by kind, for one log. Times are monotonic seconds."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._said: dict[str, int] = {}
        self._held_back: dict[str, int] = {}
        self._say_at: dict[str, float] = {}

    def add(self, kind: str, text: str, now: float) -> None:
        """``text`` is one more of its kind."""
        said = self._said.get(kind, 0)
        if said < FIRST:
            self._said[kind] = said + 1
            self._say_at[kind] = now + PAUSE_S
            self._log.warning("%s", text)
            return
        self._held_back[kind] = self._held_back.get(kind, 0) + 1
        if now >= self._say_at[kind]:
            count = self._held_back.pop(kind)
            self._say_at[kind] = now + PAUSE_S
            self._log.warning("%s (the last of %d like it since the last line about them)", text, count)
