"""Fills the queues of a router that is to be lost: ``python -m bench.clients.adoption TASKS``.

It says ``{}`` once all are accepted; for a word then, when the first and the last of them ended elsewhere, by the clock
that all processes of a machine share, and how many have not.
"""

from __future__ import annotations

import sys
from time import monotonic

from bench.clients.talk import answer, word
from bench.ending import end_with_starter
from bench.tasks import app, working
from mesh.errors import MeshError

PATIENCE_S = 60.0


def main(count: int) -> None:
    """Submit, then wait for every result."""
    end_with_starter()
    with app:
        results = [working.delay(0.0) for _ in range(count)]
        app.flush(timeout=PATIENCE_S)
        answer({})
        word()
        deadline, ended = monotonic() + PATIENCE_S, []
        for result in results:
            try:
                ended.append(result.get(timeout=max(0.001, deadline - monotonic())))
            except MeshError:
                continue
        answer({"lost": count - len(ended)} | ({"first": min(ended), "last": max(ended)} if ended else {}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
