"""Has many tasks run at a word, as other clients do at the same time: ``python -m bench.clients.volley TASKS``.

Each word is answered with when it began and ended, by the clock that all processes of a machine share.
"""

from __future__ import annotations

import sys
from time import monotonic

from bench.clients.talk import answer, word
from bench.ending import end_with_starter
from bench.peers.mesh import taken
from bench.tasks import app, noop

WARM_UP = 200  # tasks; there are workers at the router of this client


def main(count: int) -> None:
    """Until there are no more words."""
    end_with_starter()
    with app:
        _fire(WARM_UP)
        answer({})
        while word():
            began = monotonic()
            _fire(count)
            answer({"began": began, "ended": monotonic()})


def _fire(count: int) -> None:
    for result in [noop.delay() for _ in range(count)]:
        taken(result)


if __name__ == "__main__":
    main(int(sys.argv[1]))
