"""Why a task is not finished, in a sentence for people: the body of the REPLY to ``QUERY story``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import takewhile
from typing import TYPE_CHECKING

from mesh.clock import Now
from mesh.core.queues import Lane
from mesh.core.record import TaskRecord
from mesh.core.states import LEASED, SCHEDULED
from mesh.core.status import parked_why

if TYPE_CHECKING:
    from mesh.core.router import RouterMachine

STORIES_MAX = 10  # told in one answer
COUNTED_MAX = 10_000  # tasks looked at to count those before one
DATES_END = datetime(9999, 12, 31, tzinfo=UTC).timestamp()


def stories(router: RouterMachine, ids: Sequence[str], now: Now) -> dict[str, str]:
    """The stories of those of the tasks that are here and unfinished."""
    tasks = router.table.tasks
    return {i: _story(router, tasks[i], now) for i in ids[:STORIES_MAX] if i in tasks}


def _story(router: RouterMachine, task: TaskRecord, now: Now) -> str:
    text = _what_it_does(router, task, now)
    rare = task.rare
    if rare is not None and rare.causes:
        text += f"; lost before: {', '.join(rare.causes)}"
    if rare is not None and rare.cancel is not None:
        text += "; it is asked to end"
    if router.halted:
        text += f"; nothing that ends is told meanwhile, and nothing started: {router.full}"
    return text


def _what_it_does(router: RouterMachine, task: TaskRecord, now: Now) -> str:
    if task.id in router.table.limbo:
        return "the router was restarted and waits for its workers to say what they still run"
    if task.state is LEASED:
        return _with_its_worker(router, task)
    if task.state is SCHEDULED:
        rare = task.rarely()
        what = f"its retry {rare.retries}" if rare.retries else "its time"
        return f"it waits for {what}, {_moment(rare.eta or now.wall, now.wall)}"
    lane = task.kind.lane
    why = parked_why(router, lane)
    if why is not None:
        return f"it waits: {why} ({_remedy(router, lane)})"
    if router.halted:
        return "it waits: the router starts nothing"
    return f"it waits for a free worker ({len(router.able(lane))} can run it); {_before(router, task)}"


def _with_its_worker(router: RouterMachine, task: TaskRecord) -> str:
    assert task.worker is not None, task.story()
    worker = router.workers[task.worker]
    if worker.held <= worker.slots:
        return f"it runs on worker {worker.name} (attempt {task.attempt})"
    executors = f"{worker.slots} executor{'s' * (worker.slots != 1)}"
    return f"worker {worker.name} has it (attempt {task.attempt}), with {worker.held - 1} more, for {executors}"


def _remedy(router: RouterMachine, lane: Lane) -> str:
    """What to do about a lane that nobody can run."""
    if not router.workers:
        return "start one"
    if not any(lane.queue in worker.info.queues for worker in router.workers.values()):
        return f"start one with -Q {lane.queue}"
    if lane.need.function is not None:
        return "start one with it"
    return "start one with -A and the module that defines it, or restart it, if the module has changed since"


def _before(router: RouterMachine, task: TaskRecord) -> str:
    """How many tasks go first, where they are few enough to be counted."""
    own = task.kind.lane
    lanes = [lane for lane in router.table.ready if lane.queue == own.queue and len(lane) and router.able(lane)]
    rivals = [lane for lane in lanes if lane.priority == own.priority]
    if sum(map(len, rivals)) > COUNTED_MAX:
        return f"more than {COUNTED_MAX:,} tasks are in its queue"
    before = sum(len(lane) for lane in lanes if lane.priority > own.priority)
    for lane in rivals:
        if lane is own:
            before += sum(1 for _ in takewhile(lambda other: other is not task, lane))
        else:
            before += sum(1 for other in lane if other.order < task.order)
    return "1 task is before it" if before == 1 else f"{before:,} tasks are before it"


def _moment(at: float, now: float) -> str:
    """An instant to come, with its date where that is not today's."""
    left = f"in {max(0.0, at - now):,.0f} s"
    if at >= DATES_END:
        return left
    when = datetime.fromtimestamp(at, UTC)
    today = when.date() == datetime.fromtimestamp(min(now, DATES_END), UTC).date()
    return f"{when:{'%H:%M:%S' if today else '%Y-%m-%d %H:%M:%S'}} UTC, {left}"
