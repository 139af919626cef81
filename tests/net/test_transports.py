"""Messages both ways over real sockets: order, limits, waking, watched descriptors."""

from __future__ import annotations

import os
import threading
import time

import pytest
import zmq

from mesh.errors import ConfigError, MeshError, NoKey, ProtocolError
from mesh.model import Role
from mesh.net import sockets
from mesh.net.arrivals import Trouble
from mesh.net.frames import FRAMES_MAX
from mesh.net.keys import Entry
from mesh.net.router_transport import RouterTransport
from mesh.net.sockets import AddressTaken

IPC, TCP = 0, 1


def _joined(net, router, door, role=Role.WORKER, **options):
    """A dealer that is connected to the router and known to it."""
    dealer = net.dealer(**options)
    peer = dealer.connect(router.endpoints[door], net.key, role)
    net.until(lambda: net.of(dealer).connected, dealer, router)
    before = len(net.of(router).messages)
    assert dealer.send(peer, [b"hello"])
    net.until(lambda: len(net.of(router).messages) > before, dealer, router)
    return dealer, peer, net.of(router).messages[-1][0]


@pytest.mark.parametrize("door", [IPC, TCP])
def test_frames_arrive_unchanged_both_ways(net, door):
    router = net.router()
    dealer, up, down = _joined(net, router, door)
    frames = [b"envelope", b"", b"small", bytes(range(256)) * 4096]

    assert dealer.send(up, frames)
    net.until(lambda: len(net.of(router).messages) == 2, router)
    sender, received, _ = net.of(router).messages[1]
    assert sender == down
    assert [bytes(f) for f in received] == frames
    assert router.send(down, received)

    net.until(lambda: net.of(dealer).messages, dealer)
    assert [bytes(f) for f in net.of(dealer).messages[0][1]] == frames
    assert net.of(dealer).messages[0][0] == up


def test_the_role_of_a_tcp_peer_is_that_of_its_key_and_an_ipc_peer_has_none(net):
    """A client that has the whole key shows that it may do all."""
    router = net.router()
    for role in (Role.WORKER, Role.CLIENT, Role.ADMIN):
        _joined(net, router, TCP, role)
    _joined(net, router, IPC)

    assert [m[2] for m in net.of(router).messages] == [Role.WORKER, Role.ADMIN, Role.ADMIN, None]
    assert router.counters.keys_accepted == 3


@pytest.mark.parametrize("door", [IPC, TCP])
def test_order_is_kept_under_pressure_in_both_directions(net, door):
    router = net.router(outbox_bytes_max=64 << 20)
    dealer, up, down = _joined(net, router, door, outbox_bytes_max=64 << 20)
    count = 3_000
    for number in range(count):
        assert dealer.send(up, [b"%d" % number, b"x" * 2000])
        assert router.send(down, [b"%d" % number, b"x" * 2000])
    net.until(
        lambda: len(net.of(router).messages) == count + 1 and len(net.of(dealer).messages) == count,
        router,
        dealer,
        within_s=20,
    )

    expected = [b"%d" % number for number in range(count)]
    assert [m[1][0] for m in net.of(router).messages[1:]] == expected
    assert [m[1][0] for m in net.of(dealer).messages] == expected
    assert router.counters.delayed > 0
    assert dealer.counters.delayed > 0


def test_a_waiting_router_flushes_as_soon_as_a_full_peer_reads_again(net):
    router = net.router(outbox_bytes_max=64 << 20)
    dealer, _, down = _joined(net, router, IPC)
    count = 300
    for _ in range(count):
        assert router.send(down, [b"x" * 50_000])
    assert router.counters.delayed > 0

    def read() -> None:
        try:
            net.until(lambda: len(net.of(dealer).messages) == count, dealer, within_s=10)
        finally:
            over.set()
            router.wake()

    over = threading.Event()
    reader = threading.Thread(target=read)
    reader.start()
    wakes = 0
    while not over.is_set():
        router.receive(0.5)
        wakes += 1
    reader.join()
    assert len(net.of(dealer).messages) == count
    assert wakes < count


def test_a_send_to_an_unknown_peer_says_so(net):
    assert net.router().send(b"nobody", [b"x"]) is False


def test_a_send_before_the_connection_stands_says_so(net):
    dealer = net.dealer()
    peer = dealer.connect(net.ipc, None, Role.CLIENT)
    assert dealer.send(peer, [b"x"]) is False
    net.until(lambda: net.of(dealer).problems, dealer)
    assert net.of(dealer).problems[0].kind is Trouble.NO_ROUTER
    assert net.ipc in net.of(dealer).problems[0].text


def test_nothing_is_sent_twice_when_the_router_starts_later(net):
    dealer = net.dealer()
    peer = dealer.connect(net.ipc, None, Role.CLIENT)
    net.step(dealer)
    router = net.router(tcp=None)
    net.until(lambda: net.of(dealer).connected == [peer], dealer, router)
    assert dealer.send(peer, [b"x"])
    net.until(lambda: net.of(router).messages, router)
    assert len(net.of(router).messages) == 1


def test_a_message_of_too_many_frames_is_dropped_and_the_next_one_arrives(net, monkeypatch):
    router = net.router()
    dealer, up, _ = _joined(net, router, IPC)
    with monkeypatch.context() as patch:
        patch.setattr("mesh.net.frames.FRAMES_MAX", 10_000)
        assert dealer.send(up, [b"x"] * 2_000)
    # read_frames looks the limit up when it is called, so it is back before the router reads
    assert dealer.send(up, [b"next"])
    net.until(lambda: len(net.of(router).messages) == 2, router)

    assert net.of(router).messages[1][1] == [b"next"]
    assert [p.kind for p in net.of(router).problems] == [Trouble.TOO_MANY_FRAMES]
    assert router.counters.dropped == 1


def test_a_message_nobody_would_take_fails_where_it_is_sent(net):
    router = net.router()
    dealer, up, _ = _joined(net, router, IPC)
    with pytest.raises(ProtocolError, match="frames"):
        dealer.send(up, [b"x"] * (FRAMES_MAX + 1))
    with pytest.raises(ProtocolError, match="bytes"):
        dealer.send(up, [bytes(3 << 20)])


def test_probes_are_kept_from_the_owner(net):
    router = net.router()
    dealer, _, down = _joined(net, router, IPC)
    assert router.probe(down)
    assert router.send(down, [b"real"])
    net.until(lambda: net.of(dealer).messages, dealer)
    assert [m[1] for m in net.of(dealer).messages] == [[b"real"]]
    assert dealer.counters.probes_received == 1


def test_wake_ends_a_wait_from_another_thread_and_is_not_lost_before_it(net):
    for transport in (net.router(), net.dealer()):
        transport.wake()
        transport.wake()
        started = time.monotonic()
        transport.receive(5)
        timer = threading.Timer(0.05, transport.wake)
        timer.start()
        transport.receive(5)
        assert 0.03 < time.monotonic() - started < 2
        timer.join()
        started = time.monotonic()
        transport.receive(0.05)
        assert time.monotonic() - started > 0.03


def test_watched_descriptors_are_reported_while_they_are_ready(net):
    dealer = net.dealer()
    reader, writer = os.pipe()
    dealer.watch_fd(reader)
    dealer.watch_fd(writer)
    assert dealer.receive(0.01).readable == []
    os.write(writer, b"x")
    assert dealer.receive(1).readable == [reader]
    assert dealer.receive(1).readable == [reader]
    dealer.watch_fd(writer, write=True)
    found = dealer.receive(1)
    assert (found.readable, found.writable) == ([reader], [writer])
    dealer.watch_fd(writer)
    dealer.unwatch_fd(reader)
    assert dealer.receive(0.01).readable == []
    os.close(reader)
    dealer.unwatch_fd(writer)
    os.close(writer)
    dealer.unwatch_fd(writer)


def test_a_transport_refuses_to_work_in_a_fork(net):
    dealer = net.dealer()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            dealer.receive(0)
        except MeshError as error:
            code = 0 if "fork" in str(error) else 2
        finally:
            dealer.close()
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    dealer.receive(0)


def test_the_last_messages_before_an_orderly_end_arrive(net):
    router = net.router(outbox_bytes_max=64 << 20)
    dealer, up, _ = _joined(net, router, TCP, outbox_bytes_max=64 << 20)
    for number in range(500):
        assert dealer.send(up, [b"%d" % number, bytes(10_000)])
    closing = threading.Thread(target=dealer.close, args=(5.0,))
    closing.start()
    net.until(lambda: len(net.of(router).messages) == 501, router)
    closing.join()


def test_closing_without_a_router_does_not_wait(net):
    dealer = net.dealer()
    dealer.connect(net.ipc, None, Role.CLIENT)
    started = time.monotonic()
    dealer.close(5.0)
    dealer.close()
    assert time.monotonic() - started < 1


def test_a_router_may_listen_at_several_addresses_that_come_and_go(net):
    router = net.router(ipc=False)
    dealers = []
    for endpoint in (router.listen("tcp://127.0.0.2:*"), router.listen("tcp://[::1]:*")):
        assert endpoint in router.endpoints
        dealer = net.dealer()
        dealers.append((dealer, dealer.connect(endpoint, net.key, Role.CLIENT)))
    for dealer, peer in dealers:
        net.until(lambda d=dealer, p=peer: p in net.of(d).connected, dealer, router)
    (first, cut), (second, kept) = dealers
    router.unlisten(router.endpoints[1])
    net.until(lambda: net.of(first).lost == [cut], first, router)
    assert second.is_connected(kept)


def test_an_address_that_another_socket_listens_at_is_told_from_one_that_is_not_there(net):
    taken = net.router(ipc=False).endpoints[0]
    router = net.router(ipc=False)
    with pytest.raises(AddressTaken):
        router.listen(taken)
    with pytest.raises(ConfigError) as found:
        router.listen("tcp://192.0.2.77:*")
    assert not isinstance(found.value, AddressTaken)
    assert len(router.endpoints) == 1


def test_no_router_listens_at_tcp_without_a_key(net):
    router = net.keep(RouterTransport(ipc=net.ipc, tcp=None, key=None, outbox_bytes_max=1))
    with pytest.raises(NoKey, match="mesh key"):
        router.listen("tcp://0.0.0.0:*")
    assert router.endpoints == [net.ipc]


def test_tcp_without_a_key_is_refused_on_both_sides(net):
    with pytest.raises(NoKey, match="mesh key"):
        RouterTransport(ipc=None, tcp="tcp://127.0.0.1:*", key=None, outbox_bytes_max=1)
    with pytest.raises(NoKey, match="mesh join"):
        net.dealer().connect("tcp://127.0.0.1:1", None, Role.CLIENT)


def test_a_second_router_does_not_take_the_path_of_a_living_one(net):
    net.router(tcp=None)
    with pytest.raises(ConfigError, match="another router listens"):
        net.router(tcp=None)


def test_a_connection_that_comes_back_is_a_new_peer_to_the_router(net):
    router = net.router()
    dealer, up, first = _joined(net, router, IPC)
    dealer.disconnect(up)
    net.until(lambda: net.of(router).lost == [first], router)
    assert not dealer.send(up, [b"x"])
    again = dealer.connect(router.endpoints[IPC], None, Role.WORKER)
    net.until(lambda: again in net.of(dealer).connected, dealer, router)
    assert dealer.send(again, [b"again"])
    net.until(lambda: len(net.of(router).messages) == 2, router)
    assert net.of(router).messages[1][0] != first
    assert net.of(dealer).lost == []


def test_a_routing_id_in_use_cannot_be_taken_over(net):
    router = net.router()
    context, opened = zmq.Context(), []
    pair = net.key.role(Role.CLIENT)
    try:
        for name in (b"mine", b"stolen"):
            socket = sockets.dealer_socket(context, Entry(pair, net.key.role(Role.ROUTER).public))
            opened.append(socket)
            socket.set(zmq.IDENTITY, b"same-id")
            socket.set(zmq.IMMEDIATE, 0)
            socket.connect(router.endpoints[TCP])
            socket.send(name)
            net.until(lambda: net.of(router).messages, router)
        net.until(lambda: router.counters.keys_accepted == 2, router)
        for _ in range(50):
            net.step(router)
    finally:
        context.destroy(linger=0)
    assert [m[1] for m in net.of(router).messages] == [[b"mine"]]
