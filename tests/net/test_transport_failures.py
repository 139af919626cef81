"""Peers and routers that are killed, stopped, full or hostile: real processes on the other side."""

from __future__ import annotations

import os
import random
import signal
import socket
import time

import pytest
import zmq

from mesh.errors import ConfigError
from mesh.model import Role
from mesh.net import sockets
from mesh.net.arrivals import Trouble
from mesh.net.dealer_transport import DealerTransport
from mesh.net.keys import new_key
from mesh.settings import Settings
from tests.net.peer_process import heartbeats

IPC, TCP = 0, 1


@pytest.fixture
def heartbeat_s(monkeypatch):
    """Routers made from now on send heartbeats this far apart, also those in processes."""
    monkeypatch.setattr(sockets, "_ROUTER", sockets._ROUTER | heartbeats(500))
    monkeypatch.setenv("PEER_HEARTBEAT_MS", "500")
    return 0.5


def _peer_of(net, router, process, known=0):
    """The peer a dealer process is to the router."""
    net.until(lambda: len(net.of(router).messages) > known, router, within_s=20)
    assert process.stdout.readline() == b"up\n"
    return net.of(router).messages[known][0]


def _connected(net, processes, *arguments):
    """An echo router in a process, with its endpoints."""
    process = processes.start("router", net.key.text, net.ipc, *arguments)
    return process, process.stdout.readline().decode().split()


@pytest.mark.chaos
@pytest.mark.parametrize("door", [IPC, TCP])
def test_a_killed_peer_is_reported_at_once_and_no_other(net, processes, door):
    router = net.router()
    started, peers = [], []
    for number in range(3):
        started.append(processes.start("dealer", net.key.text, router.endpoints[door]))
        peers.append(_peer_of(net, router, started[-1], number))
    for number in (1, 0):
        before = len(net.of(router).lost)
        started[number].kill()
        killed_at = time.monotonic()
        net.until(lambda before=before: len(net.of(router).lost) > before, router)
        assert time.monotonic() - killed_at < 0.1
    for _ in range(50):
        net.step(router)

    assert net.of(router).lost == [peers[1], peers[0]]
    assert not router.send(peers[0], [b"x"])
    assert router.send(peers[2], [b"x"])


@pytest.mark.chaos
@pytest.mark.parametrize("door", [IPC, TCP])
def test_a_peer_killed_in_the_middle_of_a_flood_is_lost_after_its_last_message(net, processes, door):
    router = net.router()
    process = processes.start("dealer", net.key.text, router.endpoints[door], "20000")
    peer = _peer_of(net, router, process)
    net.until(lambda: len(net.of(router).messages) > 2_000, router)
    process.kill()
    net.until(lambda: net.of(router).lost, router)
    count = len(net.of(router).messages)
    for _ in range(20):
        net.step(router)

    assert net.of(router).lost == [peer]
    assert len(net.of(router).messages) == count


@pytest.mark.chaos
def test_a_stopped_peer_is_cut_at_the_limit_and_delays_nobody(net, processes):
    router = net.router(outbox_bytes_max=2 << 20)
    process = processes.start("dealer", net.key.text, router.endpoints[IPC])
    stopped = _peer_of(net, router, process)
    healthy = net.dealer()
    up = healthy.connect(router.endpoints[IPC], None, Role.WORKER)
    net.until(lambda: net.of(healthy).connected, healthy, router)
    assert healthy.send(up, [b"hello"])
    net.until(lambda: len(net.of(router).messages) == 2, router)
    process.send_signal(signal.SIGSTOP)
    sent = 0
    while router.send(stopped, [bytes(100_000)]):
        sent += 1
        assert sent < 1_000, "nothing bounds what waits for a peer that does not read"
    net.step(router)

    assert net.of(router).lost == [stopped]
    assert net.of(router).problems[0].kind is Trouble.OUTBOX_FULL
    assert stopped.decode() in net.of(router).problems[0].text
    assert router.counters.cut == 1
    assert router.send(net.of(router).messages[1][0], [b"still here"])
    net.until(lambda: net.of(healthy).messages, healthy)
    process.send_signal(signal.SIGCONT)


@pytest.mark.chaos
def test_a_full_peer_that_is_killed_is_reported(net, processes):
    router = net.router(outbox_bytes_max=64 << 20)
    process = processes.start("dealer", net.key.text, router.endpoints[IPC])
    peer = _peer_of(net, router, process)
    process.send_signal(signal.SIGSTOP)
    while not router.counters.delayed:
        assert router.send(peer, [bytes(100_000)])
    process.kill()
    killed_at = time.monotonic()
    net.until(lambda: net.of(router).lost == [peer], router)
    assert time.monotonic() - killed_at < 0.1


@pytest.mark.chaos
def test_a_dealer_that_outruns_a_stopped_router_is_cut_and_comes_back(net, processes):
    process, endpoints = _connected(net, processes)
    dealer = net.dealer(outbox_bytes_max=1 << 20)
    up = dealer.connect(endpoints[IPC], None, Role.CLIENT)
    net.until(lambda: net.of(dealer).connected, dealer)
    process.send_signal(signal.SIGSTOP)
    sent = 0
    while dealer.send(up, [bytes(100_000)]):
        sent += 1
        assert sent < 1_000
    net.step(dealer)
    assert net.of(dealer).lost == [up]
    assert net.of(dealer).problems[0].kind is Trouble.OUTBOX_FULL
    process.send_signal(signal.SIGCONT)
    net.until(lambda: len(net.of(dealer).connected) == 2, dealer)
    assert dealer.send(up, [b"again"])
    net.until(lambda: [b"again"] in [m[1] for m in net.of(dealer).messages], dealer)


@pytest.mark.chaos
@pytest.mark.parametrize("door", [IPC, TCP])
def test_a_dealer_notices_a_killed_router_and_connects_to_the_next_one(net, processes, door):
    process, endpoints = _connected(net, processes)
    dealer = net.dealer()
    up = dealer.connect(endpoints[door], net.key, Role.CLIENT)
    net.until(lambda: net.of(dealer).connected, dealer)
    assert dealer.send(up, [b"1"])
    net.until(lambda: net.of(dealer).messages, dealer)
    process.kill()
    killed_at = time.monotonic()
    net.until(lambda: net.of(dealer).lost == [up], dealer)
    assert time.monotonic() - killed_at < 0.1
    assert not dealer.send(up, [b"x"])
    process.wait()
    assert os.path.exists(net.ipc.removeprefix("ipc://"))  # what a dead router leaves

    router = net.router(tcp=endpoints[TCP])
    net.until(lambda: net.of(dealer).connected == [up, up], dealer, router)
    assert dealer.send(up, [b"2"])
    net.until(lambda: net.of(router).messages, router)
    assert [m[1] for m in net.of(router).messages] == [[b"2"]]


@pytest.mark.chaos
def test_garbage_does_not_end_a_router(net, processes):
    process, endpoints = _connected(net, processes)
    port = int(endpoints[TCP].rpartition(":")[2])
    path = endpoints[IPC].removeprefix("ipc://")
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00"
    for seed in range(8):
        source = random.Random(seed)
        for number in range(60):
            data = source.randbytes(source.choice([1, 10, 64, 1_000, 60_000]))
            if number % 3 == 1:
                data = greeting + data
            elif number % 3 == 2:
                data = greeting + source.choice([b"CURVE", b"NULL"]).ljust(20, b"\0") + bytes(32) + data
            _throw(socket.AF_INET, ("127.0.0.1", port), data)
            _throw(socket.AF_UNIX, path, data)
        for door in (IPC, TCP):
            dealer = net.dealer()
            up = dealer.connect(endpoints[door], net.key, Role.CLIENT)
            net.until(lambda dealer=dealer: net.of(dealer).connected, dealer)
            assert dealer.send(up, [b"alive?"])
            net.until(lambda dealer=dealer: net.of(dealer).messages, dealer)
            dealer.close()
    assert process.poll() is None


def _throw(family, address, data):
    with socket.socket(family, socket.SOCK_STREAM) as thrower:
        thrower.settimeout(2)
        thrower.connect(address)
        try:
            thrower.sendall(data)
        except OSError:
            return  # it was shown out


@pytest.mark.chaos
def test_a_busy_router_outlives_a_peer_that_floods_it_and_dies(net, processes, heartbeat_s):
    """With a receive limit libzmq aborts here, at its next heartbeat."""
    router, endpoints = _connected(net, processes, str(0.5 + 2 * heartbeat_s))
    # Larger messages would fill the outbox of the peer, which would end its connection itself.
    flood = processes.start("dealer", net.key.text, endpoints[IPC], "10000")
    assert flood.stdout.readline() == b"up\n"
    time.sleep(0.3)  # how long it floods is part of what is tested
    flood.kill()
    dealer = net.dealer()
    up = dealer.connect(endpoints[IPC], None, Role.CLIENT)
    net.until(lambda: net.of(dealer).connected, dealer)
    assert dealer.send(up, [b"alive?"])
    net.until(lambda: net.of(dealer).messages, dealer, within_s=20)
    assert router.poll() is None


def test_the_heartbeats_of_a_router_are_those_of_a_node(net):
    """What follows is measured with quicker ones."""
    context = zmq.Context()
    try:
        options = {option: sockets.router_socket(context, None).get(option) for option in heartbeats(1)}
    finally:
        context.destroy(linger=0)
    assert options == heartbeats(int(1000 * Settings().heartbeat_s)) and Settings().liveness == 3


@pytest.mark.chaos
def test_a_stopped_peer_is_lost_after_three_heartbeats(net, processes, heartbeat_s):
    router = net.router()
    process = processes.start("dealer", net.key.text, router.endpoints[TCP])
    peer = _peer_of(net, router, process)
    process.send_signal(signal.SIGSTOP)
    started = time.monotonic()
    net.until(lambda: net.of(router).lost == [peer], router, within_s=12)
    assert 2 * heartbeat_s < time.monotonic() - started < 3 * heartbeat_s + 3


@pytest.mark.chaos
def test_a_stopped_router_is_lost_after_three_heartbeats(net, processes, heartbeat_s):
    process, endpoints = _connected(net, processes)
    dealer = net.dealer()
    up = dealer.connect(endpoints[TCP], net.key, Role.CLIENT)
    net.until(lambda: net.of(dealer).connected, dealer)
    pinged_at = time.monotonic() + 1.2 * heartbeat_s  # until a ping has told the dealer to expect the next
    net.until(lambda: time.monotonic() > pinged_at, dealer)
    process.send_signal(signal.SIGSTOP)
    stopped_at = time.monotonic()
    net.until(lambda: net.of(dealer).lost == [up], dealer, within_s=12)
    assert time.monotonic() - stopped_at < 3 * heartbeat_s + 3


@pytest.mark.chaos
def test_two_peers_with_one_routing_id_do_not_end_a_router(net, processes, heartbeat_s):
    """With handover libzmq aborts here: the first is left without a pipe, speaks, ends, and is sent a heartbeat."""
    router, endpoints = _connected(net, processes)
    context = zmq.Context()
    opened = []
    for _ in range(2):
        socket = sockets.dealer_socket(context)
        opened.append(socket)
        socket.set(zmq.IDENTITY, b"same-id")
        socket.connect(endpoints[IPC])
        assert socket.poll(5_000, zmq.POLLOUT)
        socket.send(b"hello")
        assert opened[0].poll(5_000)
    for _ in range(50):
        opened[0].send(bytes(1_000))
    opened[0].close(linger=1_000)
    deadline = time.monotonic() + 2.5 * heartbeat_s
    dealer = net.dealer()
    up = dealer.connect(endpoints[IPC], None, Role.CLIENT)
    net.until(lambda: net.of(dealer).connected, dealer)
    while time.monotonic() < deadline:
        assert dealer.send(up, [b"alive?"])
        heard = len(net.of(dealer).messages)
        net.until(lambda heard=heard: len(net.of(dealer).messages) > heard, dealer)
        net.step(dealer, heartbeat_s / 20)
    context.destroy(linger=0)
    assert router.poll() is None


@pytest.mark.parametrize(
    "address", ["tcp://a b:1", "tcp://;;10.77.0.9:1;10.77.0.8:2", "tcp://no.such.name.invalid\x00:1"]
)
def test_an_address_that_is_none_is_refused_and_holds_nothing_up(address: str) -> None:
    dealer = DealerTransport(outbox_bytes_max=1 << 20)
    with pytest.raises(ConfigError, match="cannot connect"):
        dealer.connect(address, new_key(), Role.WORKER)
    dealer.receive(0.0)
    dealer.close(0.0)  # would wait for ever for a socket that was left open


def test_who_hangs_up_during_the_greeting_on_this_host_is_told_from_one_with_another_key(net, tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        dealer = net.dealer()
        dealer.connect(f"ipc://{path}", None, Role.WORKER)
        listener.settimeout(5)
        listener.accept()[0].close()
        net.until(lambda: net.of(dealer).problems, dealer)
    problem = net.of(dealer).problems[0]
    assert problem.kind is Trouble.GREETING and "went away during the greeting, or hangs" in problem.text
