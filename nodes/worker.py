"""The worker node's agent process: the worker machine on real sockets and real executor processes.

User code never runs here, so the agent always answers.
"""

from __future__ import annotations

import logging
import os
import platform
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from logging import INFO, WARNING
from time import monotonic
from typing import Any

from mesh.clock import SystemClock
from mesh.core.commands import (
    Command,
    Complain,
    DropPeer,
    Exit,
    PublishRefused,
    ReportEnded,
    ReportForgotten,
    Send,
    SessionEnded,
)
from mesh.core.events import Event, ExecutorStarted, StopRequested
from mesh.core.scheduler import SchedulerMachine
from mesh.core.worker import WorkerMachine
from mesh.errors import ConfigError
from mesh.model import Blob, Buffer, Role
from mesh.net.arrivals import Arrivals
from mesh.net.dealer_transport import DealerTransport
from mesh.runtime.channels import RouterChannels
from mesh.runtime.depot import Depot
from mesh.runtime.dialing import Dialer
from mesh.runtime.pool import ExecutorPool
from mesh.runtime.router_events import RouterEvents
from mesh.runtime.routers import Routers
from mesh.settings import Settings
from mesh.wire.functions import PYTHON
from nodes.complaints import Complaints
from nodes.counts import count_of
from nodes.logs import configure_logs
from nodes.stopping import Stopping

log = logging.getLogger("mesh.worker")

UNFIT_S = 1.0  # without a router, and without a key for one of another machine: say so
SUPERVISED = "the router that is started beside this node, if any, says in the log what it waits for."
LONELY_S = 5.0  # without a router: say what was tried, and again each time twice as late


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """How to run a worker node. ``concurrency``: executor processes, None for one per CPU; 0: it runs no tasks.

    ``scheduler``: it may be the leader that says what periodic tasks are due. ``supervised``: a supervisor started it,
    beside a router mostly.
    """

    settings: Settings
    app: str | None = None
    include: tuple[str, ...] = ()
    queues: tuple[str, ...] = ("default",)
    concurrency: int | None = None
    name: str | None = None
    routers: tuple[str, ...] = ()
    max_tasks_per_child: int | None = None
    time_limit_s: float | None = None
    scheduler: bool = True
    loglevel: str = "info"
    supervised: bool = False


def run_worker(config: WorkerConfig) -> int:
    """Run a worker node until it is told to stop and has drained; the exit code. Raises ``ConfigError``."""
    configure_logs(config.loglevel)
    return Agent(config).run()


class Agent:
    """One worker node: transport, executors and machine, and the loop that joins them."""

    def __init__(self, config: WorkerConfig) -> None:
        settings = self._settings = config.settings
        self._config = config
        self._clock = SystemClock()
        node_id = secrets.token_hex(8)
        self.name = config.name or f"worker{os.getpid()}@{platform.node()}"
        slots = config.concurrency if config.concurrency is not None else os.cpu_count() or 1
        self._machine = WorkerMachine(
            node_id,
            self.name,
            settings,
            slots=slots,
            queues=config.queues,
            python=PYTHON,
            version=version("taskmesh"),
            max_tasks=config.max_tasks_per_child,
            time_limit_s=config.time_limit_s,
            scheduler=SchedulerMachine(settings) if config.scheduler else None,
        )
        self._transport = DealerTransport(outbox_bytes_max=settings.outbox_bytes_max)
        self._pool = ExecutorPool(
            self._transport,
            app=config.app,
            include=config.include,
            worker_name=self.name,
            settings=settings,
            loglevel=config.loglevel,
        )
        self._channels = RouterChannels(self._transport, self._parts_of)
        self._pool.blobs_in = self._channels.parts
        self._pool.depot_of = self._depot_of
        self._pool.offer = self._channels.offer
        advice = SUPERVISED if config.supervised else ""
        dialer = Dialer(self._transport, settings.mesh, Role.WORKER, config.routers, advice=advice)
        self._routers = Routers(settings, self._transport, dialer, self._clock, advice=advice)
        self._from_routers = RouterEvents(self._routers, self._channels, self._clock)
        self._stopping = Stopping(self._transport.wake)
        self._stops_seen = 0
        self._complain_after_s = LONELY_S
        self._unfit_said = False
        self._loaded_said = False
        self._exit: Exit | None = None
        self._complaints = Complaints(log)

    def run(self) -> int:
        """Serve until told to stop, or until there is no sense in going on."""
        if self._machine.slots:
            executors = count_of(self._machine.slots, "executor")
            log.info("worker %s starts %s for queues %s", self.name, executors, self._config.queues)
        else:
            log.info("scheduler %s starts, looks for a router, and runs no tasks", self.name)
        try:
            self._obey(self._machine.start())
            self._routers.start()
            while self._exit is None:
                self._turn()
            return self._leave(self._exit)
        finally:
            self._routers.close()
            self._pool.close(kill=True)
            self._channels.withdraw_all()
            self._transport.close()

    def _leave(self, exit_: Exit) -> int:
        if exit_.code:
            raise ConfigError(exit_.reason)
        log.info("worker %s leaves: %s", self.name, exit_.reason)
        return 0

    def _turn(self) -> None:
        arrivals = self._transport.receive(self._pause_s())
        events = self._events(arrivals)
        if self._stopping.asked > self._stops_seen:
            self._stops_seen = self._stopping.asked
            log.info("asked to stop%s", " at once" if self._stops_seen > 1 else ": finishing what runs")
            events.append(StopRequested(at_once=self._stops_seen > 1))
        self._obey(self._machine.handle(events, self._clock.now()))
        self._forget_blobs()
        self._complaints.due(monotonic())
        self._complain_when_lonely()

    def _pause_s(self) -> float:
        if self._routers.has_news or self._stopping.asked > self._stops_seen:
            return 0.0
        now = monotonic()
        wake_at = now + self._settings.heartbeat_s
        for deadline in (self._machine.next_deadline(), self._pool.next_deadline()):
            if deadline is not None and deadline < wake_at:
                wake_at = deadline
        return max(0.0, wake_at - now)

    # coming in

    def _events(self, arrivals: Arrivals) -> list[Event]:
        # What executors finished is told first, so that a RECALL or a new delivery finds them as they are.
        events: list[Event] = self._pool.events(arrivals.readable + arrivals.writable)
        for event in events:
            if isinstance(event, ExecutorStarted) and event.app is not None and self._config.scheduler:
                self._say_loaded(event.app, len(event.entries))
        return events + self._from_routers.take(arrivals)

    def _say_loaded(self, app: str, entries: int) -> None:
        """Once: each executor loads the same."""
        if not self._loaded_said:
            self._loaded_said = True
            log.info("the code of app %s is loaded: %s", app, count_of(entries, "periodic task"))

    # going out

    def _obey(self, commands: Sequence[Command]) -> None:
        for command in commands:
            if isinstance(command, Send):
                self._channels.send(command.peer, command.message)
            elif isinstance(command, DropPeer):
                self._from_routers.leave(command.peer)
            elif isinstance(command, ReportEnded):
                _log_ended(command, self._machine.slots)
            elif isinstance(command, ReportForgotten):
                _log_forgotten(command)
            elif isinstance(command, Exit):
                self._exit = command
            elif isinstance(command, Complain):
                self._complaints.add(command.kind, command.text, monotonic(), is_wrong=command.is_wrong)
            elif isinstance(command, SessionEnded):
                self._from_routers.end_session(command)
            elif isinstance(command, PublishRefused):
                self._routers.prospects.refuse(command.reason)
                if command.code in ("protocol", "role", "invalid") and not self._routers.welcomed:
                    self._exit = Exit(1, f"the router refuses this worker: {command.reason}")
            else:
                self._pool.apply(command)  # type: ignore[arg-type]

    def _parts_of(self, blob: Blob) -> Sequence[Buffer] | None:
        return self._pool.blobs_out.get(blob.key) or None  # nothing is kept where it could not be mapped

    def _depot_of(self, task_id: str) -> Depot | None:
        router = self._machine.router_of(task_id)
        return None if router is None else self._channels.depots.get(router)

    def _forget_blobs(self) -> None:
        """Large payloads stay as long as somebody may still ask this node for them."""
        self._channels.files.clear()  # executors find them by themselves
        if self._pool.blobs_in:
            _keep_only(self._pool.blobs_in, self._machine.blobs_held())
        if self._pool.blobs_out:
            for key in _keep_only(self._pool.blobs_out, self._machine.blobs_owed()):
                self._channels.withdraw(key)

    def _complain_when_lonely(self) -> None:
        lonely_s = self._routers.prospects.lonely_s
        if not lonely_s:
            self._complain_after_s = LONELY_S
        elif self._routers.prospects.is_unfit and not self._unfit_said and lonely_s > UNFIT_S and not self._stops_seen:
            self._unfit_said = True
            log.warning("no router yet: %s", self._routers.prospects.situation())
        elif lonely_s > self._complain_after_s and not self._stops_seen:  # one that stops has left its routers itself
            self._complain_after_s = lonely_s + min(lonely_s, 60.0)
            if self._machine.tasks is None:  # it says HELLO with the names of its tasks
                log.warning("no executor is ready yet: the app is still being imported, or its import hangs")
            else:
                log.warning("no router yet: %s", self._routers.prospects.situation())


def _log_ended(report: ReportEnded, slots: int) -> None:
    if report.cause == "stopped" and not slots and not report.details:
        log.info("the process that read the code has ended; it is not needed any more")
        return
    details = f"; {report.details}" if report.details else ""
    level = INFO if report.cause == "stopped" and not details else WARNING
    log.log(level, "executor %d: %s%s", report.executor, report.cause, details)


def _log_forgotten(report: ReportForgotten) -> None:
    log.warning(
        "the router at %s is gone for good; settlements told to nobody: %d, deliveries given up unstarted: %d, "
        "running for nobody: %s",
        report.endpoint,
        report.settlements,
        report.given_up,
        report.running or "nothing",
    )


def _keep_only(parts: dict[str, Any], keys: set[str]) -> set[str]:
    gone = parts.keys() - keys
    for key in gone:
        del parts[key]
    return gone
