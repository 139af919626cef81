"""The table of unfinished tasks: every change of a task's state in a router happens in this file.

Peers and their sessions are not known here; what must be written or told goes into the ledger.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from msgspec.structs import replace

from mesh.clock import Now
from mesh.core.commands import AppendBatch, Record, SaveMarks
from mesh.core.functions import ShippedFunctions
from mesh.core.ledger import Ledger
from mesh.core.queues import ReadyQueues
from mesh.core.record import Batch, Kind, Rare, TaskRecord
from mesh.core.states import CANCELLED, DEAD, EXPIRED, FAILED, LEASED, READY, SCHEDULED, SUCCEEDED
from mesh.core.timers import Timers
from mesh.core.watching import Watching
from mesh.messages import Submit
from mesh.model import (
    INSTANT_MAX,
    Blob,
    Delivery,
    Ending,
    ErrorInfo,
    Outcome,
    Payload,
    Peer,
    Settlement,
    TaskMark,
    TaskOptions,
    TaskSpec,
    TaskState,
    payload_size,
)
from mesh.settings import Settings

KINDS_MAX = 4_096  # interned options; beyond, those without tasks are dropped


class TaskTable:
    """Unfinished tasks by id, the lanes they wait in and the times they wait for."""

    def __init__(self, settings: Settings, ledger: Ledger, next_seq: int) -> None:
        self._settings = settings
        self._ledger = ledger
        self.tasks: dict[str, TaskRecord] = {}
        self.batches: dict[int, Batch] = {}
        self.ready = ReadyQueues(lanes_max=KINDS_MAX)
        self.limbo: dict[str, TaskRecord] = {}
        self.bytes = 0
        self.accepted = 0
        self.finished: dict[TaskState, int] = dict.fromkeys((SUCCEEDED, FAILED, CANCELLED, EXPIRED, DEAD), 0)
        self.watching = Watching()
        self.functions = ShippedFunctions(ledger, settings.function_ttl_s)
        self._kinds: dict[TaskOptions, Kind] = {}
        self._etas = Timers(self.tasks, lambda task: task.state is SCHEDULED)
        self._expiries = Timers(self.tasks, lambda task: True)
        self._next_seq = next_seq
        self.last_order = 0
        self._next_kind = 0
        self._kinds_max = KINDS_MAX
        self.lanes_dropped = False  # since somebody looked

    # coming in

    def _kinds_of(self, submit: Submit) -> list[Kind]:
        """The interned options of a batch."""
        # Before, and not between: those just made have no tasks yet, and their lanes must not be dropped.
        if len(self._kinds) + len(submit.options) > self._kinds_max:
            self._drop_unused_kinds()
        return [self.kind(options) for options in submit.options]

    def kind(self, options: TaskOptions) -> Kind:
        """The interned form of ``options``."""
        kind = self._kinds.get(options)
        if kind is None:
            lane = self.ready.lane(options)
            self._next_kind += 1
            kind = self._kinds[options] = Kind(self._next_kind, options, lane)
        return kind

    def _drop_unused_kinds(self) -> None:
        used = {id(task.kind) for task in self.tasks.values()}
        self._kinds = {options: kind for options, kind in self._kinds.items() if id(kind) in used}
        if self.ready.crowded():
            self.ready.drop_unused({task.kind.lane.number for task in self.tasks.values()})
        self._kinds_max = max(KINDS_MAX, 2 * len(self._kinds))  # many in use: do not look again at each new one
        self.lanes_dropped = True

    def accept(self, owner: Peer | None, submit: Submit, raw: bytes | None, known: Collection[str], now: Now) -> None:
        """Take in the tasks of a batch that are neither unfinished here nor ``known`` to be finished."""
        tasks = self.tasks
        kinds = self._kinds_of(submit)
        batch = Batch(self._next_seq, now.wall, owner, elsewhere=submit.elsewhere)
        specs = submit.tasks
        fresh = (
            [spec for spec in specs if spec.id not in tasks and spec.id not in known]
            if known
            else [spec for spec in specs if spec.id not in tasks]
        )
        if len(fresh) != len(specs):
            for spec in specs:
                wanted = not submit.options[spec.option].ignore_result
                if owner is not None and spec.id in tasks and wanted and not self.is_told(owner, spec.id):
                    self.watching.add(owner, spec.id)
            submit, raw = replace(submit, tasks=fresh), None
        if not fresh:
            return
        batch.functions = self.functions.use(submit.options)
        order = self.last_order
        doubled = False
        for spec in fresh:
            if spec.id in tasks:  # the same id twice in one batch
                doubled = True
                continue
            kind = kinds[spec.option]
            order += 1
            payload = spec.payload
            self.bytes += len(payload) if type(payload) is bytes else payload_size(payload)
            task = tasks[spec.id] = TaskRecord(spec.id, kind, payload, batch, order, READY)
            batch.open += 1
            if spec.eta is None and spec.expires_at is None and spec.extra is None:
                kind.lane.tasks.append(task)
            else:
                self._accept_rare(task, spec, now)
        if doubled:
            first: dict[str, TaskSpec] = {}
            for spec in fresh:
                first.setdefault(spec.id, spec)
            submit, raw = replace(submit, tasks=list(first.values())), None
        for kind in kinds:
            self.ready.stock(kind.lane)
        self.last_order = order
        self.accepted += batch.open
        self.batches[batch.seq] = batch
        self._next_seq += 1
        self._ledger.batches.append(AppendBatch(batch.seq, submit, raw, now.wall))

    def _accept_rare(self, task: TaskRecord, spec: TaskSpec, now: Now) -> None:
        task.rare = Rare(eta=spec.eta, expires_at=spec.expires_at, extra=spec.extra)
        if spec.expires_at is not None:
            self._expiries.add(spec.expires_at, task)
        if spec.eta is not None and spec.eta > now.wall:
            task.state = SCHEDULED
            self._schedule(task, spec.eta)
        else:
            self._stand(task)

    def _stand(self, task: TaskRecord) -> None:
        """A task that is ready stands last in its lane."""
        lane = task.kind.lane
        lane.tasks.append(task)
        self.ready.stock(lane)

    def is_told(self, peer: Peer, task_id: str) -> bool:
        """Whether ``peer`` is told of this task's outcome without watching: it submitted it, and wants its result."""
        task = self.tasks[task_id]
        return task.batch.owner == peer and not task.kind.options.ignore_result

    # going out

    def lease(self, tasks: Iterable[TaskRecord], worker: Peer) -> list[Delivery]:
        """Make ``worker`` the holder of the next attempt of these."""
        deliveries: list[Delivery] = []
        for task in tasks:
            task.move(LEASED)
            task.worker = worker
            task.attempt += 1
            rare = task.rare
            deliveries.append(
                Delivery(task.id, task.kind.number, task.attempt, task.payload)
                if rare is None
                else Delivery(
                    task.id,
                    task.kind.number,
                    task.attempt,
                    task.payload,
                    rare.retries,
                    rare.deaths,
                    rare.expires_at,
                    rare.extra,
                )
            )
        return deliveries

    def mark_started(self, task: TaskRecord) -> None:
        """Write down, before it is delivered, that an at-most-once task was handed out."""
        task.rarely().started = True
        self._mark(task)

    def end_elsewhere(self, taken: Collection[TaskRecord], now: Now) -> None:
        """These, which were taken to be delivered, are at most once, and another router may have delivered them.

        The client did not know that a worker defines them so, and gave them to us. What stands behind them in their
        lanes ends with them where it is the same with it.
        """
        why = (
            "it is delivered at most once, and the router that it was submitted to first was lost before it answered: "
            "whether it ran there is unknown"
        )
        by_lane: dict[int, list[TaskRecord]] = {}
        for task in taken:
            by_lane.setdefault(task.kind.lane.number, []).append(task)
        for tasks in by_lane.values():
            lane = tasks[0].kind.lane
            lane.put_back(tasks)
            for task in [task for task in lane if task.batch.elsewhere]:
                self.end(task, FAILED, now, ErrorInfo("mesh.errors.WorkerLostError", why))

    def take_back_start(self, returned: Iterable[TaskRecord]) -> None:
        """At-most-once tasks whose worker says that it has not started them may be handed out again."""
        for task in returned:
            if task.rare is not None and task.rare.started:
                task.rare.started = False
                self._mark(task)

    def adopt(self, claims: Iterable[tuple[TaskRecord, int]], worker: Peer) -> None:
        """``worker`` says that it holds these attempts, of tasks that nobody else holds."""
        lanes = {}
        for task, attempt in claims:
            self.limbo.pop(task.id, None)
            if task.state is READY:
                task.kind.lane.remove_one()
                lanes[task.kind.lane.number] = task.kind.lane
            task.move(LEASED)
            task.worker = worker
            task.attempt = attempt
        for lane in lanes.values():
            lane.compact()

    # coming back

    def requeue(self, returned: Iterable[TaskRecord], now: Now) -> None:
        """Leased tasks that were not run go back to the head of their lanes."""
        by_lane: dict[int, list[TaskRecord]] = {}
        for task in returned:
            rare = task.rare
            if rare is not None and self._ends_instead(task, rare, now):
                continue
            task.move(READY)
            task.worker = None
            by_lane.setdefault(task.kind.lane.number, []).append(task)
        for tasks in by_lane.values():
            lane = tasks[0].kind.lane
            lane.put_back(tasks)
            self.ready.stock(lane)

    def _ends_instead(self, task: TaskRecord, rare: Rare, now: Now) -> bool:
        """Whether a task that came back is not to run again, for it was cancelled or its time is over."""
        if rare.cancel is not None:
            self.end(task, CANCELLED, now)
            return True
        if rare.expires_at is not None and rare.expires_at <= now.wall:
            why = "its time to start passed, and no worker is known to run it"
            self.end(task, EXPIRED, now, ErrorInfo("mesh.errors.TaskExpired", why))
            return True
        return False

    def settle_lost(self, task: TaskRecord, cause: str, now: Now, *, node: bool) -> bool:
        """The process that ran the task is gone: ``node`` for a whole worker node, else its executor only.

        True where the task is to run again: the caller requeues it, with all others it lost, in one go.
        """
        rare = task.rarely()
        rare.causes = (*rare.causes[-9:], cause)
        if node:
            rare.losses += 1
        else:
            rare.deaths += 1
            rare.settled = task.attempt
        if task.at_most_once:
            why = f"its worker was lost ({cause}) and it is delivered at most once: whether it ran is unknown"
            self.end(task, FAILED, now, ErrorInfo("mesh.errors.WorkerLostError", why))
        elif rare.deaths >= self._settings.deaths_max or rare.losses >= self._settings.losses_max:
            why = (
                f"dead-lettered: {rare.deaths} worker processes died and {rare.losses} worker nodes or deliveries "
                f"were lost with it ({', '.join(rare.causes)})"
            )
            self.end(task, DEAD, now, ErrorInfo("mesh.errors.WorkerLostError", why))
        else:
            self._mark(task)
            return True
        return False

    def settle_retry(self, task: TaskRecord, settlement: Settlement, now: Now) -> None:
        """The task asked to be tried again later."""
        rare = task.rarely()
        if self._ends_instead(task, rare, now):
            return
        retry = settlement.retry
        rare.retries += 1
        rare.settled = task.attempt
        rare.started = False
        rare.eta = retry.eta if retry is not None else now.wall
        if retry is not None and retry.payload is not None:
            self._replace_payload(task, retry.payload)
        task.move(SCHEDULED)
        task.worker = None
        self._schedule(task, rare.eta)
        self._mark(task)

    def _replace_payload(self, task: TaskRecord, payload: Payload) -> None:
        self.bytes -= task.size
        if isinstance(task.payload, Blob):
            self._ledger.blobs.append(task.payload)
        task.payload = payload
        self.bytes += task.size

    def _mark(self, task: TaskRecord) -> None:
        rare = task.rarely()
        rare.marked = True
        self._ledger.marks[task.id] = _mark_of(task, rare, task.attempt)

    # the end

    def end(
        self, task: TaskRecord, state: TaskState, now: Now, error: ErrorInfo | None = None, worker: str = ""
    ) -> None:
        """Finish a task without a result of its own."""
        if error is None and state is CANCELLED:
            error = ErrorInfo("mesh.errors.TaskRevokedError", "cancelled before it finished")
        elif error is None and state is EXPIRED:
            error = ErrorInfo("mesh.errors.TaskExpired", "its time to start passed before a worker was free for it")
        self.finish(task, Settlement(task.id, task.attempt, Ending.FAILED, error=error), state, now, worker)

    def finish(self, task: TaskRecord, settlement: Settlement, state: TaskState, now: Now, worker: str) -> Outcome:
        """Give a task its one outcome, for the store and for whoever waits; the task is gone."""
        was = task.state
        task.move(state)
        if was is READY:
            task.kind.lane.remove_one()
        elif was is SCHEDULED and self.limbo.pop(task.id, None) is None:
            task.kind.lane.scheduled -= 1
        options, batch, rare, ledger = task.kind.options, task.batch, task.rare, self._ledger
        expires_at = now.wall + (self._settings.result_ttl_s if options.result_ttl_s is None else options.result_ttl_s)
        if not 0.0 <= expires_at <= INSTANT_MAX:  # nobody could read it
            expires_at = 0.0 if expires_at < 0.0 else INSTANT_MAX
        outcome = Outcome(
            task.id,
            state,
            b"" if options.ignore_result else settlement.payload,
            settlement.error,
            options.name,
            options.queue,
            worker,
            task.attempt,
            rare.retries if rare is not None else 0,
            batch.accepted_at,
            settlement.started_at,
            now.wall,
            expires_at,
            batch.seq,
            settlement.runtime_s,
        )
        ledger.outcomes.append(outcome)
        self.finished[state] += 1
        del self.tasks[task.id]
        if rare is not None and rare.marked:
            ledger.marks.pop(task.id, None)
            ledger.unmarked.append(task.id)
        payload = task.payload
        if type(payload) is bytes:  # as nearly always, and these are the hottest lines of a router
            self.bytes -= len(payload)
        else:
            self.bytes -= task.size
            ledger.blobs.append(payload)  # type: ignore[arg-type]
        batch.open -= 1
        if batch.open == 0:
            ledger.done_batches.append(batch.seq)
            self.functions.release(batch.functions)
            del self.batches[batch.seq]
        if batch.owner is not None and not options.ignore_result:
            ledger.news[batch.owner].append(outcome)
        if self.watching.peers:
            for peer in self.watching.finish(task.id):
                ledger.news[peer].append(outcome)
        return outcome

    # time

    def advance(self, now: Now) -> None:
        """Start what is due and end what is too late."""
        for eta, task in self._etas.due(now.wall):
            if task.id not in self.limbo and task.rare is not None and task.rare.eta == eta:
                task.move(READY)
                task.kind.lane.scheduled -= 1
                self._stand(task)
        for _, task in self._expiries.due(now.wall):
            # Who holds it looks at the time before it starts, and in limbo somebody may hold it.
            if task.state is not LEASED and task.id not in self.limbo:
                self.end(task, EXPIRED, now)

    def _schedule(self, task: TaskRecord, eta: float) -> None:
        """A task whose state is SCHEDULED waits for its time."""
        self._etas.add(eta, task)
        task.kind.lane.scheduled += 1

    def next_due(self) -> float | None:
        """The next UTC second at which ``advance`` has something to do."""
        etas, expiries = self._etas.next(), self._expiries.next()
        return expiries if etas is None else etas if expiries is None else min(etas, expiries)

    # after a restart

    @property
    def last_seq(self) -> int:
        """The number of the newest batch."""
        return self._next_seq - 1

    def reserve(self, count: int) -> int:
        """Numbers for batches that come from another journal; the first of them."""
        first = self._next_seq
        self._next_seq += count
        return first

    def restore(
        self, seq: int, accepted_at: float, submit: Submit, settled: Collection[str], marks: dict[str, TaskMark]
    ) -> None:
        """Take in a journalled batch; its unfinished tasks wait in limbo until the workers have spoken."""
        batch = Batch(seq, accepted_at, None, elsewhere=submit.elsewhere)
        kinds = self._kinds_of(submit)
        for spec in submit.tasks:
            if spec.id in settled or spec.id in self.tasks:
                continue
            self.last_order += 1
            task = TaskRecord(spec.id, kinds[spec.option], spec.payload, batch, self.last_order, SCHEDULED)
            if spec.eta is not None or spec.expires_at is not None or spec.extra is not None:
                task.rare = Rare(eta=spec.eta, expires_at=spec.expires_at, extra=spec.extra)
            mark = marks.get(spec.id)
            if mark is not None and mark.batch == seq:
                self._restore_mark(task, mark)
            if task.rare is not None and task.rare.expires_at is not None:
                self._expiries.add(task.rare.expires_at, task)
            self.tasks[spec.id] = self.limbo[spec.id] = task
            self.bytes += task.size
            batch.open += 1
        if batch.open:
            batch.functions = self.functions.use(submit.options)
            self.batches[seq] = batch
        else:
            self._ledger.done_batches.append(seq)

    def _restore_mark(self, task: TaskRecord, mark: TaskMark) -> None:
        rare = task.rarely()
        rare.retries, rare.deaths, rare.eta = mark.retries, mark.deaths, mark.not_before
        rare.marked, rare.started = True, mark.started
        rare.losses, rare.causes = mark.losses, tuple(mark.causes)
        rare.settled = 0 if mark.started else mark.attempt
        task.attempt = mark.attempt
        if mark.payload is not None:
            task.payload = mark.payload

    def leave_limbo(self, ids: Iterable[str], now: Now) -> None:
        """Nobody holds those of these that are in limbo: they wait for their time or are ready."""
        for task in [task for task_id in ids if (task := self.limbo.get(task_id)) is not None]:
            rare = task.rare
            if rare is not None and rare.started and rare.cancel is None:
                why = "the router was restarted while it was out, and it is delivered at most once"
                self.end(task, FAILED, now, ErrorInfo("mesh.errors.WorkerLostError", why))
            elif rare is None or not self._ends_instead(task, rare, now):
                del self.limbo[task.id]
                if rare is not None and rare.eta is not None and rare.eta > now.wall:
                    self._schedule(task, rare.eta)
                else:
                    task.move(READY)
                    self._stand(task)

    # for a store that has lost it

    def contents(self) -> Iterator[Record]:
        """Each open batch with the tasks of it that are unfinished, and their marks.

        What is finished while this is gone through is left out.
        """
        by_batch: dict[int, list[TaskRecord]] = {seq: [] for seq in self.batches}
        for task in self.tasks.values():
            by_batch[task.batch.seq].append(task)
        return self._contents(by_batch)

    def _contents(self, by_batch: dict[int, list[TaskRecord]]) -> Iterator[Record]:
        for seq, tasks in by_batch.items():
            left = [task for task in tasks if self.tasks.get(task.id) is task]
            if not left:
                continue
            batch = left[0].batch
            options = {task.kind.number: task.kind.options for task in left}
            places = {number: place for place, number in enumerate(options)}
            specs = [_spec_of(task, places[task.kind.number]) for task in left]
            yield AppendBatch(
                seq, Submit(0, list(options.values()), specs, elsewhere=batch.elsewhere), None, batch.accepted_at
            )
            marks = [
                # A worker may say of the attempt that is out that it holds it: that one must not count as over.
                _mark_of(task, rare, task.attempt - (task.state is LEASED and not rare.started))
                for task in left
                if (rare := task.rare) is not None and rare.marked
            ]
            if marks:
                yield SaveMarks(marks)

    # invariants

    def check(self) -> None:
        """Raise ``AssertionError`` if the books do not balance."""
        open_: dict[int, int] = {}
        for task in self.tasks.values():
            open_[task.batch.seq] = open_.get(task.batch.seq, 0) + 1
            assert (task.worker is not None) == (task.state is LEASED), task.story()
            assert self.batches.get(task.batch.seq) is task.batch, task.story()
        assert open_ == {seq: batch.open for seq, batch in self.batches.items()}, "open tasks of a batch miscounted"
        self.functions.check(batch.functions for batch in self.batches.values())
        assert self.bytes == sum(task.size for task in self.tasks.values()), "payload bytes miscounted"
        self.ready.check()
        queued = [task.id for lane in self.ready for task in lane]
        assert len(queued) == len(set(queued)) == len(self.ready), "a task is queued twice, or a lane miscounts"
        assert set(queued) == {t.id for t in self.tasks.values() if t.state is READY}, "ready and queued differ"
        scheduled: dict[int, int] = {}
        for task in self.tasks.values():
            if task.state is SCHEDULED:
                scheduled[task.kind.lane.number] = scheduled.get(task.kind.lane.number, 0) + 1
        for task in self.limbo.values():
            scheduled[task.kind.lane.number] -= 1
        waiting = {lane.number: lane.scheduled for lane in self.ready if lane.scheduled}
        assert {number: count for number, count in scheduled.items() if count} == waiting, "scheduled tasks miscounted"
        assert self.watching.watched <= set(self.tasks), "somebody watches a task that is not there"


def _spec_of(task: TaskRecord, option: int) -> TaskSpec:
    rare = task.rare
    if rare is None:
        return TaskSpec(task.id, option, task.payload)
    return TaskSpec(task.id, option, task.payload, rare.eta, rare.expires_at, rare.extra)


def _mark_of(task: TaskRecord, rare: Rare, attempt: int) -> TaskMark:
    return TaskMark(
        task.id,
        task.batch.seq,
        attempt,
        rare.retries,
        rare.deaths,
        rare.eta,
        task.payload,
        rare.started,
        rare.losses,
        rare.causes,
    )
