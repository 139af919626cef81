"""One wake-up of a router: handle, send what may go at once, commit, then tell. The order is the promise.

    1. ``RouterMachine.handle``: events and the time in, commands out
    2. send what does not depend on the commit (deliveries: a crash only means a second delivery)
    3. write large payloads, commit all records in one go
    4. send what depends on it: accepted, acknowledged, outcomes
    5. answer what the machine looked up, which may begin again at 1

3 may wait for ``commit_delay_s`` when it would only write down new tasks that were just delivered: the outcome of a
short task then comes in time for the same commit, and the caller waits for one flush of the disk, not for two.

A full store holds back 4: the records of this and later wake-ups are kept and tried again, the machine is told to
accept and start nothing, and nobody is told anything that is not durable. What finishes tasks may still fit where
new tasks do not, so it is tried alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from mesh.clock import Now
from mesh.core.commands import (
    RECORDS,
    AppendBatch,
    Command,
    DropBatches,
    DropPeer,
    LookUpFunction,
    LookUpOutcomes,
    Record,
    Send,
)
from mesh.core.events import Event, FunctionLookedUp, OutcomesLookedUp, StoreFilled, StoreFreed
from mesh.core.router import RouterMachine
from mesh.errors import RowDamaged, StoreFull
from mesh.messages import Accepted, Deliver, Message, Outcomes, Submit
from mesh.model import ErrorInfo, FunctionCode, Outcome, Peer, TaskState
from mesh.store.base import Store

log = logging.getLogger("mesh.router")

RETRY_S = 0.5  # between two tries of a commit that had no room


class RouterStep:
    """Runs one router machine on one store; ``send`` and ``drop`` are the transport's."""

    def __init__(
        self,
        machine: RouterMachine,
        store: Store,
        *,
        encode_submit: Callable[[Submit], bytes],
        send: Callable[[Peer, Message], None],
        drop: Callable[[Peer], None],
    ) -> None:
        self.machine = machine
        self.store = store
        self._encode_submit = encode_submit
        self._send = send
        self._drop = drop
        self._records: list[Record] = []  # not yet durable
        self._later: list[Command] = []  # waits for them
        self._questions: list[LookUpOutcomes | LookUpFunction] = []
        self._retry_at: float | None = None
        self._commit_by: float | None = None  # new tasks wait that long for more to write
        self._delivered = False  # in this wake-up
        self._low: str | None = None
        self._told_room = (False, False)

    def step(self, events: Sequence[Event], now: Now) -> None:
        """One wake-up. Raises ``StoreError`` for what cannot be mended by waiting."""
        while True:
            self._sort(self.machine.handle(events, now))
            if self._may_wait(now) or not self._commit(now):
                return
            later, self._later = self._later, []
            self._tell(later)
            events = self._answers()
            if not events:
                return

    def next_deadline(self) -> float | None:
        """The monotonic second at which ``step`` must be called even if nothing happens."""
        deadline = self.machine.next_deadline()
        for own in (self._retry_at, self._commit_by):
            if own is not None and (deadline is None or own < deadline):
                deadline = own
        return deadline

    def _may_wait(self, now: Now) -> bool:
        """Whether to leave the commit to a later wake-up."""
        delivered, self._delivered = self._delivered, False
        if (
            (delivered or self._commit_by is not None)
            and self._records
            and not self._questions
            and self._retry_at is None
            and all(type(record) is AppendBatch for record in self._records)
        ):
            if self._commit_by is None:
                self._commit_by = now.mono + self.machine.settings.commit_delay_s
            if now.mono < self._commit_by:
                return True
        self._commit_by = None
        return False

    def _sort(self, commands: Sequence[Command]) -> None:
        for command in commands:
            if isinstance(command, Send):
                if command.after_commit:
                    self._later.append(command)
                else:
                    self._delivered |= isinstance(command.message, Deliver)
                    self._send(command.peer, command.message)
            elif isinstance(command, AppendBatch):
                if command.raw is None:
                    command = replace(command, raw=self._encode_submit(command.submit))
                self._records.append(command)
            elif isinstance(command, RECORDS):
                self._records.append(command)
            elif isinstance(command, (LookUpOutcomes, LookUpFunction)):
                self._questions.append(command)
            elif isinstance(command, DropPeer):
                self._later.append(command)
            else:
                raise AssertionError(f"a router does not know how to {command}")

    def _tell(self, commands: Sequence[Command]) -> None:
        for command in commands:
            if isinstance(command, Send):
                self._send(command.peer, command.message)
            elif isinstance(command, DropPeer):
                self._drop(command.peer)

    def _commit(self, now: Now) -> bool:
        """Make everything durable; False while there is no room."""
        if not self._records:
            return True
        if self._retry_at is not None and now.mono < self._retry_at:
            return False
        try:
            self.store.commit(self._records)
        except StoreFull as full:
            self._retry_at = now.mono + RETRY_S
            self._commit_without_new_tasks()
            self._tell_room(f"the store is full: {full}", now)
            return False
        self._records = []
        if self._retry_at is not None:
            self._retry_at = None
            self._tell_room(None, now)
            return self._commit(now)
        return True

    def _commit_without_new_tasks(self) -> None:
        new, rest = _parted(self._records)
        if not new or not rest:
            return
        try:
            self.store.commit(rest)
        except StoreFull:
            return
        self._records = new
        later, self._later = self._later, []
        for command in later:
            if isinstance(command, Send) and isinstance(command.message, Accepted):
                self._later.append(command)
            elif isinstance(command, Send) and isinstance(command.message, Outcomes) and command.message.accepted:
                self._later.append(Send(command.peer, Accepted(command.message.accepted), after_commit=True))
                self._send(command.peer, Outcomes(command.message.outcomes))
            else:
                self._tell([command])

    def look_at_room(self, free_bytes: int | None, least: int, now: Now) -> None:
        """Accept nothing while less than ``least`` bytes of disk are free."""
        low = free_bytes is not None and free_bytes < least
        self._low = f"{free_bytes} bytes of disk are free, fewer than free_bytes_min = {least}" if low else None
        self._tell_room(None, now)

    def _tell_room(self, full: str | None, now: Now) -> None:
        """Let the machine know how much the store can take, where that has changed."""
        if full is None and self._retry_at is not None:
            return  # full is worse than low
        reason = full or self._low
        halt = full is not None
        if (reason is not None, halt) == self._told_room:
            return
        self._told_room = (reason is not None, halt)
        event = StoreFreed() if reason is None else StoreFilled(reason, halt)
        self._sort(self.machine.handle([event], now))

    def _answers(self) -> list[Event]:
        questions, self._questions = self._questions, []
        answers: list[Event] = []
        for question in questions:
            if isinstance(question, LookUpOutcomes):
                found = self._outcomes(question.ids)
                answers.append(OutcomesLookedUp(question.peer, question.ids, found, question.submit, question.raw))
            else:
                answers.append(FunctionLookedUp(question.peer, question.digest, self._function(question.digest)))
        return answers

    def _outcomes(self, ids: Sequence[str]) -> list[Outcome]:
        """What the store has of these ids; a damaged one is a failure, for its task has run."""
        try:
            return self.store.outcomes(ids)
        except RowDamaged:
            found: list[Outcome] = []
            for task_id in ids:
                try:
                    found += self.store.outcomes([task_id])
                except RowDamaged as damaged:
                    log.error("%s", damaged)
                    error = ErrorInfo("mesh.errors.RowDamaged", str(damaged))
                    found.append(Outcome(task_id, TaskState.FAILED, error=error))
            return found

    def _function(self, digest: str) -> FunctionCode | None:
        try:
            return self.store.function(digest)
        except RowDamaged as damaged:
            log.error("%s", damaged)
            return None


def _parted(records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """New tasks, and what may be durable before they are. A batch that waits is not dropped before it is there."""
    new: list[Record] = [record for record in records if isinstance(record, AppendBatch)]
    waiting = {record.seq for record in records if isinstance(record, AppendBatch)}
    rest: list[Record] = []
    for record in records:
        if isinstance(record, DropBatches):
            new += [DropBatches(both)] if (both := [seq for seq in record.seqs if seq in waiting]) else []
            rest += [DropBatches(here)] if (here := [seq for seq in record.seqs if seq not in waiting]) else []
        elif not isinstance(record, AppendBatch):
            rest.append(record)
    return new, rest
