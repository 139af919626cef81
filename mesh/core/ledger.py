"""Collects what one wake-up of a router must make durable, and what it may tell only then.

Grouped here once per wake-up, so that a thousand finished tasks cost one record and a message per client.
"""

from __future__ import annotations

from collections import defaultdict

from mesh.core.commands import (
    AppendBatch,
    Command,
    DropBatches,
    DropBlobs,
    DropEntry,
    DropFunctions,
    DropNode,
    DropOutcomes,
    DueSpan,
    KeepFunctions,
    RecordOutcomes,
    SaveApp,
    SaveEntry,
    SaveFunction,
    SaveMarks,
    SaveNode,
    SavePositions,
    Send,
)
from mesh.core.packing import outcome_bytes, pack
from mesh.entries import Position
from mesh.messages import Accepted, Message, Outcomes, SettledAck
from mesh.model import Blob, NodeInfo, Outcome, Peer, TaskMark


class Ledger:
    """The records and the messages of one wake-up."""

    def __init__(self) -> None:
        self._now: list[Command] = []
        self._later: list[Command] = []
        self.batches: list[AppendBatch] = []
        self.done_batches: list[int] = []
        self.marks: dict[str, TaskMark] = {}
        self.outcomes: list[Outcome] = []
        self.unmarked: list[str] = []
        self.forgotten: list[str] = []
        self.blobs: list[Blob] = []
        self.functions: list[SaveFunction | KeepFunctions | DropFunctions] = []
        self.nodes: dict[str, NodeInfo | None] = {}
        self.entries: list[SaveApp | SaveEntry | DropEntry] = []
        self.positions: dict[str, Position] = {}
        self.fired: list[DueSpan] = []
        self.accepted: defaultdict[Peer, list[int]] = defaultdict(list)
        self.acks: defaultdict[Peer, list[int]] = defaultdict(list)
        self.news: defaultdict[Peer, list[Outcome]] = defaultdict(list)

    def send(self, peer: Peer, message: Message) -> None:
        """Send without waiting for the commit."""
        self._now.append(Send(peer, message))

    def send_after_commit(self, peer: Peer, message: Message) -> None:
        self._later.append(Send(peer, message, after_commit=True))

    def add(self, command: Command) -> None:
        """Any other effect."""
        self._now.append(command)

    def close(self) -> list[Command]:
        """All commands of this wake-up; the ledger is empty again."""
        commands, self._now = self._now, []
        if self._later or self.batches or self.outcomes or self._has_rest():
            self._close_records(commands)
            self._close_messages(commands)
        return commands

    def _has_rest(self) -> bool:
        return bool(
            self.marks
            or self.done_batches
            or self.forgotten
            or self.blobs
            or self.functions
            or self.nodes
            or self.entries
            or self.positions
            or self.fired
            or self.accepted
            or self.acks
            or self.news
        )

    def _close_records(self, commands: list[Command]) -> None:
        commands += self.batches
        commands += self.functions
        if self.outcomes:
            commands.append(RecordOutcomes(self.outcomes, self.unmarked))
        if self.marks:
            commands.append(SaveMarks(list(self.marks.values())))
        if self.done_batches:
            commands.append(DropBatches(self.done_batches))
        if self.forgotten:
            commands.append(DropOutcomes(self.forgotten))
        if self.blobs:
            commands.append(DropBlobs(self.blobs))
        for node_id, node in self.nodes.items():
            commands.append(DropNode(node_id) if node is None else SaveNode(node))
        commands += self.entries
        if self.positions or self.fired:
            commands.append(SavePositions(list(self.positions.values()), self.fired))
        self._clear_records()

    def _clear_records(self) -> None:
        self.batches, self.functions, self.outcomes, self.unmarked = [], [], [], []
        self.marks, self.nodes, self.entries, self.positions, self.fired = {}, {}, [], {}, []
        self.done_batches, self.forgotten, self.blobs = [], [], []

    def _close_messages(self, commands: list[Command]) -> None:
        for peer, outcomes in self.news.items():
            for part in pack(outcomes, outcome_bytes):
                commands.append(Send(peer, Outcomes(list(part), self.accepted.pop(peer, [])), after_commit=True))
        for peer, numbers in self.accepted.items():
            commands.append(Send(peer, Accepted(numbers), after_commit=True))
        for peer, numbers in self.acks.items():
            commands.append(Send(peer, SettledAck(numbers), after_commit=True))
        self.news.clear()
        self.accepted.clear()
        self.acks.clear()
        commands += self._later
        self._later = []
