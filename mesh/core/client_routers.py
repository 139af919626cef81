"""The routers that a client knows: which is its home, and which are told of things as they happen."""

from __future__ import annotations

from mesh.core.client_router import ClientRouter
from mesh.core.suspects import Suspects
from mesh.model import Peer


class ClientRouters:
    """``home`` is the one we submit to; ``owner`` the last that was: it has what is awaited at home."""

    def __init__(self) -> None:
        self.by_peer: dict[Peer, ClientRouter] = {}
        self.suspects = Suspects()
        self.home: Peer | None = None
        self.owner: Peer | None = None

    def open(self) -> list[Peer]:
        """Those we have a session with."""
        return [peer for peer, router in self.by_peer.items() if router.open]

    def best(self) -> ClientRouter | None:
        """Of these the best home."""
        return min((self.by_peer[peer] for peer in self.open()), key=ClientRouter.worth, default=None)

    def is_better(self, router: ClientRouter) -> bool:
        """Whether to have this router for home from now on."""
        return router.is_better_than(self.by_peer[self.home] if self.home is not None else None)

    def listening(self) -> list[Peer]:
        """Those that are told of things as they happen: what has suspects hears of all the rest after them."""
        return [peer for peer in self.open() if self.suspects.first(peer) is None]

    def ready(self) -> Peer | None:
        """Home, where what is new may be sent to it now: it has no suspects."""
        return self.home if self.home is not None and self.suspects.first(self.home) is None else None

    def may_know(self) -> set[Peer]:
        """Those that may know of a task which others do not know."""
        return {peer for peer, one in self.by_peer.items() if one.keeps or (one.keeps is False and not one.given_up)}
