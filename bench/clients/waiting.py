"""A client that has all it needs loaded, and waits: ``python -m bench.clients.waiting``.

For each word it has one task run, and says when the result was there, by the clock that all processes share.
"""

from __future__ import annotations

from time import monotonic

from bench.clients.talk import answer, word
from bench.ending import end_with_starter
from bench.tasks import app, noop

PATIENCE_S = 60.0


def main() -> None:
    """Until there are no more words."""
    end_with_starter()
    with app:
        answer({})
        while word():
            noop.delay().get(timeout=PATIENCE_S)
            answer({"at": monotonic()})


if __name__ == "__main__":
    main()
