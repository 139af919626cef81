"""A forked child renews what must not be shared, and nothing is kept for what is gone."""

from __future__ import annotations

import gc
import os

from mesh.api.forking import on_fork_in_child


class Renewed:
    """Counts how often it was renewed."""

    def __init__(self) -> None:
        self.times = 0
        on_fork_in_child(self.renew)

    def renew(self) -> None:
        self.times += 1


def in_child(look) -> int:
    """What ``look`` gives in a forked child: up to 255."""
    pid = os.fork()
    if pid == 0:
        os._exit(look())
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_what_lives_is_renewed_once_in_the_child_and_not_here():
    one, other = Renewed(), Renewed()

    assert in_child(lambda: 10 * one.times + other.times) == 11
    assert (one.times, other.times) == (0, 0)


def test_the_process_gets_one_hook_however_many_objects_come_and_go(monkeypatch):
    hooks = []
    monkeypatch.setattr(os, "register_at_fork", lambda **kinds: hooks.append(kinds))
    kept = Renewed()
    for _ in range(100):
        Renewed()
    gc.collect()

    assert hooks == []
    assert in_child(lambda: kept.times) == 1
