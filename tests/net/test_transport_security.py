"""Who may not come in, and what those outside are told."""

from __future__ import annotations

import socket
import time

import pytest
import zmq

from mesh.errors import ConfigError
from mesh.model import Role
from mesh.net import connection, monitor, sockets
from mesh.net.arrivals import Counters, Trouble
from mesh.net.keys import Entry, new_key
from mesh.net.strangers import KEPT_MAX, NAMED_MAX, Strangers

TCP = 1


def test_a_libzmq_that_strangers_can_end_is_refused(monkeypatch):
    monkeypatch.setattr(zmq, "zmq_version_info", lambda: (4, 3, 4))
    with pytest.raises(ConfigError, match="install -U pyzmq"):
        sockets.new_context()


@pytest.fixture
def strangers():
    """Plain ZeroMQ sockets, closed at the end."""
    made, context = [], zmq.Context()
    yield context, made
    context.destroy(linger=0)


def _speaks(strangers, endpoint, own=None, server=None):
    """A stranger queues messages for the endpoint at once."""
    context, made = strangers
    socket = sockets.dealer_socket(context, own and Entry(own, server))
    made.append(socket)  # one that nobody holds is closed
    socket.set(zmq.IMMEDIATE, 0)
    socket.connect(endpoint)
    for _ in range(10):
        socket.send(b"let me in")


def _a_friend_is_heard_and_nobody_else(net, router):
    friend = net.dealer()
    peer = friend.connect(router.endpoints[TCP], net.key, Role.CLIENT)
    net.until(lambda: net.of(friend).connected, friend, router)
    assert friend.send(peer, [b"friend"])
    net.until(lambda: net.of(router).messages, friend, router)
    assert [m[1] for m in net.of(router).messages] == [[b"friend"]]


def test_a_peer_without_a_key_delivers_nothing_over_tcp(net, strangers):
    router = net.router()
    _speaks(strangers, router.endpoints[TCP])
    net.until(lambda: net.of(router).problems, router)
    assert "mesh key" in net.of(router).problems[0].text
    _a_friend_is_heard_and_nobody_else(net, router)


def test_a_peer_that_knows_the_router_but_has_a_key_of_its_own_delivers_nothing(net, strangers):
    router = net.router()
    _speaks(strangers, router.endpoints[TCP], new_key().role(Role.WORKER), net.key.role(Role.ROUTER).public)
    net.until(lambda: router.counters.keys_denied, router)
    _a_friend_is_heard_and_nobody_else(net, router)


def test_a_router_key_is_no_key_to_come_in_with(net, strangers):
    router = net.router()
    _speaks(strangers, router.endpoints[TCP], net.key.role(Role.ROUTER), net.key.role(Role.ROUTER).public)
    net.until(lambda: router.counters.keys_denied, router)
    _a_friend_is_heard_and_nobody_else(net, router)


def test_nobody_comes_in_while_nobody_answers_for_keys(net, strangers):
    server = sockets.router_socket(strangers[0], net.key.role(Role.ROUTER))
    endpoint = sockets.bind(server, "tcp://127.0.0.1:*")
    dealer = net.dealer()
    dealer.connect(endpoint, net.key, Role.WORKER)  # the right key
    _speaks(strangers, endpoint, net.key.role(Role.WORKER), net.key.role(Role.ROUTER).public)
    net.until(lambda: net.of(dealer).problems, dealer)
    assert not net.of(dealer).connected
    assert not server.poll(200)


def test_a_wrong_key_is_told_within_three_seconds_and_again(net):
    router, dealer = net.router(), net.dealer()
    dealer.connect(router.endpoints[TCP], new_key(), Role.WORKER)
    started = time.monotonic()
    net.until(lambda: net.of(dealer).problems and net.of(router).problems, dealer, router, within_s=3)
    assert time.monotonic() - started < 3
    assert net.of(dealer).problems[0].kind is Trouble.WRONG_KEY
    assert "another mesh key" in net.of(dealer).problems[0].text
    assert "another mesh key" in net.of(router).problems[0].text
    net.until(lambda: len(net.of(dealer).problems) > 1, dealer, router)
    assert not net.of(dealer).connected


def test_a_connection_with_another_key_is_counted_once(net):
    router, dealer = net.router(), net.dealer()
    dealer.connect(router.endpoints[TCP], new_key(), Role.WORKER)
    net.until(lambda: net.of(router).problems, dealer, router)
    counters = router.facts().counters
    assert (counters["greetings_failed"], counters["other_keys"], counters["mute"]) == (1, 1, 0)
    assert sum(router.facts().other_keys.values()) == 1


def test_a_stranger_is_named_by_its_address():
    strangers = Strangers(Counters())
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        accepted, _ = server.accept()
        accepted_fd = accepted.fileno()
        strangers.accept(accepted_fd)
        accepted.close()
    strangers.fail(monitor.GREETING_REFUSED, monitor.BAD_CRYPTOGRAPHY)
    strangers.end(accepted_fd, is_known=False)
    (problem,) = strangers.problems(["tcp://x:1"])
    assert problem.text.endswith("another mesh key (from 127.0.0.1)")
    assert strangers.came_from == {"127.0.0.1": 1}
    assert strangers.problems(["tcp://x:1"]) == []


def test_a_descriptor_that_is_another_s_by_now_names_nobody():
    strangers = Strangers(Counters())
    one, other = socket.socketpair()
    with one, other:
        strangers.accept(one.fileno())
        assert strangers.address(one.fileno()) == ""
    strangers.accept(10**6)


def test_a_connection_that_ends_without_a_word_is_counted_once(net):
    router = net.router()
    host, _, port = router.endpoints[TCP].removeprefix("tcp://").rpartition(":")
    for said in (b"", b"GET / HTTP/1.1"):
        with socket.create_connection((host, int(port))) as stranger:
            stranger.sendall(said)
    net.until(lambda: router.counters.mute + router.counters.greetings_failed == 2, router)
    assert router.counters.other_keys == 0


def test_of_many_strangers_some_are_named(monkeypatch):
    monkeypatch.setattr(Strangers, "address_of", staticmethod(lambda fd: f"10.0.{fd >> 8}.{fd & 255}"))
    strangers = Strangers(Counters())
    for fd in range(2 * KEPT_MAX):
        strangers.accept(fd)
        strangers.fail(monitor.DENIED, 400)
        strangers.end(fd, is_known=False)
    assert len(strangers.came_from) == KEPT_MAX
    named = "10.0.0.0, 10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4"
    assert strangers.problems([])[0].text.endswith(f"(from {named} and {2 * KEPT_MAX - NAMED_MAX} more)")


def test_a_router_that_hangs_in_the_greeting_is_not_said_to_have_another_key(net, monkeypatch):
    monkeypatch.setitem(sockets._DEALER, zmq.HANDSHAKE_IVL, 300)
    dealer = net.dealer()
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        dealer.connect(f"tcp://127.0.0.1:{hanging.getsockname()[1]}", net.key, Role.WORKER)
        net.until(lambda: net.of(dealer).problems, dealer)
    assert net.of(dealer).problems[0].kind is Trouble.GREETING
    assert "did not answer the greeting within 0.3 s" in net.of(dealer).problems[0].text


def test_a_wrong_key_is_tried_at_longer_and_longer_pauses(net, monkeypatch):
    monkeypatch.setattr(connection, "_REOPEN_AFTER_S", 0.3)  # libzmq by itself knocks each 0.1 s
    monkeypatch.setattr(connection, "REOPEN_AFTER_MAX_S", 1.0)
    router, dealer = net.router(), net.dealer()
    peer = dealer.connect(router.endpoints[TCP], new_key(), Role.WORKER)
    pauses = []
    for times in range(1, 4):
        net.until(lambda times=times: len(net.of(dealer).problems) >= times, dealer, router)
        pauses.append(dealer._connections[peer]._reopen_after_s)
    assert pauses == [0.6, 1.0, 1.0]
    assert dealer.counters.greetings_failed == 3, "it does not knock in between"


def test_a_connection_refused_for_its_key_comes_up_once_the_router_has_that_key(net):
    key = new_key()
    router, dealer = net.router(), net.dealer()
    endpoint = router.endpoints[TCP]
    peer = dealer.connect(endpoint, key, Role.WORKER)
    net.until(lambda: net.of(dealer).problems, dealer, router)
    router.close()
    again = net.router(tcp=endpoint, key=key)
    net.until(lambda: net.of(dealer).connected, dealer, again)
    assert net.of(dealer).connected == [peer]


def test_a_peer_that_expects_no_key_is_told_so(net, strangers):
    server = sockets.router_socket(strangers[0], None)
    dealer = net.dealer()
    dealer.connect(sockets.bind(server, "tcp://127.0.0.1:*"), net.key, Role.WORKER)
    net.until(lambda: net.of(dealer).problems, dealer)
    # Which of the two notices first decides what this one gets to know.
    assert net.of(dealer).problems[0].kind in (Trouble.NO_COMMON_SECURITY, Trouble.WRONG_KEY)
    assert "mesh key" in net.of(dealer).problems[0].text
