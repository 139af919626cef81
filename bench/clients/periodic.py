"""Has periodic tasks run, and says when: ``python -m bench.clients.periodic``.

``resume KIND COUNT`` has those entries be due; ``pause KIND COUNT`` ends that, and is answered with what has become of
each due time between; ``leader`` is answered with the name of the node that leads.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from bench.clients.talk import answer, word
from bench.ending import end_with_starter
from bench.periodic import name_of
from bench.tasks import app
from mesh.entries import firing_id
from mesh.errors import MeshError
from mesh.model import Outcome
from mesh.schedules import dues_between, microseconds

PATIENCE_S = 60.0
LOOK_S = 0.01
NAMED_MAX = 1_000  # entries in one message


class Begun(NamedTuple):
    """What there was when entries were resumed: how many tasks were accepted, and of each since when it may be due."""

    accepted: int
    since: dict[str, float]


def main() -> None:
    """Until there are no more words."""
    end_with_starter()
    begun: dict[str, Begun] = {}
    with app:
        answer({})
        while words := word().split():
            what, *rest = words
            if what == "leader":
                answer({"leader": _leader()})
                continue
            kind, names = rest[0], [name_of(rest[0], place) for place in range(int(rest[1]))]
            if what == "resume":
                begun[kind] = _resume(names)
                answer({})
            else:
                answer(_pause(names, begun.pop(kind)))


def _leader() -> str:
    deadline = time.monotonic() + PATIENCE_S
    while not (leader := app.status()["router"]["leader"]) and time.monotonic() < deadline:
        time.sleep(LOOK_S)
    return str(leader)


def _resume(names: list[str]) -> Begun:
    _wait_for(names)
    accepted = app.status()["router"]["accepted"]
    for first in range(0, len(names), NAMED_MAX):
        app.schedules.resume(*names[first : first + NAMED_MAX], timeout=PATIENCE_S)
    wanted = set(names)
    since = {row.name: row.entry.revised_at for row in app.schedules.list(timeout=PATIENCE_S) if row.name in wanted}
    return Begun(accepted, since)


def _wait_for(names: list[str]) -> None:
    """Wait until a worker has told of all of them."""
    deadline, wanted = time.monotonic() + PATIENCE_S, set(names)
    while not wanted <= {row.name for row in app.schedules.list(timeout=PATIENCE_S)} and time.monotonic() < deadline:
        time.sleep(LOOK_S)


def _pause(names: list[str], begun: Begun) -> dict[str, Any]:
    """Of each due time how late it was accepted and started; how many have no outcome, or one task too many."""
    for first in range(0, len(names), NAMED_MAX):
        app.schedules.pause(*names[first : first + NAMED_MAX], timeout=PATIENCE_S)
    due: list[tuple[float, str]] = []
    for row in app.schedules.list(timeout=PATIENCE_S):
        if row.name in begun.since and row.last_due is not None:
            until = row.last_due.timestamp()
            instants = dues_between(row.schedule, begun.since[row.name], until, 1 << 30)
            due += [(at, firing_id(row.name, microseconds(at))) for at in instants]
    due.sort()
    found = _outcomes([task_id for _, task_id in due])
    there = [(at, found[task_id]) for at, task_id in due if task_id in found]
    accepted = app.status()["router"]["accepted"] - begun.accepted
    return {
        "due": [at for at, _ in there],
        "accept_s": [outcome.accepted_at - at for at, outcome in there],
        "start_s": [outcome.started_at - at for at, outcome in there],
        "lost": len(due) - len(there),
        "doubled": max(0, accepted - len(due)),
    }


def _outcomes(ids: list[str]) -> dict[str, Outcome]:
    """Those that the store has, or comes to have."""
    results = [app.AsyncResult(task_id) for task_id in ids]
    for result in results:
        result.watch()
    found = {}
    for result in results:
        try:
            result.get(timeout=PATIENCE_S)
        except MeshError:
            continue
        outcome = result._outcome
        assert outcome is not None
        found[result.id] = outcome
    return found


if __name__ == "__main__":
    main()
