from __future__ import annotations

import threading

import pytest

from mesh.net.find import Found
from mesh.net.keys import new_key
from mesh.net.knocking import knock
from tests.cluster import wait_until


@pytest.fixture
def serve(net):
    """Has routers answer on a thread of their own until the test is over."""
    over, threads = threading.Event(), []

    def start(router):
        def run():
            while not over.is_set():
                router.receive(0.02)

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return router.endpoints[0]

    yield start
    over.set()
    for thread in threads:
        thread.join()


def found(*endpoints, router_id="r1"):
    return Found(endpoints, router_id, "here")


def test_the_first_address_that_answers_with_the_key_wins(net, serve):
    ours = serve(net.router(ipc=False))
    right = found("ipc:///nowhere", "tcp://127.0.0.1:1", ours)
    knocked = knock(lambda: [found("tcp://127.0.0.1:2", router_id="r2"), right], net.key, 5.0)
    assert (knocked.found, knocked.endpoint) == (right, ours)


def test_who_knocks_is_no_stranger_to_the_router_at_any_of_its_addresses(net, serve):
    router = net.router(ipc=False)
    endpoints = [router.endpoints[0], *(router.listen("tcp://127.0.0.1:*") for _ in range(5))]
    serve(router)
    for _ in range(5):
        assert knock(lambda: [found(*endpoints)], net.key, 5.0).found is not None
    wait_until(lambda: router.counters.lost + router.counters.mute == 30, 5.0, "all of them have gone")
    assert (router.counters.mute, router.counters.greetings_failed) == (0, 0)


def test_a_router_with_another_key_does_not_count_and_is_told_of(net, serve):
    theirs = serve(net.router(ipc=False, key=new_key()))
    knocked = knock(lambda: [found(theirs)], net.key, 0.5)
    assert knocked.found is None
    assert "another mesh key" in "".join(knocked.problems)


def test_a_router_that_is_found_meanwhile_is_knocked_at(net, serve):
    ours = serve(net.router(ipc=False))
    looks = iter([[], []])
    knocked = knock(lambda: next(looks, [found(ours)]), net.key, 5.0)
    assert knocked.endpoint == ours


def test_where_nothing_is_found_it_ends_in_time(net):
    assert knock(list, net.key, 0.1).tried == []


def test_one_that_names_a_thousand_addresses_keeps_no_other_waiting(net, serve):
    ours = serve(net.router(ipc=False))
    many = found(*[f"tcp://127.0.0.1:{port}" for port in range(1, 1_000)], router_id="r2")
    assert knock(lambda: [many, found(ours)], net.key, 5.0).endpoint == ours
