"""The three role machines alone: no sockets, no disk, their commands thrown away.

``batch``: tasks to a wake-up; 1 is what latency is made of.
"""

from __future__ import annotations

from bench.micro.inputs import (
    BATCH,
    CLIENT,
    NAME,
    OPTIONS,
    ROUTER,
    WORKER,
    clock,
    hellos,
    outcome,
    settled,
    settlement,
    specs,
    submits,
)
from bench.micro.stopwatch import Stopwatch
from mesh.core.client import ClientMachine
from mesh.core.commands import RunChunk, Send
from mesh.core.events import ExecutorSettled, ExecutorStarted, MessageReceived, RouterFound, TasksSubmitted
from mesh.core.router import RouterMachine
from mesh.core.worker import WorkerMachine
from mesh.messages import Accepted, Deliver, Outcomes, Settled, SettledAck, Welcome
from mesh.model import Delivery, Role
from mesh.settings import Settings
from mesh.wire.codec import encode_body

DELIVERY = 500  # deliveries in one DELIVER


def run_router(tasks: int, watch: Stopwatch, batch: int = BATCH) -> None:
    """Accept a batch, deliver it, settle it."""
    machine, now = RouterMachine("router", "router", Settings()), clock()
    machine.handle(hellos(window=BATCH), next(now))
    for submit in submits(tasks, batch):
        received = MessageReceived(CLIENT, submit, encode_body(submit), Role.CLIENT)
        watch.call("accept and deliver", machine.handle, [received], next(now))
        done = MessageReceived(WORKER, settled(submit.batch, submit.tasks), None, Role.WORKER)
        watch.call("settle", machine.handle, [done], next(now))
    assert not machine.table.tasks and machine.table.accepted == tasks, "the router did not finish all tasks"


def run_worker(tasks: int, watch: Stopwatch, batch: int = DELIVERY) -> None:
    """Take deliveries, cut them into chunks for two executors, report what they finished."""
    machine, now = WorkerMachine("worker", "worker", Settings(), slots=2), clock()
    machine.start()
    machine.handle([ExecutorStarted(1, [NAME]), ExecutorStarted(2, [NAME]), RouterFound(ROUTER)], next(now))
    machine.handle([MessageReceived(ROUTER, Welcome("router", "router", "0", "memory"))], next(now))
    everything = specs(tasks)
    for start in range(0, tasks, batch):
        deliveries = [Delivery(spec.id, 1, 1, spec.payload) for spec in everything[start : start + batch]]
        deliver = MessageReceived(ROUTER, Deliver({1: OPTIONS}, deliveries))
        commands = watch.call("deliver", machine.handle, [deliver], next(now))
        while chunks := [c for c in commands if isinstance(c, RunChunk)]:
            done = [ExecutorSettled(c.executor, [settlement(d.id) for d in c.tasks]) for c in chunks]
            commands = watch.call("settle", machine.handle, done, next(now))
            batches = [c.message.batch for c in commands if isinstance(c, Send) and isinstance(c.message, Settled)]
            ack = MessageReceived(ROUTER, SettledAck(batches))
            commands += watch.call("acknowledge", machine.handle, [ack], next(now))
    assert not machine.held and not machine.unacked, "the worker did not finish all tasks"


def run_client(tasks: int, watch: Stopwatch, batch: int = BATCH) -> None:
    """Submit in batches, have them accepted, take their outcomes."""
    machine, now = ClientMachine("client", "client", Settings()), clock()
    machine.handle([RouterFound(ROUTER)], next(now))
    machine.handle([MessageReceived(ROUTER, Welcome("router", "router", "0", "memory"))], next(now))
    everything = specs(tasks)
    for number, start in enumerate(range(0, tasks, batch), 1):
        part = everything[start : start + batch]
        watch.call("submit", machine.handle, [TasksSubmitted([OPTIONS], part)], next(now))
        told = Outcomes([outcome(spec.id) for spec in part])
        events = [MessageReceived(ROUTER, Accepted([number])), MessageReceived(ROUTER, told)]
        watch.call("outcomes", machine.handle, events, next(now))
    assert not machine.waiting and not machine.batches, "the client still waits"
