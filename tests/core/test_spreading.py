"""How tasks are spread over many workers: evenly, and not in more messages than are worth their price."""

from __future__ import annotations

import pytest

from mesh.core.spreading import WINDOW_PARTS
from mesh.messages import Deliver
from mesh.model import Peer
from tests.core.make import C1, Driven, hello_client, hello_worker, sent, submit


def given(window: int, workers: int, tasks: int) -> list[int]:
    """How many of so many tasks each of so many idle workers is given, the most first; none are left out."""
    mesh = Driven()
    mesh.hear(C1, hello_client())
    peers = [Peer(f"w{n}".encode()) for n in range(workers)]
    for peer in peers:
        mesh.hear(peer, hello_worker(peer.decode(), window))
    commands = mesh.hear(C1, submit(*(f"t{n}" for n in range(tasks))))
    counts = [sum(len(m.tasks) for m in sent(commands, peer) if isinstance(m, Deliver)) for peer in peers]
    return sorted((count for count in counts if count), reverse=True)


def test_long_tasks_go_to_as_many_workers_as_there_are() -> None:
    assert given(window=3, workers=50, tasks=50) == [1] * 50


def test_tiny_tasks_go_to_as_few_as_are_worth_a_message() -> None:
    assert given(window=10 * WINDOW_PARTS, workers=50, tasks=100) == [10] * 10
    assert given(window=10 * WINDOW_PARTS, workers=50, tasks=1) == [1]


@pytest.mark.parametrize("tasks", [1, 7, 100, 799, 800])
def test_whatever_there_is_credit_for_is_given(tasks: int) -> None:
    assert sum(given(window=WINDOW_PARTS, workers=50, tasks=tasks)) == tasks


def test_a_second_helping_goes_to_those_who_have_less() -> None:
    mesh = Driven()
    mesh.hear(C1, hello_client())
    peers = [Peer(f"w{n}".encode()) for n in range(4)]
    for peer in peers:
        mesh.hear(peer, hello_worker(peer.decode(), 10 * WINDOW_PARTS))
    for batch in range(4):
        mesh.hear(C1, submit(*(f"b{batch}.{n}" for n in range(10)), batch=batch + 1))
    assert [worker.held for worker in mesh.machine.workers.values()] == [10] * 4
