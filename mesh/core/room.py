"""Whether a router's store takes what is new, and why it does not, in words for people."""

from __future__ import annotations

from mesh.clock import Now


class Room:
    """``why``: None while there is room. ``halted``: the store takes nothing at all; else it takes what finishes tasks.

    The words say for how long that has been so, and are those of the last ``tick``.
    """

    __slots__ = ("_reason", "_since", "halted", "why")

    def __init__(self) -> None:
        self.why: str | None = None
        self.halted = False
        self._reason = ""
        self._since = 0.0

    def fill(self, reason: str, halt: bool, now: Now) -> None:
        """There is no room from now on."""
        self.why = self._reason = reason
        self.halted = halt
        self._since = now.mono

    def free(self) -> None:
        """There is room again."""
        self.why, self.halted = None, False

    def tick(self, now: Now) -> None:
        """Count the seconds."""
        if self.why is not None and (seconds := int(now.mono - self._since)):
            self.why = f"{self._reason} (for {seconds} s)"
