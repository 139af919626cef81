"""The per-call Python at both ends: ``delay`` in the caller's thread, running a no-op in an executor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.micro.inputs import BATCH, NAME, OPTIONS, outcome, specs
from bench.micro.stopwatch import Stopwatch
from mesh.api.app import Mesh
from mesh.model import Blob, Delivery, FunctionCode, TaskOptions, TaskSpec
from mesh.runtime.execute import Runner
from mesh.runtime.executor_frames import Chunk, Done, decode_from_agent, decode_from_executor, encode_frame
from mesh.runtime.promises import Promise, Promises
from mesh.runtime.submissions import Submission, grouped

CHUNK = 100


class Sink:
    """Stands where the connection is, and takes what is submitted."""

    def __init__(self) -> None:
        self.taken: list[Submission] = []
        self.handles = Promises()
        self.dropped = self.handles.dropped

    def submit(
        self,
        options: TaskOptions,
        task: TaskSpec,
        parts: Sequence[Any],
        promise: Promise,
        code: FunctionCode | None = None,
        chosen: bool = False,
    ) -> Promise:
        self.handles.by_id[promise.id] = promise
        self.taken.append(Submission(options, task, code, chosen))
        return promise


def no_buffers(blob: Blob) -> list[Any]:
    """No result here is large."""
    return []


def noop() -> None:
    """Do nothing."""


def run_delay(tasks: int, watch: Stopwatch) -> None:
    """``delay`` up to the connection, grouping, and the settling of handles."""
    app = Mesh("bench")
    sink = Sink()
    app.open_connection = sink  # type: ignore[assignment]
    task = app.task(noop)
    task.delay()

    def delay() -> list[Any]:
        return [task.delay() for _ in range(BATCH)]

    def get(results: list[Any]) -> None:
        for result in results:
            result.get()

    for _ in range(tasks // BATCH):
        sink.taken.clear()
        results = watch.call("delay", delay)
        watch.call("group", grouped, sink.taken)
        watch.call("settle", sink.handles.publish, [outcome(result.id) for result in results], no_buffers)
        watch.call("get", get, results)


def run_executor(tasks: int, watch: Stopwatch) -> None:
    """Run no-ops as an executor does, and the frames between it and its agent."""
    app = Mesh("bench")
    task = app.task(name=NAME)(noop)
    runner = Runner({NAME: task}, worker_name="worker", inline_bytes_max=1 << 16, payload_bytes_max=1 << 20)
    everything = specs(tasks)

    def run(deliveries: list[Delivery]) -> list[Any]:
        return [runner.run(delivery, OPTIONS)[0] for delivery in deliveries]

    def frame_to_executor(deliveries: list[Delivery]) -> None:
        decode_from_agent(memoryview(encode_frame(Chunk({1: OPTIONS}, deliveries))[0])[12:])

    def frame_to_agent(settlements: list[Any]) -> None:
        decode_from_executor(memoryview(encode_frame(Done(settlements))[0])[12:])

    for start in range(0, tasks, CHUNK):
        deliveries = [Delivery(spec.id, 1, 1, spec.payload) for spec in everything[start : start + CHUNK]]
        watch.call("chunk to executor", frame_to_executor, deliveries)
        settlements = watch.call("run", run, deliveries)
        watch.call("done to agent", frame_to_agent, settlements)
