"""Many worker nodes in one process: ``python -m bench.clients.crowd COUNT NAME``, the mesh is in the environment.

Each has a connection of its own to the router, and the very machine that decides for a real one; its executors are
played: whatever is to be run has run at once. It says ``{}`` when all have been welcomed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from time import monotonic

from bench.clients.talk import answer
from bench.ending import end_with_starter
from bench.micro.inputs import RESULT
from bench.tasks import noop
from mesh.clock import SystemClock
from mesh.core.commands import Command, RunChunk, Send
from mesh.core.events import Event, ExecutorSettled, ExecutorStarted, PeerLost, RouterFound
from mesh.core.worker import WorkerMachine
from mesh.errors import MeshError, Unavailable
from mesh.messages import Welcome
from mesh.model import Delivery, Ending, Peer, Role, Settlement
from mesh.net.dealer_transport import DealerTransport
from mesh.net.sockets import raise_fd_limit
from mesh.runtime.channels import RouterChannels
from mesh.runtime.dialing import Dialer
from mesh.settings import Settings

SLOTS = 2
NODES_MAX = 250  # in one process: each needs four of the 1023 sockets a ZeroMQ context has
TICK_S = 0.1  # between two looks at who must say something
WELCOME_S = 60.0
RUNTIME_S = 1e-6


class Crowd:
    """``count`` worker nodes on one transport."""

    def __init__(self, count: int, name: str) -> None:
        settings = Settings.from_environment()
        self._clock = SystemClock()
        self._transport = DealerTransport(outbox_bytes_max=settings.outbox_bytes_max)
        self._channels = RouterChannels(self._transport, lambda blob: None)
        dialer = Dialer(self._transport, settings.mesh, Role.WORKER)
        search = dialer.find()
        if not search.found:
            raise Unavailable(f"no router to join: {search.tried}")
        endpoint = search.found[0].endpoints[0]
        self._machines: dict[Peer, WorkerMachine] = {}
        for number in range(count):
            machine = WorkerMachine(f"{name}-{number}", f"{name}-{number}", settings, slots=SLOTS)
            executors = len(machine.start())
            machine.handle([ExecutorStarted(n, [noop.name]) for n in range(1, executors + 1)], self._clock.now())
            self._machines[dialer.connect(endpoint)] = machine
        self._welcomed: set[Peer] = set()

    def join(self) -> None:
        """Until the router has welcomed all. Raises ``Unavailable``."""
        deadline = monotonic() + WELCOME_S
        while len(self._welcomed) < len(self._machines):
            self.turn()
            if monotonic() > deadline:
                raise Unavailable(f"{len(self._welcomed)} of {len(self._machines)} nodes are welcome: {WELCOME_S:g} s")

    def serve(self) -> None:
        """Until there is a word."""
        self._transport.watch_fd(sys.stdin.fileno())
        while not self.turn():
            continue

    def turn(self) -> bool:
        """One wake-up; whether somebody spoke to us."""
        arrivals = self._transport.receive(TICK_S)
        events: dict[Peer, list[Event]] = {peer: [RouterFound(peer)] for peer in arrivals.connected}
        for peer, frames, _ in arrivals.messages:
            event = self._channels.receive(peer, frames)
            if event is not None:
                events.setdefault(peer, []).append(event)
                if isinstance(event.message, Welcome):
                    self._welcomed.add(peer)
        for peer in arrivals.lost:
            self._channels.close(peer)
            events.setdefault(peer, []).append(PeerLost(peer))
        now = monotonic()
        for peer, machine in self._machines.items():
            deadline = machine.next_deadline()
            if peer in events or (deadline is not None and deadline <= now):
                self._handle(machine, events.get(peer, []))
        return bool(arrivals.readable)

    def _handle(self, machine: WorkerMachine, events: Sequence[Event]) -> None:
        while True:
            commands = machine.handle(events, self._clock.now())
            for command in commands:
                if isinstance(command, Send):
                    self._channels.send(command.peer, command.message)
            events = _run(commands)
            if not events:
                return

    def close(self) -> None:
        """Leave without a word, as a machine that is switched off."""
        self._transport.close(0.0)


def _run(commands: Sequence[Command]) -> list[Event]:
    """What the executors would have settled of what they were given."""
    started_at = time.time()

    def settlement(delivery: Delivery) -> Settlement:
        return Settlement(delivery.id, delivery.attempt, Ending.SUCCEEDED, RESULT, started_at, RUNTIME_S)

    chunks = [command for command in commands if isinstance(command, RunChunk)]
    return [ExecutorSettled(chunk.executor, [settlement(delivery) for delivery in chunk.tasks]) for chunk in chunks]


def main(count: int, name: str) -> None:
    """Join, serve until there is a word, leave."""
    end_with_starter()
    if count > NODES_MAX:
        raise MeshError(f"{count} nodes in one process: {NODES_MAX} at the most")
    raise_fd_limit()
    crowd = Crowd(count, name)
    try:
        crowd.join()
        answer({})
        crowd.serve()
    finally:
        crowd.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
