"""What a million queued tasks cost a router; run as a process of its own, so that nothing else is counted."""

from __future__ import annotations

import gc
import json
import sys
from itertools import islice
from time import perf_counter

import psutil

from bench.micro.inputs import BATCH, CLIENT, WORKER, clock, hellos, settled, submits
from mesh.core.commands import Send
from mesh.core.events import MessageReceived
from mesh.core.router import RouterMachine
from mesh.messages import Credit, Deliver
from mesh.model import Role
from mesh.settings import Settings
from mesh.wire.codec import decode_from_node, encode

SAMPLE = 20  # batches timed at each end


def measure(tasks: int) -> dict[str, float]:
    """Queue ``tasks`` tasks with no credit, then give them out; bytes and microseconds per task."""
    machine, now = RouterMachine("router", "router", Settings(queued_tasks_max=2 * tasks)), clock()
    machine.handle(hellos(window=0), next(now))
    gc.freeze()
    before = psutil.Process().memory_info().rss
    accept_s: list[float] = []
    for i in range(tasks // BATCH):
        frames = encode(next(submits(BATCH)), 1, i)  # decoded, so that ids and payloads are made as in life
        incoming = decode_from_node(frames)
        event = MessageReceived(CLIENT, incoming.message, incoming.raw, Role.CLIENT)
        began = perf_counter()
        machine.handle([event], next(now))
        accept_s.append(perf_counter() - began)
    del frames, incoming, event
    bytes_per_task = (psutil.Process().memory_info().rss - before) / tasks
    deliver_s = []
    commands = machine.handle([MessageReceived(WORKER, Credit(BATCH), None, Role.WORKER)], next(now))
    for number in range(1, SAMPLE + 1):
        delivers = [c.message for c in commands if isinstance(c, Send) and isinstance(c.message, Deliver)]
        held = [delivery for deliver in delivers for delivery in deliver.tasks]
        assert len(held) == BATCH, f"{len(held)} tasks were delivered on a credit of {BATCH}"
        event = MessageReceived(WORKER, settled(number, held), None, Role.WORKER)  # type: ignore[arg-type]
        began = perf_counter()
        commands = machine.handle([event], next(now))
        deliver_s.append(perf_counter() - began)
    per_task = 1e6 / BATCH
    return {
        "bytes_per_task": bytes_per_task,
        "accept_us_at_first": min(islice(accept_s, SAMPLE)) * per_task,
        "accept_us_at_last": min(accept_s[-SAMPLE:]) * per_task,
        "settle_and_deliver_us": min(deliver_s) * per_task,
    }


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
