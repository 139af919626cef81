"""One node's session with one router: when to say HELLO, when to say that we live, when to give it up.

Workers and clients have the same one; what their HELLO says is theirs.
"""

from __future__ import annotations

import enum

from mesh.model import Peer
from mesh.settings import Settings

REFUSED_PAUSE_MAX = 10.0  # times ``hello_retry_s`` before the next HELLO


class Due(enum.Enum):
    """What the session wants sent now."""

    HELLO = "hello"
    HEARTBEAT = "heartbeat"


class RouterSession:
    """All times are monotonic seconds."""

    __slots__ = (
        "_hello_at",
        "_settings",
        "_told",
        "heard",
        "open",
        "peer",
        "refused",
    )

    def __init__(self, peer: Peer, settings: Settings, now: float) -> None:
        self._settings = settings
        self.peer = peer
        self.open = False
        self.refused: str | None = None
        self.heard = now
        self._hello_at = now  # when the next HELLO is due while the session is not open
        self._told = now

    def lose(self, hello_at: float) -> None:
        """The session is over; a new one is wanted from ``hello_at`` on."""
        self.open = False
        self._hello_at = hello_at

    def welcome(self, now: float) -> None:
        self.open = True
        self.refused = None
        self.heard = self._told = now

    def refuse(self, reason: str, now: float, pause: float = REFUSED_PAUSE_MAX) -> None:
        """The router would not have us; ask again after ``pause`` times ``hello_retry_s``: it may be mended."""
        self.open = False
        self.refused = reason
        self._hello_at = now + min(pause, REFUSED_PAUSE_MAX) * self._settings.hello_retry_s

    @property
    def _silence_s(self) -> float:
        """How long a router may say nothing."""
        return self._settings.heartbeat_s * self._settings.liveness

    def silence(self, now: float) -> str | None:
        """Why the session is to be given up, for nothing was heard in it; None where that is not so."""
        if not self.open or now < self.heard + self._silence_s:
            return None
        return f"a router was not heard of for {self._silence_s:g} s"

    def due(self, now: float) -> Due | None:
        """What to send now; counts as sent."""
        settings = self._settings
        if self.silence(now) is not None:
            self.lose(now)
        if not self.open:
            if now < self._hello_at:
                return None
            self._hello_at = now + settings.hello_retry_s
            return Due.HELLO
        if now >= self._told + settings.heartbeat_s * 0.9:
            self._told = now
            return Due.HEARTBEAT
        return None

    def is_gone(self, now: float) -> bool:
        """Whether the session is closed and the router silent for so long that any node would be given up.

        One that is started anew is heard of sooner.
        """
        return not self.open and now >= self.gone_at

    @property
    def gone_at(self) -> float:
        """When ``is_gone`` becomes true, if nothing is heard until then."""
        return self.heard + self._silence_s

    def deadline(self) -> float:
        """When ``due`` must be asked next."""
        if not self.open:
            return self._hello_at
        settings = self._settings
        return min(self._told + settings.heartbeat_s * 0.9, self.heard + self._silence_s)
