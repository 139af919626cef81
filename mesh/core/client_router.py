"""What a client knows of one router, besides their session: whether to submit to it, and what it has of ours."""

from __future__ import annotations

from mesh.core.sessions import RouterSession
from mesh.model import Peer
from mesh.settings import Settings

LOAD_MARGIN = 1_000  # unfinished tasks: home changes for a router that has half of home's, and so many fewer


class ClientRouter:
    """Times are monotonic seconds."""

    __slots__ = ("boot", "full", "functions", "given_up", "is_here", "keeps", "load", "peer", "session", "shared")

    def __init__(self, peer: Peer, settings: Settings, now: float) -> None:
        self.peer = peer
        self.session = RouterSession(peer, settings, now)
        self.is_here = False  # this user's, on this host
        self.keeps: bool | None = None  # whether what it accepts survives its end; None: it has not welcomed us
        self.boot = 0  # which of its lives the last session was with
        self.shared = False  # others have its store, and may adopt what it has
        self.load: int | None = None  # unfinished tasks it has, as it said last in this session
        self.full = ""  # why it accepts nothing that is new, as it said last in this session
        self.given_up = False  # it is gone, and what it was to do is another's
        self.functions: set[str] = set()  # digests of those it was sent in this session

    @property
    def open(self) -> bool:
        """Whether there is a session."""
        return self.session.open

    def welcome(self, now: float, *, keeps: bool, boot: int = 0, shared: bool = False) -> None:
        """A session begins."""
        self.boot = boot
        self.shared = shared
        self.session.welcome(now)
        self.keeps = keeps
        self.load = None
        self.full = ""
        self.given_up = False
        self.functions = set()

    def deadline(self) -> float:
        """When to look after the session, or to give the router up."""
        session = self.session
        if session.open or self.given_up:
            return session.deadline()
        return min(session.deadline(), session.gone_at)

    def give_up(self, now: float) -> bool:
        """Whether it is to be given up now; True once."""
        if self.given_up or not self.session.is_gone(now):
            return False
        self.given_up = True
        return True

    def worth(self) -> tuple[bool, bool, int]:
        """The least is the best home."""
        return not self.is_here, self.load is None, self.load or 0

    def is_better_than(self, home: ClientRouter | None) -> bool:
        """Whether to have this router for home from now on."""
        if home is None or self.is_here != home.is_here:
            return home is None or self.is_here
        if self.load is None or home.load is None:
            return False
        return 2 * self.load + LOAD_MARGIN < home.load
