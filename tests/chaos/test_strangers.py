"""Peers without the key, and peers that say what no node of ours would say: the router lives and serves the others."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import pytest
import zmq

from mesh.messages import (
    Bye,
    Cancel,
    Credit,
    GetFunction,
    Heartbeat,
    Hello,
    Message,
    PutFunction,
    Query,
    Released,
    Settled,
    Submit,
    Unwatch,
    Watch,
)
from mesh.model import Ending, FunctionCode, Role, Settlement, TaskOptions, TaskSpec
from mesh.net.dealer_transport import DealerTransport
from mesh.net.keys import load, new_key
from mesh.net.runtime_dir import RouterRecord, RuntimeDir
from mesh.wire.codec import encode
from tests.cluster import Cluster, Node, send, wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(60)]


@pytest.fixture
def router(cluster: Cluster) -> Node:
    """A mesh that works."""
    router = cluster.router()
    cluster.worker("w1")
    return router


def record() -> RouterRecord:
    (found,) = RuntimeDir(os.environ).routers("t")
    return found


@contextmanager
def served_meanwhile(cluster: Cluster, router: Node, within_s: float = 1.0) -> Iterator[None]:
    """Round trips go on, none takes longer, and the router is the same at the end."""
    app = cluster.client()
    send(app, "echo", 0).get(timeout=5.0)
    trips: list[float] = []
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            begun = time.monotonic()
            send(app, "echo", 1).get(timeout=10.0)
            trips.append(time.monotonic() - begun)
            over.wait(0.005)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
        wait_until(lambda: len(trips) > 20, 10.0, "round trips")
    finally:
        over.set()
        thread.join(20.0)
    print(f"{len(trips)} round trips meanwhile, the slowest {max(trips):.3f} s")
    assert max(trips) < within_s
    assert router.is_running, router.text()


# without the key


def test_a_client_with_another_key_is_told_so_within_three_seconds(cluster: Cluster, router: Node) -> None:
    code = f"""
import time
begun = time.monotonic()
app = Mesh("x", router={record().tcp!r})
try:
    app.send_task("tests.cluster_tasks.echo", (1,)).get(timeout=10)
except Exception as error:
    print(f"{{time.monotonic() - begun:.2f}}|{{type(error).__name__}}|{{error}}")
app.close = None
import os; os._exit(0)
"""
    cluster.environ["MESH_KEY"] = new_key().text
    with served_meanwhile(cluster, router):
        text, _ = cluster.script(code).communicate(timeout=20.0)
    line = text.strip().splitlines()[-1]
    seconds, _kind, said = line.split("|")
    assert float(seconds) < 3.0, line
    assert "key" in said, line


def test_a_worker_with_another_key_says_so(cluster: Cluster, router: Node) -> None:
    cluster.environ["MESH_KEY"] = new_key().text
    worker = cluster.worker("stranger", "--router", str(record().tcp).removeprefix("tcp://"), wait=False)
    wait_until(lambda: "key" in worker.text(), 5.0, "the worker says that its key is wrong")


def test_whoever_speaks_no_curve_gets_nothing(cluster: Cluster, router: Node) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.LINGER, 0)
    dealer.connect(str(record().tcp))
    try:
        with served_meanwhile(cluster, router):
            for _ in range(20):
                with suppress(zmq.Again):  # no pipe while it connects anew
                    dealer.send(bytes(encode(hello(Role.CLIENT), 1, 0)[0]), zmq.NOBLOCK)
                assert not dealer.poll(50)
    finally:
        dealer.close()
        context.term()
    assert cluster.client().status()["router"]["counters"]["garbage"] == 0, "it never reached the router"


def test_bytes_that_are_no_zeromq_do_nothing(cluster: Cluster, router: Node) -> None:
    rng = random.Random(5)
    address = urlsplit(str(record().tcp))
    with served_meanwhile(cluster, router):
        for _ in range(50):
            with socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=5.0) as connection:
                try:
                    connection.sendall(rng.randbytes(rng.choice([1, 64, 2000])))
                    connection.sendall(b"\xff" + b"\0" * 8 + b"\x7f" + rng.randbytes(2000))
                except OSError:
                    continue


# with the key, and wrong all the same


class Rogue:
    """A node that sends what it likes."""

    def __init__(self, endpoint: str, role: Role) -> None:
        self._transport = DealerTransport(outbox_bytes_max=1 << 24)
        key = None if endpoint.startswith("ipc") else load("t", os.environ)
        self._peer = self._transport.connect(endpoint, key, role)
        self.session = 0
        self.answers = 0
        self.receive(lambda: self._transport.is_connected(self._peer))

    def receive(self, until: Callable[[], object]) -> None:
        deadline = time.monotonic() + 5.0
        while not until():
            assert time.monotonic() < deadline, "no answer"
            self.answers += len(self._transport.receive(0.01).messages)

    def send(self, *frames: bytes) -> None:
        while not self._transport.send(self._peer, list(frames)):
            self.receive(lambda: self._transport.is_connected(self._peer))
        self.pump()

    def pump(self) -> None:
        """Let what waits go out, and take what came."""
        self.answers += len(self._transport.receive(0.0).messages)

    def say(self, message: Message, number: int, session: int | None = None) -> None:
        self.send(bytes(encode(message, self.session if session is None else session, number)[0]))

    def greet(self, role: Role) -> None:
        self.session += 1
        before = self.answers
        self.say(hello(role), 0)
        self.receive(lambda: self.answers > before)

    def close(self) -> None:
        self._transport.close()


@pytest.fixture(params=["ipc", "tcp"])
def rogue(cluster: Cluster, router: Node, request: pytest.FixtureRequest) -> Iterator[Rogue]:
    made = Rogue(str(getattr(record(), request.param)), Role.CLIENT)
    yield made
    made.close()


def hello(role: Role, **fields: object) -> Hello:
    return Hello(role, "rogue", "rogue", "3.11", "0", **fields)  # type: ignore[arg-type]


HUGE = 2**62


def wrong_messages() -> list[Message]:
    """Well-formed, and nothing a client may or would say."""
    options = TaskOptions("x", "q" * 300, 255)
    return [
        Credit(HUGE),
        Settled(HUGE, [Settlement("nobody", HUGE, Ending.SUCCEEDED)]),
        Released([("nobody", HUGE)], recall=True),
        GetFunction("f" * 255),
        Cancel(["nobody"] * 1000, True, "SIGNOTHING"),
        Query(HUGE, "no such thing", ["x"] * 100),
        Query(1, "states", ["nobody"]),
        Query(2, "purge", ["no such queue"]),
        Watch(["nobody"] * 1000),
        Unwatch(["nobody"] * 1000, forget=True),
        Submit(HUGE, [options], []),
        Submit(1, [options], [TaskSpec("same", 0, b"") for _ in range(3)]),
        Submit(2, [options], [TaskSpec("late", 0, b"\xff", eta=1e12, expires_at=0.0)]),
        Submit(2, [], [TaskSpec("none", 7, b"")]),
        PutFunction(FunctionCode("digest", "9.9", b"\0")),
        Heartbeat(1e12, HUGE),
        Bye("x" * 10_000),
    ]


def test_random_frames_are_counted_and_harm_nobody(cluster: Cluster, router: Node, rogue: Rogue) -> None:
    rng = random.Random(6)
    with served_meanwhile(cluster, router):
        for _ in range(10):
            rogue.send(rng.randbytes(100_000))
        for _ in range(300):
            rogue.send(*[rng.randbytes(rng.choice([0, 1, 16, 17, 300])) for _ in range(rng.choice([1, 1, 2, 9]))])
        template = bytes(encode(wrong_messages()[11], 1, 1)[0])
        for _ in range(300):
            changed = bytearray(template)
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
            rogue.send(bytes(changed))
        app = cluster.client()

        def garbage() -> int:
            rogue.pump()
            return int(app.status()["router"]["counters"]["garbage"])

        wait_until(lambda: garbage() > 100, 5.0, "they are counted, until it is cut off")


@pytest.mark.parametrize("role", [Role.CLIENT, Role.WORKER])
def test_wrong_messages_in_every_order_harm_nobody(cluster: Cluster, router: Node, rogue: Rogue, role: Role) -> None:
    rng = random.Random(7)
    with served_meanwhile(cluster, router):
        for _ in range(40):
            rogue.greet(Role.CLIENT)
            number = 0
            for message in rng.sample(wrong_messages(), k=rng.randint(1, 17)):
                number += rng.choice([1, 1, 1, 1, 1, 0, 2, HUGE])
                rogue.say(message, min(number, 2**63))
            rogue.say(hello(role), 0)  # doubled, and perhaps of a role that does not fit
            rogue.say(hello(Role.CLIENT, protocol=99), 0, session=rogue.session + 1)
            rogue.say(Heartbeat(), 1, session=2**32 - 1)
            rogue.session += 1
        app = cluster.client()
        app.status()


def test_another_version_of_the_protocol_is_refused_in_words(cluster: Cluster, router: Node, rogue: Rogue) -> None:
    envelope = bytearray(encode(hello(Role.CLIENT), 1, 0)[0])
    envelope[2] = 9
    rogue.send(bytes(envelope))
    rogue.receive(lambda: rogue.answers)
    assert "protocol 1, the other end 9" in router.text()
