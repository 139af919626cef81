"""The outcomes that somebody in this process waits for, and which router owes each.

A task that was submitted here is owed by the router that has it: the client's home, or, once the client has another
home, the one it was left at. What was sent to another before, and not answered there, that one may have, too: it is
asked as well, for the one that accepted it may go for good. Of what others submitted nobody here knows who has it, so
all routers are asked.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Container, Iterable, Sequence

from mesh.core.commands import NOT_KNOWN
from mesh.model import Peer

STRANDED_MAX = 100_000  # ids of which is known what became of their router; the oldest goes first


class Where(enum.Enum):
    """Where an outcome is to come from, if from no router in particular."""

    AT_HOME = "at home"  # from whichever router is home, and has been since it was submitted
    ANYWHERE = "anywhere"  # from any router: all are asked


AT_HOME, ANYWHERE = Where.AT_HOME, Where.ANYWHERE
Place = Where | Peer


class Awaited:
    """``places``: by task id, where its outcome is to come from."""

    def __init__(self) -> None:
        self.places: dict[str, Place] = {}
        self._doubled: dict[str, None] = {}  # those that another router than the one that owes it may have, too
        self._denied: dict[str, set[Peer]] = {}  # routers that know nothing of an id
        self._stranded: dict[str, str] = {}  # why the router that accepted it cannot be asked; also while nobody waits

    def add(self, ids: Iterable[str]) -> None:
        """These are submitted here: whoever knew nothing of them was asked too early."""
        places = dict.fromkeys(ids, AT_HOME)
        self.places.update(places)
        self._let_go(places)

    def watch(self, ids: Iterable[str]) -> list[str]:
        """Wait for these, too; those of them that all routers are to be asked of."""
        return [task_id for task_id in ids if self.places.setdefault(task_id, ANYWHERE) is ANYWHERE]

    def double(self, ids: Iterable[str]) -> list[str]:
        """Another router may have these, too; those of them that it is to be asked of."""
        doubled = [task_id for task_id in ids if task_id in self.places]
        self._doubled.update(dict.fromkeys(doubled))
        return doubled

    def take(self, ids: Sequence[str]) -> list[bool]:
        """The outcomes of these are here; for each, whether somebody waited for it."""
        self._let_go(ids)
        take = self.places.pop
        return [take(task_id, None) is not None for task_id in ids]

    def _let_go(self, ids: Iterable[str]) -> None:
        for known in (self._doubled, self._denied, self._stranded):
            if known:  # mostly all three are empty
                for task_id in ids:
                    known.pop(task_id, None)

    def check(self) -> None:
        """Raise ``AssertionError`` unless what is doubled or denied is awaited, and denied by somebody."""
        assert self._doubled.keys() <= self.places.keys(), "nobody waits for what two routers may have"
        assert self._denied.keys() <= self.places.keys(), "nobody waits for it"
        assert all(self._denied.values()), "denied by nobody"

    def give_up(self, task_id: str) -> bool:
        """Wait no more; whether others were asked of it than the router that owes it."""
        doubled = task_id in self._doubled
        self._doubled.pop(task_id, None)
        self._denied.pop(task_id, None)
        self._stranded.pop(task_id, None)
        return self.places.pop(task_id, None) is ANYWHERE or doubled

    def leave(self, home: Peer, unaccepted: Container[str]) -> None:
        """The home is another from now on: what was accepted stays where it is."""
        for task_id, place in self.places.items():
            if place is AT_HOME and task_id not in unaccepted:
                self.places[task_id] = home

    def put(self, ids: Iterable[str], router: Peer) -> None:
        """This router, which is not home, has accepted these."""
        for task_id in ids:
            if self.places.get(task_id) is AT_HOME:
                self.places[task_id] = router

    def of(self, router: Peer, *, home: bool, unaccepted: Container[str]) -> list[str]:
        """What was submitted here and this router has accepted, or may have."""
        return [
            task_id
            for task_id, place in self.places.items()
            if place == router
            or (home and place is AT_HOME and task_id not in unaccepted)
            or (place is not ANYWHERE and task_id in self._doubled)
        ]

    def anywhere(self) -> list[str]:
        """What any router may have."""
        return [task_id for task_id, place in self.places.items() if place is ANYWHERE]

    def strand(self, router: Peer, why: str) -> list[str]:
        """This router is gone with all it had; another may know of it. ``why`` is for people, should none know it."""
        stranded = [task_id for task_id, place in self.places.items() if place == router]
        for task_id in stranded:
            self.places[task_id] = ANYWHERE
            self._stranded[task_id] = why
        while len(self._stranded) > STRANDED_MAX:
            del self._stranded[next(iter(self._stranded))]
        return stranded

    def loosen(self, ids: Iterable[str], router: Peer, *, home: bool) -> list[str]:
        """Those of these that ``router`` had, and has no more, for another has adopted them: any may have them."""
        loose = [i for i in ids if (place := self.places.get(i)) == router or (home and place is AT_HOME)]
        self.places.update(dict.fromkeys(loose, ANYWHERE))
        return loose

    def why_unknown(self, task_id: str) -> str:
        """Why no router knows it, for people."""
        return self._stranded.get(task_id, NOT_KNOWN)

    def forget(self, router: Peer) -> None:
        """This router is asked anew, or never again."""
        for task_id, routers in list(self._denied.items()):
            routers.discard(router)
            if not routers:
                del self._denied[task_id]

    def deny(self, ids: Iterable[str], router: Peer, asked: Collection[Peer], *, home: bool) -> list[str]:
        """``router`` knows nothing of these; those of them that no router knows of those that are ``asked``.

        Only the ``home`` can deny what is owed there: others may have been asked before it was submitted.
        """
        unknown: list[str] = []
        for task_id in dict.fromkeys(ids):
            place = self.places.get(task_id)
            shared = place is ANYWHERE or task_id in self._doubled
            if place is None or not (shared or (home if place is AT_HOME else place == router)):
                continue
            if shared:
                denied = self._denied.setdefault(task_id, set())
                denied.add(router)
                if not denied.issuperset(asked):
                    continue
            unknown.append(task_id)
        self._drop(unknown)
        return unknown

    def asked_fewer(self, asked: Collection[Peer]) -> list[str]:
        """What all of those that are still ``asked`` do not know, nobody knows; of none, nothing is known."""
        if not asked:
            return []
        unknown = [task_id for task_id, denied in self._denied.items() if denied.issuperset(asked)]
        self._drop(unknown)
        return unknown

    def _drop(self, unknown: Iterable[str]) -> None:
        """It may be asked for again: what became of its router is kept."""
        for task_id in unknown:
            self._denied.pop(task_id, None)
            self._doubled.pop(task_id, None)
            del self.places[task_id]
