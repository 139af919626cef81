"""Calls a function when the interpreter ends, also in the children of ``multiprocessing``, which skip ``atexit``."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Callable


def call_at_exit(function: Callable[[], None]) -> Callable[[], None]:
    """Have ``function`` called at exit, perhaps twice. What is given back undoes that."""
    atexit.register(function)
    # Only a process that uses multiprocessing has it loaded; importing it for all others would cost 10 ms.
    multiprocessing = sys.modules.get("multiprocessing.util")
    finalizer = multiprocessing.Finalize(None, function, exitpriority=100) if multiprocessing is not None else None

    def forget() -> None:
        atexit.unregister(function)
        if finalizer is not None:
            finalizer.cancel()

    return forget
