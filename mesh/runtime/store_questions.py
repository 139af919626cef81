"""What a router's machine looks up in the store, or bids for there, and has not been answered yet.

Who asks is answered with what is durable: of an outcome that is not, the question waits with it, once for whoever asks.
A store that is away, or too full to answer, is asked again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from mesh.clock import Now
from mesh.core.commands import BidAtStore, LookUpFunction, LookUpOutcomes, Record, RecordOutcomes, SaveFunction
from mesh.core.events import BidAnswered, Event, FunctionLookedUp, OutcomesLookedUp
from mesh.core.status import STORE_AWAY, STORE_FULL
from mesh.errors import RowDamaged, StoreFull, StoreUnavailable
from mesh.model import ErrorInfo, FunctionCode, Outcome, Peer, TaskState
from mesh.store.base import Store
from mesh.store.shared import SharedStore

log = logging.getLogger("mesh.router")

QUESTIONS_MAX = 10_000  # to a store that is away; who asked beyond must say HELLO again

Question = LookUpOutcomes | LookUpFunction | BidAtStore


class StoreQuestions:
    """Of one router; ``drop`` ends a peer's session. ``ask_at``: when to ask a store again that did not answer."""

    def __init__(self, store: Store, shared: SharedStore | None, drop: Callable[[Peer], None], retry_s: float) -> None:
        self._store = store
        self._shared = shared
        self._drop = drop
        self._retry_s = retry_s
        self._questions: list[Question] = []
        self._unanswered: dict[tuple[Peer, str], None] = {}  # who waits for which outcome among the records
        self.ask_at: float | None = None

    def __len__(self) -> int:
        return len(self._questions)

    def add(self, question: Question) -> None:
        """Ask this with the next answers."""
        self._questions.append(question)

    @property
    def has_submits(self) -> bool:
        """Whether tasks are accepted or not for what the store answers."""
        return any(isinstance(question, LookUpOutcomes) and question.submit for question in self._questions)

    def answers(self, now: Now, records: Sequence[Record]) -> tuple[list[Event], str | None]:
        """What the store answers now, with ``records`` that it does not have yet; and what keeps it from the rest."""
        if self.ask_at is not None and now.mono < self.ask_at:
            return [], None
        questions, self._questions = self._questions, []
        if records:  # what was granted before would be free again with this bid, and is not written down yet
            self._questions = [one for one in questions if isinstance(one, BidAtStore)]
            questions = [one for one in questions if not isinstance(one, BidAtStore)]
        pending: dict[str, Outcome] = {}
        if records and questions:  # there was no room
            pending = {o.id: o for record in records if isinstance(record, RecordOutcomes) for o in record.outcomes}
        elif self._unanswered and not records:
            questions += self._asked_again()
        answers: list[Event] = []
        for number, question in enumerate(questions):
            try:
                answers.append(self._answer(question, pending, records))
            except StoreFull as full:
                self._ask_later(questions[number:], now)
                return answers, f"{STORE_FULL}: {full}"
            except StoreUnavailable as away:
                self._ask_later(questions[number:], now)
                return answers, f"{STORE_AWAY}: {away}"
        self.ask_at = None
        return answers, None

    def _answer(self, question: Question, pending: Mapping[str, Outcome], records: Sequence[Record]) -> Event:
        if isinstance(question, BidAtStore):
            assert self._shared is not None, "only a router that shares its store bids there"
            return BidAnswered(question.number, self._shared.grant_dues(question.number, question.spans))
        if isinstance(question, LookUpFunction):
            return FunctionLookedUp(question.peer, question.digest, self._function(question.digest, records))
        ids = question.ids
        if pending and question.submit is None:
            ids = [i for i in ids if i not in pending]
        found = self._outcomes(ids) + [pending[i] for i in ids if i in pending]
        if len(ids) < len(question.ids):
            self._unanswered.update(((question.peer, i), None) for i in question.ids if i in pending)
        known = {outcome.id for outcome in found}
        unknown = [i for i in ids if i not in known]
        elsewhere = self._shared.elsewhere(unknown) if self._shared is not None else []
        return OutcomesLookedUp(question.peer, ids, found, question.submit, question.raw, elsewhere)

    def _ask_later(self, questions: Sequence[Question], now: Now) -> None:
        self.ask_at = now.mono + self._retry_s
        questions = [*self._questions, *questions]
        questions.sort(key=lambda question: not isinstance(question, BidAtStore))  # that one is never given up
        beyond = questions[QUESTIONS_MAX:]
        if beyond:
            peers = dict.fromkeys(question.peer for question in beyond if not isinstance(question, BidAtStore))
            log.warning("%d sessions end, too much is asked while the store is away: they ask again", len(peers))
            for peer in peers:
                self._drop(peer)
        self._questions = questions[:QUESTIONS_MAX]

    def _asked_again(self) -> list[LookUpOutcomes]:
        by_peer: dict[Peer, list[str]] = {}
        for peer, task_id in self._unanswered:
            by_peer.setdefault(peer, []).append(task_id)
        self._unanswered.clear()
        return [LookUpOutcomes(peer, ids) for peer, ids in by_peer.items()]

    def _outcomes(self, ids: Sequence[str]) -> list[Outcome]:
        """What the store has of these ids; a damaged one is a failure, for its task has run."""
        try:
            return self._store.outcomes(ids)
        except RowDamaged:
            found: list[Outcome] = []
            for task_id in ids:
                try:
                    found += self._store.outcomes([task_id])
                except RowDamaged as damaged:
                    log.error("%s", damaged)
                    error = ErrorInfo("mesh.errors.RowDamaged", str(damaged))
                    found.append(Outcome(task_id, TaskState.FAILED, error=error))
            return found

    def _function(self, digest: str, records: Sequence[Record]) -> FunctionCode | None:
        for record in records:
            if isinstance(record, SaveFunction) and record.code.digest == digest:
                return record.code
        try:
            return self._store.function(digest)
        except RowDamaged as damaged:
            log.error("%s", damaged)
            return None
