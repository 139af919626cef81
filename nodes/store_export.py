"""Outcomes as data for other programs: one JSON object each. Nothing is unpickled."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mesh.errors import MeshError, StoreDamaged
from mesh.model import Blob, Outcome, Payload, payload_size
from mesh.store.reading import Reader
from mesh.wire.payload import decode
from mesh.wire.pickled import PICKLED

RESULT_BYTES_MAX = 1 << 20  # a larger result is told by its size only: no line may take all memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which outcomes: of these states and names, any where there are none; finished at ``since`` or later."""

    states: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    since: float = 0.0

    def takes(self, outcome: Outcome) -> bool:
        """Whether it is one of them."""
        return (
            (not self.states or str(outcome.state) in self.states)
            and (not self.names or outcome.name in self.names)
            and outcome.finished_at >= self.since
        )


@dataclass(slots=True)
class Exported:
    """How many lines there are, and how many outcomes could not be read."""

    lines: int = 0
    damaged: int = 0


def export(reader: Reader, wanted: Wanted, counts: Exported) -> Iterator[str]:
    """The lines, each with its end; ``counts`` grow as they are read."""
    for chunk in reader.outcomes():
        for _, outcome in chunk:
            if outcome is None:
                counts.damaged += 1
            elif wanted.takes(outcome):
                counts.lines += 1
                yield line_of(reader, outcome)


def line_of(reader: Reader, outcome: Outcome) -> str:
    """One outcome. ``result`` is there where it is plain data that JSON has; its size always is."""
    error = outcome.error
    data: dict[str, Any] = {
        "id": outcome.id,
        "name": outcome.name,
        "queue": outcome.queue,
        "state": str(outcome.state),
        "accepted_at": _iso(outcome.accepted_at),
        "started_at": _iso(outcome.started_at),
        "finished_at": _iso(outcome.finished_at),
        "expires_at": _iso(outcome.expires_at),
        "runtime_s": outcome.runtime_s,
        "worker": outcome.worker,
        "attempts": outcome.attempts,
        "retries": outcome.retries,
        "error": None
        if error is None
        else {"type": error.type, "message": error.message, "traceback": error.traceback},
        "result_bytes": payload_size(outcome.payload),
    }
    return f"{_with_result(data, reader, outcome.payload)}\n"


def _with_result(data: dict[str, Any], reader: Reader, payload: Payload) -> str:
    if 0 < payload_size(payload) <= RESULT_BYTES_MAX:
        try:
            parts = reader.read_blob(payload) if isinstance(payload, Blob) else ()
        except StoreDamaged:
            parts = None
        form = payload if isinstance(payload, bytes) else parts[0] if parts else b""
        if parts is not None and bytes(memoryview(form)[:1]) != PICKLED:
            try:
                return json.dumps({**data, "result": decode(payload, parts)}, allow_nan=False)
            except (MeshError, TypeError, ValueError, RecursionError):
                pass  # gone, or nothing that JSON has: its size is told
    return json.dumps(data)


def _iso(at: float) -> str | None:
    try:
        return datetime.fromtimestamp(at, UTC).isoformat() if at else None
    except (OverflowError, ValueError, OSError):
        return None
