"""Looks for routers on a thread of its own: asking the network may take seconds, and the one who asks must not stop."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from mesh.errors import MeshError
from mesh.net.find import Search

PAUSE_S = 0.2

log = logging.getLogger("mesh.connection")


class Finder:
    """Calls ``find`` until told to stop, ``report`` with each result, and ``rest`` when it is enough, also for good.

    ``find``, ``report`` and ``rest`` are called on the finder's thread. What stops
    ``find`` is reported as what was tried; an error in it is logged once, too.
    """

    def __init__(
        self,
        find: Callable[[], Search],
        report: Callable[[Search], None],
        pause_s: float = PAUSE_S,
        rest: Callable[[], None] = lambda: None,
    ) -> None:
        self._find = find
        self._report = report
        self._pause_s = pause_s
        self._rest = rest
        self._wanted = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mesh-finder", daemon=True)
        self._started = False
        self._failed = False

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
        try:
            self._look()
        finally:
            self._rest()

    def _look(self) -> None:
        while True:
            if not self._wanted.is_set():
                self._rest()
            self._wanted.wait()
            if self._closed.is_set():
                return
            try:
                search = self._find()
            except (MeshError, OSError) as error:
                search = Search([], f"{type(error).__name__}: {error}")
            except Exception as error:  # ours: it must not end the search, nor pass for an empty network
                if not self._failed:
                    log.exception("looking for routers failed; this is an error of the program")
                self._failed = True
                search = Search([], f"an error of the program: {type(error).__name__}: {error}")
            if self._closed.is_set():
                return
            self._report(search)
            self._closed.wait(self._pause_s)
