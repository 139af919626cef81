"""How far a connection is ahead of who reads it: its idle time hides no flood, and makes none of what is honest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.model import Role
from mesh.net.backlog import CHATTER_BYTES_PER_S, LIFE_BYTES, Backlog

LIMIT = 512 << 20
PONG_BYTES, PONG_S = 40, 2.0  # what answers a heartbeat of libzmq, and how often
LOOKS_S = 60.0  # apart at the most
TCP = 1

frame_sizes = st.lists(st.integers(0, 1 << 20), min_size=1, max_size=5)


class Connection:
    """What the kernel counts of one, beside what is made of it; ``now`` is its clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.received = 567  # its greeting
        self.backlog = Backlog(self.now)

    def bring(self, sizes: list[int], *, taken: bool) -> None:
        for size in sizes:
            self.received += size + (35 if size + 33 < 256 else 42)
        if taken:
            self.backlog.take([bytes(size) for size in sizes])

    def pass_s(self, seconds: float, *, answering: bool = True) -> None:
        """Nothing is said but answers to heartbeats, and it is looked at now and then."""
        looks = max(1, min(100, int(seconds / LOOKS_S)))
        for _ in range(looks):
            before = int(self.now / PONG_S)
            self.now += seconds / looks
            self.received += PONG_BYTES * (int(self.now / PONG_S) - before) * answering
            self.look()

    def grows(self) -> bool:
        return self.backlog.grows(self.received, self.now)

    def look(self) -> int:
        return self.backlog.unread(self.received, self.now)


@given(
    st.lists(st.one_of(st.floats(0.0, 1e8), frame_sizes, frame_sizes.map(tuple)), max_size=20),
    st.booleans(),
)
def test_what_is_unread_is_never_negative(steps, answering):
    connection = Connection()
    for step in steps:
        if isinstance(step, float):
            connection.pass_s(step, answering=answering)
        else:
            connection.bring(list(step), taken=isinstance(step, list))
        assert connection.look() >= 0


@given(st.floats(0.0, 1e8), st.booleans(), frame_sizes, st.floats(0.0, LOOKS_S))
def test_after_any_idle_time_a_flood_is_beyond_the_limit(idle_s, answering, spoken, flooded_s):
    connection = Connection()
    connection.bring(spoken, taken=True)
    connection.pass_s(idle_s, answering=answering)
    connection.now += flooded_s
    connection.received += LIMIT + int(flooded_s * CHATTER_BYTES_PER_S) + 2
    assert connection.look() > LIMIT


@given(st.floats(0.0, 1e8), st.lists(st.integers(0, 300), max_size=50), st.integers(0, LIMIT - 2_000))
def test_after_any_idle_time_an_honest_submit_stays_below_the_limit(idle_s, heartbeats, submitted):
    connection = Connection()
    for size in heartbeats:
        connection.bring([20, size], taken=True)
    connection.pass_s(idle_s)
    connection.received += submitted
    assert connection.look() <= submitted + 1_000


@given(st.lists(st.tuples(frame_sizes, st.floats(0.0, 10.0)), min_size=1, max_size=20))
def test_what_was_unread_for_a_while_makes_no_flood_smaller_once_it_is_taken(messages):
    connection = Connection()
    for sizes, seconds in messages:
        connection.bring(sizes, taken=False)
        connection.now += seconds
        connection.look()
        connection.backlog.take([bytes(size) for size in sizes])
    connection.look()
    connection.received += LIMIT
    assert connection.look() >= LIMIT


def weighed(connection: Connection) -> int:
    connection.now += 0.25
    return connection.backlog.weigh(connection.received, connection.now, LIMIT)


def test_who_is_far_ahead_with_small_frames_is_weighed_by_the_memory_they_take():
    connection = Connection()
    connection.bring([1 << 20] * 200, taken=True)  # large ones before hide nothing
    weighed(connection)
    connection.received += LIMIT // 4
    weights = []
    for _ in range(12):
        connection.backlog.take([b""] * 5_000)
        weights.append(weighed(connection))
    assert weights[0] < LIMIT < weights[-1]


@given(st.lists(st.integers(0, 300), max_size=1_000), st.integers(1, 3))
def test_a_large_message_that_arrives_behind_small_ones_is_not_taken_for_a_flood_of_them(small, looks):
    connection = Connection()
    connection.bring(small, taken=False)
    connection.received += 500 << 20
    for turn in range(looks):
        connection.backlog.take([bytes(size) for size in small[turn::looks]])
        assert weighed(connection) < LIMIT
    for _ in range(50):  # while the rest of it comes
        assert weighed(connection) < LIMIT


def test_large_messages_are_not_taken_for_a_flood_by_the_small_ones_between_them():
    connection = Connection()
    for _ in range(20):
        connection.bring([100] * 10, taken=False)
        connection.received += 300 << 20
        connection.backlog.take([bytes(100)] * 10)
        assert weighed(connection) < LIMIT
        connection.backlog.take([bytes(1 << 20)] * 299)
        assert weighed(connection) < LIMIT


@pytest.mark.processes
def test_who_is_read_is_not_cut_off_however_much_it_has_said(net):
    router, dealer = net.router(unread_bytes_max=64 << 10), net.dealer()
    peer = dealer.connect(router.endpoints[TCP], net.key, Role.CLIENT)
    net.until(lambda: net.of(dealer).connected, dealer, router)
    for said, size in enumerate((0, 1, 222, 223, 1_000) * 50):
        assert dealer.send(peer, [b"x", *[bytes(size)] * 50])
        net.until(lambda said=said: len(net.of(router).messages) > said, dealer, router)
    for _ in range(20):
        net.step(router, 0.03)  # it looks four times a second
    assert net.of(router).problems == [] and net.of(router).lost == []


@given(st.lists(st.floats(0.0, LOOKS_S), max_size=50))
def test_answers_to_heartbeats_are_no_part_of_a_message(pauses):
    connection = Connection()
    for pause in pauses:
        connection.pass_s(pause)
        assert not connection.grows(), "they are sent where the process hangs, too"


@given(st.floats(0.0, 600.0), st.integers(1, 300))
def test_a_message_that_comes_bit_by_bit_is_seen_to(idle_s, bits):
    connection = Connection()
    connection.bring([30], taken=True)
    connection.pass_s(idle_s)
    connection.grows()
    connection.bring([30], taken=True)  # its last heartbeat before
    assert not connection.grows(), "what is taken is heard of by itself"
    step = -(-LIFE_BYTES // bits) + int(CHATTER_BYTES_PER_S)
    seen = 0
    for _ in range(bits + 1):
        connection.now += 1.0
        connection.received += step
        seen += connection.grows()
    assert seen
    assert not connection.grows(), "nothing has come since"


@pytest.mark.processes
@pytest.mark.parametrize("to", ["router", "node"])
def test_a_message_of_which_a_part_has_come_tells_that_its_sender_lives(net, to):
    router, dealer = net.router(ipc=False), net.dealer()
    cable = net.cable(int(router.endpoints[0].rpartition(":")[2]), 1 << 20)
    up = dealer.connect(f"tcp://{cable.address}", net.key, Role.CLIENT)
    net.until(lambda: net.of(dealer).connected, dealer, router)
    assert dealer.send(up, [b"hello"])
    net.until(lambda: net.of(router).messages, dealer, router)
    down = net.of(router).messages[0][0]
    sender, receiver, there, here = (dealer, router, up, down) if to == "router" else (router, dealer, down, up)
    before = len(net.of(receiver).messages)
    assert sender.send(there, [b"large", *[bytes(1 << 20)] * 4])
    net.until(lambda: len(net.of(receiver).heard) > 2, dealer, router)
    assert set(net.of(receiver).heard) == {here}
    assert len(net.of(receiver).messages) == before and net.of(sender).heard == []
    cable.cut()
    net.until(lambda: cable.is_still, dealer, router)
    net.step(receiver, 0.3)  # what came before
    net.of(receiver).heard.clear()
    for _ in range(20):
        net.step(receiver, 0.03)  # it looks four times a second
    assert net.of(receiver).heard == [] and net.of(receiver).lost == []
