"""Nodes with keys of their own at real sockets: let in, cut off, and kept out."""

from __future__ import annotations

import pytest

from mesh.model import Role
from mesh.net.arrivals import Trouble
from mesh.net.enrolment import EnrolledNode
from mesh.net.keys import new_role_key

TCP = 1


@pytest.fixture
def enrolled(net):
    """A node, and its key."""
    key = new_role_key(Role.WORKER, net.key.router)
    return EnrolledNode("w1", Role.WORKER, key.own.public), key


def _talk(net, router, dealer, peer, text):
    assert dealer.send(peer, [text])
    net.until(lambda: [text] in [m[1] for m in net.of(router).messages], dealer, router)


def _joined(net, router, key, role=Role.WORKER):
    dealer = net.dealer()
    peer = dealer.connect(router.endpoints[TCP], key, role)
    net.until(lambda: net.of(dealer).connected, dealer, router)
    return dealer, peer


def test_an_enrolled_node_comes_in_with_its_role_and_a_stranger_does_not(net, enrolled):
    node, key = enrolled
    router = net.router(nodes=[node])
    dealer, peer = _joined(net, router, key)
    _talk(net, router, dealer, peer, b"hello")
    assert net.of(router).messages[0][2] is Role.WORKER
    assert router.facts().users == {"worker w1": 1}
    stranger = net.dealer()
    stranger.connect(router.endpoints[TCP], new_role_key(Role.WORKER, net.key.router), Role.WORKER)
    net.until(lambda: net.of(stranger).problems, stranger, router)
    assert net.of(stranger).problems[0].kind is Trouble.DENIED
    assert router.counters.keys_denied == 1


def test_a_revoked_node_is_cut_at_once_and_stays_out_while_others_go_on(net, enrolled):
    node, key = enrolled
    router = net.router(nodes=[node])
    dealer, peer = _joined(net, router, key)
    friend, way = _joined(net, router, net.key)
    _talk(net, router, dealer, peer, b"hello")
    _talk(net, router, friend, way, b"hello too")
    revoked = net.of(router).messages[0][0]

    assert router.admit([]) == 1
    assert not router.send(revoked, [b"no more of this"])
    net.until(lambda: net.of(router).lost, router)
    assert net.of(router).lost == [revoked]
    net.until(lambda: net.of(dealer).lost and net.of(dealer).problems, dealer, router, within_s=3)
    assert "does not accept our key: it was revoked" in net.of(dealer).problems[0].text
    assert not dealer.send(peer, [b"let me in"])
    _talk(net, router, friend, way, b"still here")
    assert router.counters.revoked == 1 and not net.of(friend).lost

    router.admit([node])
    net.until(lambda: len(net.of(dealer).connected) == 2, dealer, router)
    _talk(net, router, dealer, peer, b"hello again")


def test_what_a_revoked_node_had_on_its_way_is_not_taken(net, enrolled):
    node, key = enrolled
    router = net.router(nodes=[node])
    dealer, peer = _joined(net, router, key)
    _talk(net, router, dealer, peer, b"hello")
    for _ in range(50):
        assert dealer.send(peer, [b"late"])
    net.step(dealer)
    net.until(lambda: router._listeners[TCP].has_input())
    router.admit([])
    net.until(lambda: net.of(dealer).lost, dealer, router)
    assert [m[1] for m in net.of(router).messages] == [[b"hello"]]
    assert router.counters.dropped > 0


def test_one_that_was_let_in_and_had_not_spoken_is_cut_when_it_does(net, enrolled):
    node, key = enrolled
    router = net.router(nodes=[node])
    dealer, peer = _joined(net, router, key)
    router.admit([])
    assert dealer.send(peer, [b"hello"])
    net.until(lambda: net.of(dealer).lost, dealer, router)
    assert not net.of(router).messages and not net.of(router).lost


def test_a_name_that_gets_another_key_ends_what_came_in_with_the_earlier_one(net, enrolled):
    node, key = enrolled
    router = net.router(nodes=[node])
    dealer, peer = _joined(net, router, key)
    _talk(net, router, dealer, peer, b"hello")
    newer = new_role_key(Role.WORKER, net.key.router)
    assert router.admit([EnrolledNode("w1", Role.WORKER, newer.own.public)]) == 1
    net.until(lambda: net.of(dealer).lost, dealer, router)
    dealer, peer = _joined(net, router, newer)
    _talk(net, router, dealer, peer, b"the new one")


def test_many_come_and_go_and_only_the_revoked_are_cut(net):
    keys = [new_role_key(Role.WORKER, net.key.router) for _ in range(20)]
    nodes = [EnrolledNode(f"w{i}", Role.WORKER, key.own.public) for i, key in enumerate(keys)]
    router = net.router(nodes=nodes)
    dealers = [_joined(net, router, key) for key in keys]
    for i, (dealer, peer) in enumerate(dealers):
        _talk(net, router, dealer, peer, b"%d" % i)
    assert router.admit(nodes[::2]) == 10
    out, stay = dealers[1::2], dealers[::2]
    net.until(lambda: all(net.of(d).lost for d, _ in out), *(d for d, _ in dealers), router)
    for i, (dealer, peer) in enumerate(stay):
        _talk(net, router, dealer, peer, b"again %d" % i)
    assert not any(net.of(d).lost for d, _ in stay)
