"""The floor: bare ZeroMQ and socket pairs over the mesh's hops, in its batch sizes, with no bookkeeping at all.

    client DEALER → router ROUTER → worker DEALER → socket pair → executor, and back

``python -m bench.peers.floor WHAT COUNT EXECUTORS``. As many processes as the mesh has. Every hop reads the list of
tasks in a message and writes lists of another size, for that is what moving tasks in batches takes; nothing is
typed, checked, remembered, retried or stored, and nothing has a deadline. What it costs a mesh to keep its promises
is the distance to this.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from time import perf_counter, perf_counter_ns
from typing import Any

import zmq

from bench.cpu import Meter
from bench.distribution import histogram
from bench.ending import end_with_parent, end_with_starter
from bench.figures import percentiles_us
from bench.peers.floor_nodes import (
    BATCH,
    CLIENT,
    DONE,
    TAKEN,
    decode,
    encode,
    received,
    run_executor,
    run_router,
    run_worker,
    zmq_socket,
)
from bench.scenarios.directory import scratch_directory
from bench.tasks import nothing
from mesh.api.ids import TaskIds

SUBMIT = 1_000  # tasks in a message of the client, as batch_tasks_max
AHEAD = 20  # messages the client may be ahead of the router, as submit_tasks_max
CALL = b"\x03\x90"
WARM_UP = 2_000


class Client:
    """The client's end. ``results`` by id."""

    def __init__(self, address: str) -> None:
        self._dealer = zmq_socket(zmq.Context(), zmq.DEALER, CLIENT)
        self._dealer.connect(address)
        self._ahead = 0
        self._batch: list[Any] = []
        self.results: dict[str, bytes] = {}
        self.new_id = TaskIds()

    def submit(self, *arguments: Any) -> str:
        """Add one task to the batch, which goes out when it is full."""
        task_id = self.new_id()
        self._batch.append([task_id, 0, CALL, arguments])
        if len(self._batch) >= SUBMIT:
            self.flush()
        return task_id

    def flush(self) -> None:
        """Send the batch."""
        if self._batch:
            self._dealer.send_multipart([BATCH, encode(self._batch)])
            self._batch = []
            self._ahead += 1
        while self._ahead >= AHEAD or self._dealer.poll(0):
            self.receive()

    def receive(self) -> None:
        """Wait for messages and take them."""
        self._dealer.poll()
        for verb, body, *_ in received(self._dealer):
            if verb == TAKEN:
                self._ahead -= decode(body)
            elif verb == DONE:
                self.results.update((done[0], done[3]) for done in decode(body))

    def wait(self, ids: list[str]) -> None:
        """Take every result."""
        self.flush()
        results = self.results
        for task_id in ids:
            while task_id not in results:
                self.receive()
            results.pop(task_id)


Target = tuple[Callable[..., None], tuple[Any, ...]]
"""What a process is to do for ever, and with which arguments."""


@contextmanager
def running_floor(executors: int) -> Iterator[Client]:
    """All processes of the floor; ended at the end."""
    with scratch_directory() as directory:
        address = f"ipc://{directory}/router"
        pairs = [socket.socketpair() for _ in range(executors)]
        targets: list[Target] = [(run_router, (address,))]
        targets += [(run_executor, (theirs, nothing)) for _, theirs in pairs]
        targets.append((run_worker, (address, [ours for ours, _ in pairs])))
        with forked(targets):
            yield Client(address)


@contextmanager
def forked(targets: Sequence[Target]) -> Iterator[None]:
    """A process for each; ended at the end. To be entered before there is a thread or a ZeroMQ context in this one."""
    fork = get_context("fork")
    here = os.getpid()
    processes = [fork.Process(target=_run, args=(here, target, *args), daemon=True) for target, args in targets]
    try:
        for process in processes:
            process.start()
        yield
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.join()


def _run(parent: int, target: Callable[..., None], *args: Any) -> None:
    end_with_parent(parent)
    target(*args)


def tasks(client: Client, count: int) -> dict[str, float]:
    """Submit one by one, and take every result."""
    client.wait([client.submit() for _ in range(WARM_UP)])
    meter = Meter()
    began = perf_counter()
    client.wait([client.submit() for _ in range(count)])
    return {"per_s": count / (perf_counter() - began), "cpu_us": meter.us_per_task(count)}


def latency(client: Client, count: int) -> dict[str, Any]:
    """One round trip after the other."""
    found = []
    for number in range(count + count // 10):
        began = perf_counter_ns()
        client.wait([client.submit()])
        if number >= count // 10:
            found.append((perf_counter_ns() - began) / 1e3)
    return percentiles_us(found) | {"histogram": histogram(found)}


MEASUREMENTS = {measurement.__name__: measurement for measurement in (tasks, latency)}

if __name__ == "__main__":
    end_with_starter()
    with running_floor(int(sys.argv[3])) as client:
        found = MEASUREMENTS[sys.argv[1]](client, int(sys.argv[2]))
    print(json.dumps(found))
