"""Looks for routers on a thread of its own: asking the network may take seconds, and the one who asks must not stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

PAUSE_S = 0.2


class Finder:
    """Calls ``find`` until told to stop, and ``report`` with each result: (endpoints, what was tried).

    ``find`` and ``report`` are called on the finder's thread. An error of ``find`` is reported as what was tried.
    """

    def __init__(
        self,
        find: Callable[[], tuple[Iterable[str], str]],
        report: Callable[[list[str], str], None],
    ) -> None:
        self._find = find
        self._report = report
        self._wanted = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mesh-finder", daemon=True)
        self._started = False

    def start(self) -> None:
        """Look for routers from now on."""
        self._wanted.set()
        if not self._started:
            self._started = True
            self._thread.start()

    def pause(self) -> None:
        """Enough was found."""
        self._wanted.clear()

    def close(self) -> None:
        """End the thread; not waited for, it may be asking the network."""
        self._closed.set()
        self._wanted.set()

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            if self._closed.is_set():
                return
            try:
                endpoints, tried = self._find()
                found = list(endpoints)
            except Exception as error:
                found, tried = [], f"{type(error).__name__}: {error}"
            if self._closed.is_set():
                return
            self._report(found, tried)
            self._closed.wait(PAUSE_S)
