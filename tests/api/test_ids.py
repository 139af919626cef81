"""Task ids are unique over threads and forks, and shaped like a UUID."""

from __future__ import annotations

import itertools
import os
import threading
import uuid

from mesh.api.ids import TaskIds


def test_an_id_is_a_uuid_of_version_8():
    task_id = TaskIds()()
    parsed = uuid.UUID(task_id)

    assert len(task_id) == 36 and str(parsed) == task_id
    assert parsed.version == 8 and parsed.variant == uuid.RFC_4122


def test_ids_of_one_series_are_in_order():
    ids = TaskIds()
    made = [ids() for _ in range(1_000)]

    assert made == sorted(made) and len(set(made)) == 1_000


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


def test_a_series_that_is_used_up_gives_way_to_a_new_one():
    ids = TaskIds()
    prefix, _ = ids._series
    ids._series = (prefix, itertools.count((2 << 32) - 1).__next__)

    last, first = ids(), ids()

    assert last == prefix + "ffffffff"
    assert first.endswith("00000000") and not first.startswith(prefix)


def test_a_forked_child_begins_its_own_series():
    ids = TaskIds()
    before = ids()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, ids().encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 100).decode()
    os.close(reading)
    os.close(writing)

    assert len(theirs) == 36 and theirs[:28] != before[:28]
    assert ids()[:28] == before[:28]
