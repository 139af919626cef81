"""Task ids are unique over threads and forks, and shaped like a UUID."""

from __future__ import annotations

import itertools
import os
import threading
import uuid

import pytest

from mesh.api.ids import TaskIds


def test_an_id_is_a_uuid_of_version_8():
    task_id = TaskIds()()
    parsed = uuid.UUID(task_id)

    assert len(task_id) == 36 and str(parsed) == task_id
    assert parsed.version == 8 and parsed.variant == uuid.RFC_4122


def test_an_id_does_not_tell_the_next_one():
    ids = TaskIds()
    made = [ids() for _ in range(10_000)]

    assert len({task_id[-12:] for task_id in made}) == 10_000
    for digit in (*range(16, 18), *range(20, 23), *range(24, 36)):  # 68 bits, each of them either
        assert {task_id[digit] for task_id in made} == set("0123456789abcdef")


def test_ids_that_are_made_together_stand_together():
    ids = TaskIds()
    made = [ids() for _ in range(1_000)]
    places = {task_id: place for place, task_id in enumerate(sorted(made))}

    assert all(abs(places[task_id] - number) < 64 for number, task_id in enumerate(made))


def test_the_system_is_asked_rarely(monkeypatch: pytest.MonkeyPatch):
    asked: list[int] = []

    def urandom(size: int) -> bytes:
        asked.append(size)
        return bytes(size)

    monkeypatch.setattr(os, "urandom", urandom)
    ids = TaskIds()
    for _ in range(10_000):
        ids()

    assert len(asked) <= 10  # each lets go of the interpreter's lock, in the middle of a run of submits


def test_threads_never_get_the_same_id():
    ids = TaskIds()
    made: list[list[str]] = [[] for _ in range(4)]

    def make(mine: list[str]) -> None:
        mine += [ids() for _ in range(20_000)]

    threads = [threading.Thread(target=make, args=(mine,)) for mine in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(itertools.chain(*made))) == 80_000


def test_a_forked_child_draws_its_own():
    ids = TaskIds()
    ids()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, ids().encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 100).decode()
    os.close(reading)
    os.close(writing)

    assert len(theirs) == 36 and theirs not in {ids() for _ in range(1_000)}
