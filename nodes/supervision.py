"""Decides what a supervisor does with its children: start, start again after a pause, end in the right order.

Pure: events and the time go in, commands come out. Children are started together in the order given and ended one by
one in the reverse order, so that a worker can hand its last results to a router that still lives.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

FIRST_PAUSE_S = 0.2  # before a child that died is started again; doubled each time
PAUSE_MAX_S = 30.0
PROVEN_S = 60.0  # up for this long: its next death counts as the first
HASTY_S = 3.0  # told to end at once: killed after this

HOPELESS = 2  # exit code of a node that cannot work as it was told to: starting it again would not help


@dataclass(frozen=True, slots=True)
class ChildExited:
    """``code``: as ``subprocess`` gives it, negative for a signal."""

    name: str
    code: int


@dataclass(frozen=True, slots=True)
class ChildWanted:
    """A child that was held in reserve is needed."""

    name: str


@dataclass(frozen=True, slots=True)
class StopAsked:
    """Somebody wants the end; a second time: at once."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed, nothing else."""


@dataclass(frozen=True, slots=True)
class Start:
    name: str


@dataclass(frozen=True, slots=True)
class Terminate:
    name: str


@dataclass(frozen=True, slots=True)
class Kill:
    name: str


@dataclass(frozen=True, slots=True)
class ReportDeath:
    """A child died and is started again in ``pause_s`` seconds."""

    name: str
    code: int
    pause_s: float


@dataclass(frozen=True, slots=True)
class Exit:
    code: int


Event = ChildExited | ChildWanted | StopAsked | Tick
Command = Start | Terminate | Kill | ReportDeath | Exit


class _State(enum.Enum):
    RESERVE = "reserve"  # not to be started until it is wanted
    WAITING = "waiting"  # to be started at ``due``
    UP = "up"
    ENDING = "ending"  # killed at ``due``
    ENDED = "ended"


@dataclass(slots=True)
class _Child:
    name: str
    state: _State
    due: float = 0.0
    started_at: float = 0.0
    deaths: int = 0


class SupervisionMachine:
    """``names``: the children in the order to start them; those in ``reserve`` when they are wanted.

    ``stop_s``: how long one may take to end by itself.
    """

    def __init__(self, names: Sequence[str], *, stop_s: float, now: float, reserve: Sequence[str] = ()) -> None:
        self._children = {name: _Child(name, _State.WAITING, due=now) for name in names}
        for name in reserve:
            self._children[name].state = _State.RESERVE
        self._stop_s = stop_s
        self._stops = 0
        self._code: int | None = None  # to exit with, once the end is near

    def handle(self, events: Sequence[Event], now: float) -> list[Command]:
        """Take events in, give back what to do. ``now``: monotonic seconds."""
        commands: list[Command] = []
        for event in events:
            if isinstance(event, ChildExited):
                self._on_child_exited(event, now, commands)
            elif isinstance(event, ChildWanted):
                self._on_child_wanted(event, now)
            elif isinstance(event, StopAsked):
                self._on_stop_asked(now, commands)
        self._do_what_is_due(now, commands)
        return commands

    def next_deadline(self) -> float | None:
        """When to call ``handle`` at the latest, monotonic; None: when something happens."""
        return min((c.due for c in self._children.values() if c.state in (_State.WAITING, _State.ENDING)), default=None)

    def check(self) -> None:
        """Assert what must hold between two calls of ``handle``."""
        states = [child.state for child in self._children.values()]
        if self._code is None:
            assert not {_State.ENDING, _State.ENDED} & set(states), f"children end, and nobody asked for it: {states}"
        else:
            assert _State.WAITING not in states, f"a child is to be started while all end: {states}"

    def _on_child_exited(self, event: ChildExited, now: float, commands: list[Command]) -> None:
        child = self._children[event.name]
        if self._code is not None:
            child.state = _State.ENDED
            self._end_next(now, commands)
        elif event.code == HOPELESS:
            child.state = _State.ENDED
            self._end(HOPELESS, now, commands)
        else:
            self._start_later(child, event.code, now, commands)

    def _on_child_wanted(self, event: ChildWanted, now: float) -> None:
        child = self._children[event.name]
        if child.state is _State.RESERVE and self._code is None:
            child.state, child.due = _State.WAITING, now

    def _start_later(self, child: _Child, code: int, now: float, commands: list[Command]) -> None:
        if now - child.started_at >= PROVEN_S:
            child.deaths = 0
        pause = min(PAUSE_MAX_S, FIRST_PAUSE_S * 2.0 ** min(child.deaths, 16))
        child.deaths += 1
        child.state, child.due = _State.WAITING, now + pause
        commands.append(ReportDeath(child.name, code, pause))

    def _on_stop_asked(self, now: float, commands: list[Command]) -> None:
        self._stops += 1
        if self._code is None:
            self._end(0, now, commands)
        elif self._stops == 2:
            for child in reversed(self._children.values()):
                if child.state in (_State.UP, _State.ENDING):
                    self._terminate(child, now + HASTY_S, commands)

    def _end(self, code: int, now: float, commands: list[Command]) -> None:
        self._code = code
        for child in self._children.values():
            if child.state in (_State.WAITING, _State.RESERVE):
                child.state = _State.ENDED
        self._end_next(now, commands)

    def _end_next(self, now: float, commands: list[Command]) -> None:
        left = [child for child in self._children.values() if child.state is not _State.ENDED]
        if not left:
            assert self._code is not None, "all children have ended, and nobody asked for it"
            commands.append(Exit(self._code))
        elif left[-1].state is _State.UP:
            self._terminate(left[-1], now + self._stop_s, commands)

    def _terminate(self, child: _Child, kill_at: float, commands: list[Command]) -> None:
        child.state, child.due = _State.ENDING, kill_at
        commands.append(Terminate(child.name))

    def _do_what_is_due(self, now: float, commands: list[Command]) -> None:
        for child in self._children.values():
            if child.state is _State.WAITING and child.due <= now:
                child.state, child.started_at = _State.UP, now
                commands.append(Start(child.name))
            elif child.state is _State.ENDING and child.due <= now:
                child.due = now + HASTY_S
                self._code = self._code or 1  # something was cut short
                commands.append(Kill(child.name))
