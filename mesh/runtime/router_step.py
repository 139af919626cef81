"""One wake-up of a router: handle, send what may go at once, commit, then tell. The order is the promise.

    1. ``RouterMachine.handle``: events and the time in, commands out
    2. send what does not depend on the commit (deliveries: a crash only means a second delivery)
    3. write large payloads, commit all records in one go, or as many as one commit should have
    4. send what depends on it: accepted, acknowledged, outcomes
    5. answer what the machine looked up or bids for (``mesh.runtime.store_questions``), which may begin again at 1

3 may wait for ``commit_delay_s`` when it would only write down new tasks that were just delivered: the outcome of a
short task then comes in time for the same commit, and the caller waits for one flush of the disk, not for two.

A full store holds back 4: the records of this and later wake-ups are kept and tried again, the machine is told to
accept and start nothing, and nobody is told anything that is not durable. What finishes tasks may still fit where
new tasks do not, so it is tried alone.

A store that is *away* holds back as much. Whether it did the commit that it did not answer is not known, so that one is
repeated as it was before any other; what the machine looked up is asked again, and nobody is told what is not known.

One wake-up commits no more than a part of what has come together (``mesh.runtime.waiting``), for the loop waits for
it. What depends on that is told when it is durable, and the rest is due at once.

A store that *lost* what it had acknowledged is away, too, until all that is in memory is written there anew.

What waits was meant for the session of its time. In the next one a node says what it holds and what it wants, and what
was held back would be wrong then: it is not sent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from mesh.clock import Now
from mesh.core.commands import (
    RECORDS,
    AppendBatch,
    AskOthers,
    Command,
    Complain,
    DropBlobs,
    DropOutcomes,
    DropPeer,
    Send,
)
from mesh.core.events import Event, MessageReceived, StoreFilled, StoreFreed
from mesh.core.router import RouterMachine
from mesh.core.status import STORE_AWAY, STORE_FULL
from mesh.errors import StoreFull, StoreUnavailable
from mesh.messages import Accepted, Deliver, Entries, Fired, Gossip, Message, Outcomes, Reply, Settled, Submit
from mesh.model import Blob, Outcome, Peer
from mesh.runtime.rewriting import Rewriting
from mesh.runtime.store_questions import Question, StoreQuestions
from mesh.runtime.waiting import Waiting, named_by, parted
from mesh.store.base import Store
from mesh.store.shared import SharedStore

log = logging.getLogger("mesh.router")

FORGETS_MAX = 100_000  # results to be forgotten that are kept in mind while there is no room
OF_NEW_TASKS = (Accepted, Fired, Entries, Reply, Gossip)  # said after a commit, of records that wait with new tasks
RETRY_S = 0.5  # between two tries of a commit that had no room, or of a store that is away


class RouterStep:
    """Runs one router machine on one store; ``send`` and ``drop`` are the transport's.

    ``shared``: the store, where other routers have it, too. It may come back with less than it had acknowledged: then
    all that is in memory is written anew.

    ``session`` is the number of the session with a peer, None where there is none.
    """

    def __init__(
        self,
        machine: RouterMachine,
        store: Store,
        *,
        encode_submit: Callable[[Submit], bytes],
        send: Callable[[Peer, Message], None],
        drop: Callable[[Peer], None],
        session: Callable[[Peer], int | None],
        ask_others: Callable[[AskOthers], None] = lambda question: None,
        complain: Callable[[Complain], None] = lambda command: None,
        shared: SharedStore | None = None,
    ) -> None:
        self.machine = machine
        self.store = store
        self._encode_submit = encode_submit
        self._send = send
        self._drop = drop
        self._session = session
        self._ask_others = ask_others
        self._complain = complain
        self._shared = shared
        self._is_set_back = False  # the store, when this wake-up began
        self._rewriting: Rewriting | None = None
        self._waiting = Waiting()  # not yet durable
        self._later: list[tuple[Send, int | None]] = []  # waits for them; the session it is for
        self._questions = StoreQuestions(store, shared, drop, RETRY_S)
        self._unheard: dict[Peer, int | None] = {}  # who said of results what was not taken; in which session
        self._unnamed: dict[str, Blob] = {}  # large payloads that came, and no record names yet
        self._retry_at: float | None = None
        self._is_away = False
        self._held_back = 0  # wake-ups whose commit had to wait for it
        self._commit_by: float | None = None  # new tasks wait that long for more to write
        self._delivered = False  # in this wake-up
        self._low: str | None = None
        self._told_room = (False, False)

    def step(self, events: Sequence[Event], now: Now, new_blobs: Sequence[Blob] = ()) -> None:
        """One wake-up. ``new_blobs``: large payloads that came with the events and were put into the store.

        Raises ``StoreError`` for what cannot be mended by waiting.
        """
        self._unnamed.update((blob.key, blob) for blob in new_blobs)
        self._is_set_back = self._shared is not None and bool(self._shared.set_back)
        if self._waiting.result_bytes > self.machine.settings.unwritten_bytes_max:
            events = self._without_results(events)
        while True:
            waiting = len(self._waiting.records)
            self._sort(self.machine.handle(events, now))
            came = len(self._waiting.records) > waiting
            if self._unnamed:
                self._drop_unnamed()
            if self.holds_back:
                self._waiting.compact()
            if self._may_wait(now):
                return
            if self._commit(now):
                later, self._later = self._later, []
                self._tell(later)
                if self._unheard:
                    self._hear_again()
            else:
                self._waiting.end_wake_up(len(self._later))
                self._held_back += self._is_away and came
            events = self._answers(now)
            if not events:
                return

    def _without_results(self, events: Sequence[Event]) -> list[Event]:
        """Leave with the workers what they settled: they say it again in their next session."""
        heard: list[Event] = []
        for event in events:
            if not isinstance(event, MessageReceived) or not isinstance(event.message, Settled):
                heard.append(event)
                continue
            if not self._unheard:
                most = self.machine.settings.unwritten_bytes_max
                log.warning(
                    "workers keep their results, for more than unwritten_bytes_max = %d wait for the store", most
                )
            self._unheard[event.peer] = self._session(event.peer)
        return heard

    def _hear_again(self) -> None:
        unheard, self._unheard = self._unheard, {}
        for peer, session in unheard.items():
            if session is not None and self._session(peer) == session:
                self._drop(peer)

    def _drop_unnamed(self) -> None:
        """A message with large payloads was not taken, or not all of it: nothing will ever name them."""
        for record in self._waiting.records:
            for blob in named_by(record):
                self._unnamed.pop(blob.key, None)
        if not self._questions.has_submits:
            committed = [blob for blob in self._unnamed.values() if not self.store.take_back_blob(blob)]
            if committed:  # before the store was asked about what they came with
                self._waiting.add(DropBlobs(committed))
            self._unnamed = {}

    @property
    def holds_back(self) -> bool:
        """Whether something waits for the store."""
        return self._retry_at is not None

    def take_held_back(self) -> int:
        """How many commits had to wait for a store that was away, since this was asked last."""
        held_back, self._held_back = self._held_back, 0
        return held_back

    def next_deadline(self) -> float | None:
        """The monotonic second at which ``step`` must be called even if nothing happens."""
        deadline = self.machine.next_deadline()
        for own in (self._retry_at, self._commit_by, self._questions.ask_at):
            if own is not None and (deadline is None or own < deadline):
                deadline = own
        return deadline

    def _may_wait(self, now: Now) -> bool:
        """Whether to leave the commit to a later wake-up."""
        delivered, self._delivered = self._delivered, False
        if (
            (delivered or self._commit_by is not None)
            and self._waiting.records
            and not self._questions
            and self._retry_at is None
            and all(type(record) is AppendBatch for record in self._waiting.records)
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
                    self._later.append((command, self._session(command.peer)))
                else:
                    self._delivered |= isinstance(command.message, Deliver)
                    self._send(command.peer, command.message)
            elif isinstance(command, AppendBatch):
                if command.raw is None:
                    command = replace(command, raw=self._encode_submit(command.submit))
                self._waiting.add(command)
            elif isinstance(command, DropOutcomes) and self._retry_at is not None:
                self._keep_forgets(command)
            elif isinstance(command, RECORDS):
                self._waiting.add(command)
            elif isinstance(command, Question):
                self._questions.add(command)
            elif isinstance(command, DropPeer):
                self._drop(command.peer)
            elif isinstance(command, AskOthers):
                self._ask_others(command)
            elif isinstance(command, Complain):
                self._complain(command)
            else:
                raise AssertionError(f"a router does not know how to {command}")

    def _keep_forgets(self, command: DropOutcomes) -> None:
        """While there is no room, results are asked to be forgotten again and again."""
        records = self._waiting.records
        last = records[-1] if len(records) > self._waiting.doubtful else None
        known = last.ids if isinstance(last, DropOutcomes) else []
        ids = list(dict.fromkeys([*known, *command.ids]))
        if len(ids) > FORGETS_MAX:
            log.warning("%d results are to be forgotten once there is room; others stay until their time", FORGETS_MAX)
            ids = ids[:FORGETS_MAX]
        if isinstance(last, DropOutcomes):
            records[-1] = DropOutcomes(ids)
        else:
            self._waiting.add(DropOutcomes(ids))

    def _tell(self, later: Sequence[tuple[Send, int | None]]) -> None:
        for command, session in later:
            if session is not None and self._session(command.peer) == session:
                self._send(command.peer, command.message)

    def _commit(self, now: Now) -> bool:
        """Make everything durable, as far as one wake-up may; False while there is more, no room, or no store."""
        if not self._waiting.records and not self._is_set_back and self._rewriting is None:
            return True
        if self._retry_at is not None and now.mono < self._retry_at:
            return False
        try:
            if not self._is_written_anew():
                self._retry_at = now.mono
                self._tell_room(f"{STORE_AWAY}: it lost data, which is written anew", now)
                return False
            if self._waiting.doubtful:
                self._commit_next()
            if self._waiting.records:
                self._commit_next()
        except StoreFull as full:
            self._retry_at = now.mono + RETRY_S
            if self._rewriting is None:
                self._commit_without_new_tasks(now)
            self._tell_room(f"{STORE_FULL}: {full}", now)
            return False
        except StoreUnavailable as away:
            self._retry_at = now.mono + RETRY_S
            self._is_away = True
            self._tell_room(f"{STORE_AWAY}: {away}", now)
            return False
        if self._waiting.records:  # what came meanwhile is heard before the next part of these
            self._go_on_at(now)
            return False
        if self._retry_at is not None:
            self._retry_at, self._is_away = None, False
            self._tell_room(None, now)
            return self._commit(now)
        return True

    def _go_on_at(self, now: Now) -> None:
        if self._retry_at is not None:
            self._retry_at = now.mono
        else:
            self._commit_by = now.mono

    def _is_written_anew(self) -> bool:
        """Go on with that, if the store has lost data; whether there is nothing to go on with."""
        if self._is_set_back and self._shared is not None:
            records = self._waiting.records
            self._rewriting = Rewriting(self.machine, self._shared, records)
            self._is_set_back = False
            # Of these batches all that is unfinished is in memory.
            self._waiting.replace([record for record in records if not isinstance(record, AppendBatch)])
        if self._rewriting is not None and self._rewriting.go_on():
            self._rewriting = None
        return self._rewriting is None

    def _commit_next(self) -> None:
        """Commit what was tried in vain, as it was; otherwise what is next, and tell what may be told then."""
        part, rest = self._waiting.part()
        held_back = {blob.key for record in rest for blob in named_by(record)}
        try:
            self._correct(self.store.commit(part, held_back))
        except StoreFull:
            self._waiting.doubtful = 0
            raise
        except StoreUnavailable:
            self._waiting.doubtful = len(part)
            raise
        told = self._waiting.committed(part, rest)
        if rest:
            told_now, self._later = self._later[:told], self._later[told:]
            self._tell(told_now)

    def _correct(self, earlier: Sequence[Outcome] | None) -> None:
        """Another router was first with these outcomes: they are told, and ours are not."""
        if not earlier:
            return
        log.info("%d tasks were finished by another router, too, which was first", len(earlier))
        first = {outcome.id: outcome for outcome in earlier}
        for number, (command, session) in enumerate(self._later):
            message = command.message
            if isinstance(message, Outcomes):
                told = replace(message, outcomes=[first.get(outcome.id, outcome) for outcome in message.outcomes])
                self._later[number] = (replace(command, message=told), session)

    def _commit_without_new_tasks(self, now: Now) -> None:
        before = self._waiting.records
        new, rest = parted(before)
        if not new:
            return
        if rest:
            self._waiting.replace(rest)
            part, left = self._waiting.part()
            held_back = {blob.key for record in (*left, *new) for blob in named_by(record)}
            try:
                self._correct(self.store.commit(part, held_back))
            except StoreFull:
                self._waiting.replace(before)
                return
            except StoreUnavailable:
                self._waiting.replace([*part, *left, *new], len(part))
                return
            self._waiting.replace([*left, *new])
            if left:
                self._retry_at = now.mono
                return
        self._tell_of_others([record.submit for record in new if isinstance(record, AppendBatch)])

    def _tell_of_others(self, waiting: Sequence[Submit]) -> None:
        """What does not depend on these new tasks, which alone wait."""
        ids = {spec.id for submit in waiting for spec in submit.tasks}
        later, self._later = self._later, []
        for command, session in later:
            message = command.message
            # A task that is delivered at most once must not leave before what says so can be found.
            early = isinstance(message, Deliver) and any(delivery.id in ids for delivery in message.tasks)
            if isinstance(message, OF_NEW_TASKS) or early:
                self._later.append((command, session))
                continue
            if isinstance(message, Outcomes) and message.accepted:
                self._later.append((replace(command, message=Accepted(message.accepted)), session))
                command = replace(command, message=Outcomes(message.outcomes))
            self._tell([(command, session)])

    def look_at_room(self, free_bytes: int | None, least: int) -> list[Event]:
        """Accept nothing while less than ``least`` bytes are free: what the next ``step`` is to be told."""
        low = free_bytes is not None and free_bytes < least
        where = "disk" if self._shared is None else "the memory that Redis may use (maxmemory)"
        self._low = f"{free_bytes} bytes of {where} are free, fewer than free_bytes_min = {least}" if low else None
        return self._news_of_room(None) if self._retry_at is None else []  # full is worse than low

    def look_away(self, why: str) -> list[Event]:
        """The store did not answer the look at its room: what the next ``step`` is to be told."""
        return self._news_of_room(f"{STORE_AWAY}: {why}") if self._retry_at is None else []

    def _tell_room(self, full: str | None, now: Now) -> None:
        news = self._news_of_room(full)
        if news:
            self._sort(self.machine.handle(news, now))

    def _news_of_room(self, full: str | None) -> list[Event]:
        """For the machine: how much the store can take, where that has changed."""
        reason = full or self._low
        halt = full is not None
        if (reason is not None, halt) == self._told_room:
            return []
        self._told_room = (reason is not None, halt)
        return [StoreFreed() if reason is None else StoreFilled(reason, halt)]

    def _answers(self, now: Now) -> list[Event]:
        was_away = self._questions.ask_at is not None
        answers, trouble = self._questions.answers(now, self._waiting.records)
        if self._retry_at is not None:
            return answers
        if trouble is not None:
            return answers + self._news_of_room(trouble)
        if was_away and self._questions.ask_at is None:  # it answers: what is answered is to find that there is room
            return [*self._news_of_room(None), *answers]
        return answers
