"""Turns SIGTERM and SIGINT into a wish to stop, and a second one into a wish to stop at once."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType


class Stopping:
    """``asked`` counts the signals that came; ``wake`` is called for each, to interrupt a wait."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.asked = 0
        self._wake = wake
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.asked += 1
        self._wake()

    def let_go(self) -> None:
        """Nobody looks at ``asked`` any more: a signal ends the process."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
