"""What a router asks the others of its mesh after a start, and when it holds that none of them knows a task.

A denial counts only once the routers that were there had a while to be found, for one of them may know what the others
do not: until then it is held back, and asked again when another router is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf

from mesh.clock import Now
from mesh.core.events import Event, OthersFound, ResultsWatched, SettledElsewhere, UnknownElsewhere
from mesh.model import Outcome
from mesh.settings import Settings

HEAR_ALL = 0.6  # of ``grace_s``: for so long after a question a router may be found that knows what others do not


class Elsewhere:
    """Of one router: between it and the client's machine by which it talks to the others."""

    def __init__(self, settings: Settings) -> None:
        self._hear_s = HEAR_ALL * settings.grace_s
        self._hear_until = 0.0  # monotonic; inf: from when it is asked
        self._questions: dict[str, None] = {}
        self._denied: dict[str, None] = {}  # what no router knows that is connected, while others may come
        self._told: tuple[int, list[str], list[str]] = (0, [], [])
        self._heard: dict[str, float] = {}  # the routers that are connected, and when each was heard last

    def ask(self, ids: Sequence[str], *, wait: bool = True) -> None:
        """What became of these tasks is to be asked; ``wait`` for routers that are not there yet."""
        self._questions |= dict.fromkeys(ids)
        if wait:
            self._hear_until = inf

    def take_questions(self, now: Now) -> list[Event]:
        """What is to be asked now, for the client's machine."""
        if self._hear_until == inf:
            self._hear_until = now.mono + self._hear_s
        questions, self._questions = list(self._questions), {}
        return [ResultsWatched(questions)] if questions else []

    def deny(self, ids: Sequence[str]) -> None:
        """No router that is connected knows these."""
        self._denied |= dict.fromkeys(ids)

    def settle(self, outcomes: Sequence[Outcome], lost: Sequence[str]) -> list[Event]:
        """So these ended elsewhere. ``lost``: what ended, too, but its result is not to be had: it is run again."""
        events: list[Event] = [SettledElsewhere(list(outcomes))] if outcomes else []
        return [*events, UnknownElsewhere(list(lost))] if lost else events

    def see(self, heard: Mapping[str, float], addresses: Sequence[str], now: Now) -> list[Event]:
        """These routers are connected, heard last at these times, and these are their addresses.

        What is new of that, and of what was asked.
        """
        events: list[Event] = []
        told = (len(heard), list(addresses), sorted(heard))
        if told != self._told:
            if len(heard) > self._told[0]:
                self._questions |= self._denied
                self._denied = {}
            self._told = told
            lost = {router: at for router, at in self._heard.items() if router not in heard}
            events.append(OthersFound(*told, lost))
        self._heard = dict(heard)
        if self._denied and now.mono >= self._hear_until:
            events.append(UnknownElsewhere(list(self._denied)))
            self._denied = {}
        return events

    def next_deadline(self) -> float:
        """The monotonic second at which to ask or to look again, even if nothing happens."""
        if self._questions:
            return 0.0
        return self._hear_until if self._denied else inf
