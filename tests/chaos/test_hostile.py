"""What a hostile host can do at the port of a router, before its key is checked and after: it costs little, is counted,
delivers nothing, and the others are served meanwhile."""

from __future__ import annotations

import os
import resource
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from urllib.parse import urlsplit

import psutil
import pytest
import zmq

from mesh.messages import (
    Credit,
    GetFunction,
    Heartbeat,
    Identify,
    Message,
    Query,
    Refuse,
    Released,
    Reply,
    Settled,
    Watch,
    Welcome,
)
from mesh.model import Role
from mesh.net.keys import load, new_key
from tests.chaos.test_strangers import record, served_meanwhile
from tests.chaos.test_strangers import router as router
from tests.cluster import Cluster, Node, wait_until
from tests.raw_peer import RawPeer

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(90)]

MIB = 1 << 20
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"CURVE".ljust(20, b"\0") + bytes(32)
LONG_COMMAND = b"\x06"  # a command whose length has eight bytes


@pytest.fixture
def port(router: Node) -> int:
    return int(urlsplit(str(record().tcp)).port or 0)


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def memory(router: Node) -> int:
    return int(psutil.Process(router.pid).memory_info().rss)


def counted(cluster: Cluster, what: str) -> int:
    return int(cluster.client().status()["router"]["transport"]["counters"][what])


def turned_away(cluster: Cluster) -> int:
    """Connections that ended in the greeting, or after it without a word."""
    return counted(cluster, "mute") + counted(cluster, "greetings_failed")


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=5.0)


def is_over(connection: socket.socket) -> bool:
    """Whether the other end has closed it, whatever it had sent before."""
    with suppress(BlockingIOError, TimeoutError):
        connection.setblocking(False)
        while True:
            try:
                if not connection.recv(65_536):
                    return True
            except ConnectionError:
                return True
    return False


@pytest.mark.parametrize("said", [b"", GREETING, GREETING[:11]], ids=["nothing", "a greeting", "half a greeting"])
def test_two_thousand_connections_that_say_no_more_go_by_themselves(
    cluster: Cluster, router: Node, port: int, many_files: None, said: bytes
) -> None:
    before, begun = memory(router), turned_away(cluster)
    with served_meanwhile(cluster, router), ExitStack() as open_ones:
        made = [open_ones.enter_context(connect(port)) for _ in range(2_000)]
        for connection in made:
            connection.sendall(said)
        assert memory(router) - before < 64 * MIB
        wait_until(lambda: all(is_over(connection) for connection in made), 20.0, "they are dropped")
        wait_until(lambda: turned_away(cluster) - begun >= 2_000, 5.0, "they are counted")


@pytest.mark.parametrize("greeted", [False, True])
def test_a_first_frame_without_end_ends_the_connection_and_takes_no_memory(
    cluster: Cluster, router: Node, port: int, greeted: bool
) -> None:
    before, begun = memory(router), turned_away(cluster)
    frame = LONG_COMMAND + (512 * MIB).to_bytes(8, "big")
    with served_meanwhile(cluster, router):
        for _ in range(10):
            with closing(connect(port)) as connection:
                sent = 0
                with suppress(ConnectionError, TimeoutError):
                    connection.sendall((GREETING if greeted else b"") + frame)
                    while sent < 512 * MIB:
                        sent += connection.send(bytes(MIB))
                assert sent < 64 * MIB, "it is reset long before that"
    assert memory(router) - before < 64 * MIB
    wait_until(lambda: turned_away(cluster) - begun >= 10, 10.0, "they are counted")


class Recorder:
    """Passes bytes on between one client and the router, and keeps what the client said."""

    def __init__(self, port: int) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self._listening.getsockname()[1]}"
        self.said = bytearray()
        self._thread = threading.Thread(target=self._run, args=(port,), daemon=True)
        self._thread.start()

    def _run(self, port: int) -> None:
        client, _ = self._listening.accept()
        with client, connect(port) as there, suppress(OSError):
            while True:
                for ready in select.select([client, there], [], [], 10.0)[0]:
                    data = ready.recv(65_536)
                    if not data:
                        return
                    (there if ready is client else client).sendall(data)
                    if ready is client:
                        self.said += data

    def close(self) -> None:
        self._listening.close()
        self._thread.join(10.0)


def test_a_handshake_that_was_recorded_lets_nobody_in(cluster: Cluster, router: Node, port: int) -> None:
    entry = load("t", os.environ).entry(Role.CLIENT)
    with closing(Recorder(port)) as recorder:
        with closing(RawPeer(recorder.endpoint, entry.own, entry.router)) as friend:
            assert isinstance(friend.greet(Role.CLIENT), Welcome)
        said = bytes(recorder.said)
    wait_until(lambda: counted(cluster, "keys_accepted") == 1, 5.0, "the friend is counted")
    begun = turned_away(cluster)
    with served_meanwhile(cluster, router):
        for _ in range(20):
            with closing(connect(port)) as connection:
                with suppress(ConnectionError):
                    connection.sendall(said)
                wait_until(lambda: is_over(connection), 10.0, "it is refused")
    wait_until(lambda: turned_away(cluster) - begun >= 20, 5.0, "they are counted")
    assert counted(cluster, "keys_accepted") == 1


@pytest.mark.parametrize("kind", ["a key of another mesh", "no key"])
def test_who_has_no_key_of_this_mesh_is_counted_and_delivers_nothing(cluster: Cluster, router: Node, kind: str) -> None:
    begun = turned_away(cluster)
    entry = load("t", os.environ).entry(Role.CLIENT)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with served_meanwhile(cluster, router):
        for _ in range(5):
            stranger = context.socket(zmq.DEALER)
            stranger.set(zmq.LINGER, 0)  # the context ends only when nothing is left to send
            if kind != "no key":
                own = new_key().role(Role.CLIENT)
                stranger.set(zmq.CURVE_PUBLICKEY, own.public)
                stranger.set(zmq.CURVE_SECRETKEY, own.secret)
                stranger.set(zmq.CURVE_SERVERKEY, entry.router)
            stranger.connect(str(record().tcp))
            with suppress(zmq.Again):  # it is refused already
                stranger.send(b"let me in", zmq.NOBLOCK)
        wait_until(lambda: turned_away(cluster) - begun >= 5, 10.0, "they are counted")
    context.destroy(linger=0)
    status = cluster.client().status()["router"]
    assert status["counters"]["garbage"] == 0 and status["transport"]["counters"]["keys_accepted"] == 0


def test_a_client_that_sends_a_workers_verbs_is_refused_each_time(cluster: Cluster, router: Node) -> None:
    entry = load("t", os.environ).entry(Role.CLIENT)
    with served_meanwhile(cluster, router), closing(RawPeer(str(record().tcp), entry.own, entry.router)) as peer:
        assert isinstance(peer.greet(Role.CLIENT), Welcome)
        for message in (Credit(1_000), Settled(1, []), Released([]), GetFunction("f")) * 5:
            assert isinstance(peer.say(message), Refuse)
    assert cluster.client().status()["router"]["counters"]["refused"] == 20


def test_ten_thousand_frames_in_one_message_are_dropped_and_its_sender_goes_on(
    cluster: Cluster, router: Node, port: int
) -> None:
    entry = load("t", os.environ).entry(Role.CLIENT)
    before = memory(router)
    with served_meanwhile(cluster, router), closing(RawPeer(str(record().tcp), entry.own, entry.router)) as peer:
        assert isinstance(peer.greet(Role.CLIENT), Welcome)
        for _ in range(20):
            peer.send_raw([b"x"] * 10_000)
        assert isinstance(peer.say(Query(1, "status")), Reply)
        peer.send_raw([b"y" * 10_000] * 10_000)
        peer.say(Heartbeat(), answered=False)
        assert isinstance(peer.say(Query(2, "status")), Reply)
    assert memory(router) - before < 256 * MIB, "one such message, at the most"
    wait_until(lambda: counted(cluster, "dropped") >= 21, 5.0, "they are counted")


FLOODS: dict[str, Callable[[int], Message]] = {
    "identify": lambda number: Identify(),
    "large identify": lambda number: Identify(bytes(MIB)),
    "query": lambda number: Query(number, "status"),
    "watch": lambda number: Watch([f"{number}-{i}".ljust(200, "x") for i in range(1_000)]),
    "heartbeat": lambda number: Heartbeat(),
}


class Flooded:
    """A router under a flood: how often it cut somebody off, and the most memory it took meanwhile."""

    def __init__(self, router: Node) -> None:
        self._router = router
        self._before = self._most = memory(router)

    def cut(self) -> int:
        self._most = max(self._most, memory(self._router))
        return self._router.text().count("cut off")

    @property
    def grown(self) -> int:
        return self._most - self._before


FLOOD_BYTES = 1 << 30
READ_AS_FAST = ("large identify",)  # the router may take these as fast as they come: then there is nothing to cut


@pytest.mark.parametrize("kind", FLOODS)
def test_who_has_a_key_and_sends_as_fast_as_it_can_and_reads_nothing_is_cut_off(cluster: Cluster, kind: str) -> None:
    limits = {"UNREAD_BYTES_MAX": 16, "PAYLOAD_BYTES_MAX": 16, "OUTBOX_BYTES_MAX": 32}
    cluster.environ |= {f"MESH_{name}": str(mib * MIB) for name, mib in limits.items()}
    router = cluster.router()
    cluster.worker("w1")
    entry = load("t", os.environ).entry(Role.CLIENT)
    flooded = Flooded(router)

    ended = 0
    with served_meanwhile(cluster, router, within_s=5.0):
        for _ in range(3):
            with closing(RawPeer(str(record().tcp), entry.own, entry.router)) as peer:
                assert isinstance(peer.greet(Role.CLIENT), Welcome)
                peer.flood(
                    FLOODS[kind],
                    lambda peer=peer, ended=ended: flooded.cut() > ended or peer.flooded_bytes > FLOOD_BYTES,
                )
                assert flooded.cut() > ended or kind in READ_AS_FAST
                ended = flooded.cut()
    assert flooded.grown < 512 * MIB
    wait_until(lambda: counted(cluster, "flooding") + counted(cluster, "cut") >= ended, 5.0, "they are counted")


def test_who_has_a_key_and_sends_empty_frames_is_cut_off_by_the_memory_they_take(cluster: Cluster) -> None:
    limits = {"UNREAD_BYTES_MAX": 64, "PAYLOAD_BYTES_MAX": 64}
    cluster.environ |= {f"MESH_{name}": str(mib * MIB) for name, mib in limits.items()}
    router = cluster.router()
    cluster.worker("w1")
    entry = load("t", os.environ).entry(Role.CLIENT)
    flooded = Flooded(router)
    with (
        served_meanwhile(cluster, router, within_s=5.0),
        closing(RawPeer(str(record().tcp), entry.own, entry.router)) as peer,
    ):
        assert isinstance(peer.greet(Role.CLIENT), Welcome)
        peer.flood_raw([b""], flooded.cut)
    assert flooded.grown < 2 * sum(limits.values()) * MIB
    wait_until(lambda: counted(cluster, "flooding"), 5.0, "it is counted")


@pytest.mark.parametrize("frames", [1, 1_000])
def test_who_has_a_key_and_sends_garbage_without_end_is_cut_off(cluster: Cluster, router: Node, frames: int) -> None:
    entry = load("t", os.environ).entry(Role.CLIENT)
    with served_meanwhile(cluster, router):
        for ended in range(3):
            with closing(RawPeer(str(record().tcp), entry.own, entry.router)) as peer:
                peer.flood_raw([b"x"] * frames, lambda ended=ended: router.text().count("cut off") > ended)
    wait_until(lambda: counted(cluster, "garbled") >= 3, 5.0, "they are counted")


def test_connections_that_come_and_go_leave_nothing_behind(
    cluster: Cluster, router: Node, port: int, many_files: None
) -> None:
    process = psutil.Process(router.pid)
    with served_meanwhile(cluster, router):
        before, until = process.num_fds(), time.monotonic() + 2.0
        while time.monotonic() < until:
            with closing(connect(port)) as connection, suppress(ConnectionError):
                connection.sendall(GREETING)
        wait_until(lambda: process.num_fds() <= before + 4, 10.0, "their descriptors are free")
