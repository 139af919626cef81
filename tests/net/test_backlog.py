"""How far a connection is ahead of who reads it: its idle time hides no flood, and makes none of what is honest."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mesh.model import Role
from mesh.net.backlog import CHATTER_BYTES_PER_S, Backlog

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
