"""What must be made anew in a forked child."""

from __future__ import annotations

import os
from collections.abc import Callable
from weakref import WeakMethod

# The interpreter never takes an at-fork hook away again, so there is one for the whole process; and what it calls
# must then be the whole process's, too.
_methods: set[WeakMethod[Callable[[], None]]] = set()


def on_fork_in_child(method: Callable[[], None]) -> None:
    """Call the bound ``method`` in every child forked from now on, for as long as its object lives."""
    _methods.add(WeakMethod(method, _methods.discard))


def _call_all() -> None:
    for reference in list(_methods):  # a list: the collector may take some away meanwhile
        method = reference()
        if method is not None:
            method()


os.register_at_fork(after_in_child=_call_all)
