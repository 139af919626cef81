"""The loop of an executor process: takes chunks of tasks from its agent, runs them, says how they ended.

Two threads. The main thread runs tasks, because users' code may need it (signals), and sends what is finished when
a chunk ends. The courier reads the socket, answers a Reclaim at once, and sends what is finished while the main
thread is busy with a long task. A deque of what is pending lies between them: both take from it, each delivery is
taken once.
"""

from __future__ import annotations

import logging
import select
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from time import monotonic

from mesh.model import Blob, Delivery, Settlement, TaskOptions
from mesh.runtime.execute import Runner
from mesh.runtime.executor_frames import (
    Chunk,
    Code,
    Done,
    FrameReader,
    FromExecutor,
    Ready,
    Reclaim,
    Reclaimed,
    Stop,
    blobs_of,
    decode_from_agent,
    encode_frame,
    send_blocking,
    split_buffers,
)
from mesh.wire.parts import Buffer

FLUSH_S = 0.005
"""What is finished waits no longer than this for a task that is not."""

log = logging.getLogger("mesh.executor")


class Executor:
    """Serves one agent at the other end of ``connection``."""

    def __init__(self, connection: socket.socket, runner: Runner, on_agent_gone: Callable[[], None]) -> None:
        self._connection = connection
        self._runner = runner
        self._on_agent_gone = on_agent_gone
        self._pending: deque[tuple[Delivery, TaskOptions, Sequence[Buffer]]] = deque()
        self._settled: deque[Settlement] = deque()
        self._results: dict[str, Sequence[Buffer]] = {}  # the parts of large results not yet sent, by blob key
        self._sending = threading.Lock()
        self._wake: SimpleQueue[bool] = SimpleQueue()  # True: there is a chunk; False: stop
        self._flushed_at = 0.0

    def run(self) -> None:
        """Run tasks in this thread until the agent says Stop."""
        self._send(Ready(self._runner.names))
        threading.Thread(target=self._carry, name="mesh-courier", daemon=True).start()
        while self._wake.get():
            self._run_pending()

    # the main thread

    def _run_pending(self) -> None:
        pending, settled, run = self._pending, self._settled, self._runner.run
        self._flushed_at = monotonic()
        while True:
            try:
                delivery, options, parts = pending.popleft()
            except IndexError:
                break
            settlement, parts = run(delivery, options, parts)
            if parts:
                self._results.update((blob.key, parts) for blob in blobs_of((settlement,)))
            settled.append(settlement)
            # parts are views of the user's own arrays, which the next task may change
            if parts or monotonic() - self._flushed_at > FLUSH_S:
                self._flush()
        self._flush()
        sys.stdout.flush()
        sys.stderr.flush()

    # both threads

    def _flush(self) -> None:
        with self._sending:
            batch = [self._settled.popleft() for _ in range(len(self._settled))]
            if not batch:
                return
            self._flushed_at = monotonic()
            parts: list[Buffer] = []
            if self._results:
                for blob in blobs_of(batch):
                    parts += self._results.pop(blob.key)
            self._send(Done(batch), parts)

    def _send(self, message: FromExecutor, parts: Sequence[Buffer] = ()) -> None:
        try:
            send_blocking(self._connection, encode_frame(message, parts))
        except OSError:
            self._on_agent_gone()

    # the courier

    def _carry(self) -> None:
        try:
            self._serve()
        except Exception:
            log.critical("the executor's courier failed; its agent will start another executor", exc_info=True)
        self._on_agent_gone()

    def _serve(self) -> None:
        """Read the socket until the agent is gone."""
        reader = FrameReader(self._connection)
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        while not reader.ended:
            waiting = self._pending or self._settled
            if not poll.poll(FLUSH_S * 1000 if waiting else None):
                self._flush()
                continue
            for envelope, raw in reader.read():
                self._receive(envelope, raw)

    def _receive(self, envelope: memoryview, raw: memoryview) -> None:
        message = decode_from_agent(envelope)
        match message:
            case Chunk():
                self._accept(message, raw)
                self._wake.put(True)
            case Code():
                payload = message.code.payload
                blobs = [payload] if isinstance(payload, Blob) else []
                self._runner.add_function(message.code, [b for buffers in split_buffers(raw, blobs) for b in buffers])
            case Reclaim():
                self._reclaim()
            case Stop():
                self._wake.put(False)

    def _accept(self, chunk: Chunk, raw: memoryview) -> None:
        options = chunk.options
        if not raw:
            self._pending.extend([(delivery, options[delivery.option], ()) for delivery in chunk.tasks])
            return
        parts = iter(split_buffers(raw, [d.payload for d in chunk.tasks if isinstance(d.payload, Blob)]))
        for delivery in chunk.tasks:
            own = next(parts) if isinstance(delivery.payload, Blob) else ()
            self._pending.append((delivery, options[delivery.option], own))

    def _reclaim(self) -> None:
        ids: list[str] = []
        while True:
            try:
                ids.append(self._pending.pop()[0].id)
            except IndexError:
                break
        with self._sending:
            self._send(Reclaimed(ids[::-1]))
