"""Keeps the nodes of one machine running: a router and a worker, each a process of its own.

The children are in sessions of their own, so that Ctrl-C in a terminal reaches the supervisor alone, and it can end
them in order. Their output goes where the supervisor's goes.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from nodes.supervision import (
    ChildExited,
    ChildWanted,
    Command,
    Event,
    Exit,
    Kill,
    ReportDeath,
    Start,
    StopAsked,
    SupervisionMachine,
    Terminate,
    Tick,
)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def node_command(arguments: Sequence[str]) -> list[str]:
    """The command line of a node. -P: a directory ``nodes`` or ``mesh`` of the user's must not be taken for ours."""
    return [sys.executable, "-P", "-m", "nodes", *arguments]


class Supervisor:
    """``commands``: the command line of each child by name, in the order to start them; of ``reserve`` when wanted."""

    def __init__(
        self,
        commands: Mapping[str, Sequence[str]],
        *,
        stop_s: float,
        report: Callable[[str], None],
        reserve: Sequence[str] = (),
    ) -> None:
        self._commands = commands
        self._report = report
        self._machine = SupervisionMachine([*commands], stop_s=stop_s, now=time.monotonic(), reserve=reserve)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._stops = 0
        self._wanted: deque[str] = deque()
        self._wakeup = -1
        self._stopping = False
        self._not_started: list[Event] = []
        self._exit: int | None = None

    def run(self) -> int:
        """Start the children and keep them running until told to stop; the exit code."""
        with self._signals() as (wakeups, self._wakeup):
            try:
                events: list[Event] = [Tick()]
                while self._exit is None:
                    self._obey(self._machine.handle(events, time.monotonic()))
                    if self._exit is None:
                        events = self._wait(wakeups)
            finally:
                for child in self._running.values():
                    child.kill()
        return self._exit

    def want(self, name: str) -> None:
        """Start a child that is held in reserve; from any thread, and once ``run`` was called or before."""
        self._wanted.append(name)
        if self._wakeup >= 0:
            with suppress(OSError):  # it ends just now
                os.write(self._wakeup, b"!")

    def pid(self, name: str) -> int | None:
        """The process id of a child; None while it is down."""
        child = self._running.get(name)
        return None if child is None else child.pid

    def _wait(self, wakeups: int) -> list[Event]:
        if self._not_started:
            not_started, self._not_started = self._not_started, []
            return not_started
        deadline = self._machine.next_deadline()
        pause = None if deadline is None else max(0.0, deadline - time.monotonic())
        if select.select([wakeups], [], [], pause)[0]:
            os.read(wakeups, 4096)
        stops, self._stops = self._stops, 0
        if stops and not self._stopping:
            self._stopping = True
            self._report("stopping: what runs may finish; Ctrl-C or SIGTERM again ends it at once")
        events: list[Event] = [StopAsked() for _ in range(stops)]
        while self._wanted:
            events.append(ChildWanted(self._wanted.popleft()))
        for name, child in [*self._running.items()]:
            code = child.poll()
            if code is not None:
                del self._running[name]
                events.append(ChildExited(name, code))
        return events or [Tick()]

    def _obey(self, commands: Sequence[Command]) -> None:
        for command in commands:
            if isinstance(command, Start):
                self._start(command.name)
            elif isinstance(command, Terminate):
                self._running[command.name].terminate()
            elif isinstance(command, Kill):
                self._running[command.name].kill()
            elif isinstance(command, ReportDeath):
                self._report(f"{command.name} {how_it_ended(command.code)}: started again in {command.pause_s:g} s")
            elif isinstance(command, Exit):
                self._exit = command.code

    def _start(self, name: str) -> None:
        try:
            self._running[name] = subprocess.Popen(
                self._commands[name], stdin=subprocess.DEVNULL, start_new_session=True
            )
        except OSError as error:  # no memory or no process to be had: perhaps later
            self._report(f"{name} cannot be started: {error}")
            self._not_started.append(ChildExited(name, 1))

    @contextmanager
    def _signals(self) -> Iterator[tuple[int, int]]:
        """A pipe, its reader and its writer, that becomes readable with each signal, also that of a child's end."""
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # nohup has SIGHUP ignored, and means it
        numbers = [n for n in (*STOP_SIGNALS, signal.SIGCHLD) if signal.getsignal(n) is not signal.SIG_IGN]
        before = [signal.signal(number, self._on_signal) for number in numbers]
        wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        try:
            yield reader, writer
        finally:
            self._wakeup = -1
            signal.set_wakeup_fd(wakeup)
            for number, handler in zip(numbers, before):
                signal.signal(number, handler)
            for descriptor in (reader, writer):
                os.close(descriptor)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number in STOP_SIGNALS:
            self._stops += 1


def how_it_ended(code: int) -> str:
    """In words, what an exit code of ``subprocess`` says."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
