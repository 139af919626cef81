"""The loop of an executor process: takes chunks of tasks from its agent, runs them, says how they ended.

Two threads. The main thread reads the socket, runs the tasks that came, because users' code may need it (signals),
and sends what is finished when a chunk ends. The courier stands in for it while a task takes long: it answers a
Reclaim, and sends what is finished. Short chunks never meet it, so they cost no switch of threads. A deque of what
is pending lies between the two: both take from it, each delivery is taken once.
"""

from __future__ import annotations

import logging
import select
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic, sleep

from mesh.entries import Entry
from mesh.errors import StoreError
from mesh.model import Blob, Buffer, Delivery, Settlement, TaskOptions
from mesh.runtime.depot import Buffers, Depot
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
    with_blob,
)

FLUSH_S = 0.005
"""What is finished waits no longer than this for a task that is not."""

WATCH_S = 0.1
"""How often the courier looks whether there is a new chunk, while nothing waits for the task that runs."""

NOTHING_DEFINED: tuple[dict[str, float], list[str]] = ({}, [])

log = logging.getLogger("mesh.executor")


class ExecutorLoop:
    """Serves one agent at the other end of ``connection``; ``defined``: see ``mesh.runtime.registry.definitions``.

    ``app``, ``entries``: the name of the app, and the periodic tasks in its code.
    """

    def __init__(
        self,
        connection: socket.socket,
        runner: Runner,
        on_agent_gone: Callable[[], None],
        defined: tuple[dict[str, float], list[str]] = NOTHING_DEFINED,
        app: str | None = None,
        entries: Sequence[Entry] = (),
    ) -> None:
        self._connection = connection
        self._runner = runner
        self._on_agent_gone = on_agent_gone
        self._ready = Ready(runner.names, None, *defined, app, list(entries))
        self._pending: deque[tuple[Delivery, TaskOptions, Buffers, Depot | None]] = deque()
        self._settled: deque[Settlement] = deque()
        self._depot: Depot | None = None  # where large results of ``_settled`` were left
        self._results: dict[str, Sequence[Buffer]] = {}  # the parts of large results not yet sent, by blob key
        self._sending = threading.RLock()
        self._reader = FrameReader(connection)
        self._reading = threading.Lock()  # the main thread has it whenever it does not run tasks
        self._busy = threading.Event()  # the main thread runs tasks
        self._stopped = False
        self._flushed_at = 0.0

    def run(self) -> None:
        """Run tasks in this thread until the agent says Stop."""
        self._send(self._ready)
        courier = threading.Thread(target=self._guarded, args=(self._carry,), name="mesh-courier", daemon=True)
        courier.start()
        self._guarded(self._serve)
        self._busy.set()  # should this process not end, the courier still notices that the agent is gone

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:
            log.critical("the executor failed; its agent will start another one", exc_info=True)
            self._on_agent_gone()

    # the main thread

    def _serve(self) -> None:
        poll = self._new_poll()
        while not self._stopped:
            with self._reading:
                if not self._pending and not self._stopped:  # else the courier has read meanwhile
                    # Not in recv, which would also wake us each time the agent takes what we have sent.
                    poll.poll()
                    self._read()
            self._run_pending()

    def _run_pending(self) -> None:
        pending, settled, run = self._pending, self._settled, self._runner.run
        self._flushed_at = monotonic()
        self._busy.set()
        while pending:
            try:
                delivery, options, buffers, depot = pending.popleft()
            except IndexError:  # the courier was faster
                break
            if depot is not self._depot:
                self._flush()  # what was left elsewhere is told with where that is
                self._depot = depot
            settlement, parts = run(delivery, options, buffers)
            if parts:
                settlement = self._keep_result(settlement, parts, depot)
            settled.append(settlement)
            # parts are views of the user's own arrays, which the next task may change
            if parts or monotonic() - self._flushed_at > FLUSH_S:
                self._flush()
        self._flush()
        self._busy.clear()
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):  # a task may have put anything there, or closed it
                stream.flush()

    def _keep_result(self, settlement: Settlement, parts: Sequence[Buffer], depot: Depot | None) -> Settlement:
        """Leave a large result in the depot of its router; where that cannot be, it goes through the agent."""
        (blob,) = blobs_of((settlement,))
        left = depot.leave(blob, parts) if depot is not None else None
        if left is not None:
            return with_blob(settlement, left)
        self._results[blob.key] = parts
        return settlement

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
                    parts += self._results.pop(blob.key, ())
            self._send(Done(batch, self._depot.directory if self._depot is not None else None), parts)

    def _send(self, message: FromExecutor, parts: Sequence[Buffer] = ()) -> None:
        try:
            send_blocking(self._connection, encode_frame(message, parts))
        except OSError:
            self._on_agent_gone()

    def _new_poll(self) -> select.poll:
        """Each thread has its own: they may wait at the same time."""
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        return poll

    def _read(self) -> None:
        """Take what the agent has sent. The caller has ``_reading``."""
        for envelope, raw in self._reader.read():
            self._receive(envelope, raw)
        if self._reader.ended:
            self._stopped = True
            self._on_agent_gone()

    def _receive(self, envelope: memoryview, raw: memoryview) -> None:
        message = decode_from_agent(envelope)
        match message:
            case Chunk():
                self._accept(message, raw)
            case Code():
                payload = message.code.payload
                blobs = [payload] if isinstance(payload, Blob) else []
                self._runner.add_function(message.code, [b for buffers in split_buffers(raw, blobs) for b in buffers])
            case Reclaim():
                self._reclaim()
            case Stop():
                self._stopped = True

    def _accept(self, chunk: Chunk, raw: memoryview) -> None:
        options = chunk.options
        depot = None if chunk.depot is None else Depot(chunk.depot, sync=chunk.sync)
        blobs = [d.payload for d in chunk.tasks if type(d.payload) is Blob]
        if not blobs:
            self._pending.extend([(delivery, options[delivery.option], (), depot) for delivery in chunk.tasks])
            return
        sent = iter(split_buffers(raw, [blob for blob in blobs if blob.file is None]))
        for delivery in chunk.tasks:
            payload = delivery.payload
            buffers: Buffers = ()
            if type(payload) is Blob:
                if payload.file is None:
                    buffers = next(sent)
                elif depot is not None:
                    buffers = depot.find(payload)
                else:
                    buffers = StoreError(f"payload {payload.key} cannot be read: its router's depot is not known")
            self._pending.append((delivery, options[delivery.option], buffers, depot))

    def _reclaim(self) -> None:
        ids: list[str] = []
        while True:
            try:
                ids.append(self._pending.pop()[0].id)
            except IndexError:
                break
        with self._sending:  # what is finished is told before: then at most one that runs is left
            self._flush()
            self._send(Reclaimed(ids[::-1]))

    # the courier

    def _carry(self) -> None:
        poll = self._new_poll()
        while not self._reader.ended:
            left_s = self._flushed_at + FLUSH_S - monotonic()
            if left_s > 0.0:
                sleep(left_s)
            elif self._busy.is_set():
                self._help(poll)
            else:
                self._busy.wait()

    def _help(self, poll: select.poll) -> None:
        self._flush()
        waiting = self._pending or self._settled
        if poll.poll(1000 * (FLUSH_S if waiting else WATCH_S)) and self._reading.acquire(blocking=False):
            try:
                self._read()
            finally:
                self._reading.release()
