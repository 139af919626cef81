"""Numbered sessions: on any network messages are taken in order, at most once, and a gap ends the session."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mesh.core.events import MessageReceived
from mesh.core.links import OUTSIDE, NodeLinks, RouterLinks
from mesh.messages import Bye, Heartbeat, Hello, Message, Recall, Refuse, SayHello, Welcome
from mesh.model import Peer, Role

ROUTER, NODE = Peer(b"router"), Peer(b"node")
HELLO = Hello(Role.CLIENT, "n", "n", "3.11", "0")
WELCOME = Welcome("r", "r", "0", "memory")

copies = st.sampled_from([1, 1, 1, 0, 2])  # what becomes of a message
place = st.sampled_from([0, 0, 0, 1, 2])  # which of those under way comes next


def take(links: RouterLinks, session: int, number: int, message: Message) -> object:
    return links.take(NODE, session, number, message, None, None)


def opened() -> tuple[NodeLinks, RouterLinks]:
    node, router = NodeLinks(), RouterLinks("r1")
    stamp = node.stamp(ROUTER, HELLO)
    assert stamp == (1, OUTSIDE)
    assert take(router, *stamp, HELLO) == MessageReceived(NODE, HELLO)
    stamp = router.stamp(NODE)
    assert stamp == (1, OUTSIDE)
    assert node.take(ROUTER, *stamp, WELCOME) == MessageReceived(ROUTER, WELCOME)
    return node, router


Arrived = tuple[int, int, Message]


class BadNetwork(RuleBasedStateMachine):
    """Two ends that number what they say, and a network that loses, doubles and reorders it."""

    def __init__(self) -> None:
        super().__init__()
        self.node, self.router = NodeLinks(), RouterLinks("r1")
        self.up: list[Arrived] = []
        self.down: list[Arrived] = []
        self.said: dict[tuple[str, int], list[float]] = {}
        self.taken: dict[tuple[str, int], list[float]] = {}
        self.last = 0.0

    @staticmethod
    def note(book: dict[tuple[str, int], list[float]], way: str, session: int, message: Message) -> None:
        if isinstance(message, Heartbeat):
            book.setdefault((way, session), []).append(message.at)

    def next_message(self) -> Heartbeat:
        self.last += 1.0
        return Heartbeat(self.last)

    @rule(copies=copies)
    def node_says_hello(self, copies: int) -> None:
        stamp = self.node.stamp(ROUTER, HELLO)
        assert stamp is not None
        self.up += [(*stamp, HELLO)] * copies

    @rule(copies=copies)
    def node_speaks(self, copies: int) -> None:
        message = self.next_message()
        stamp = self.node.stamp(ROUTER, message)
        if stamp is not None:
            self.note(self.said, "up", stamp[0], message)
            self.up += [(*stamp, message)] * copies

    @rule(copies=copies)
    def router_speaks(self, copies: int) -> None:
        message = self.next_message()
        stamp = self.router.stamp(NODE)
        if stamp is not None:
            self.note(self.said, "down", stamp[0], message)
            self.down += [(*stamp, message)] * copies

    @precondition(lambda self: self.up)
    @rule(place=place, copies=copies)
    def router_hears(self, place: int, copies: int) -> None:
        session, number, message = self.up.pop(place % len(self.up))
        answer = take(self.router, session, number, message)
        if isinstance(answer, SayHello):
            assert self.router.stamp(NODE) is None, "the session goes on after a gap"
            self.down.append((session, OUTSIDE, answer))
        elif answer is not None and message is HELLO:
            stamp = self.router.stamp(NODE)
            assert stamp == (session, OUTSIDE)
            self.down += [(*stamp, WELCOME)] * copies
        elif answer is not None:
            self.note(self.taken, "up", session, message)

    @precondition(lambda self: self.down)
    @rule(place=place)
    def node_hears(self, place: int) -> None:
        session, number, message = self.down.pop(place % len(self.down))
        event = self.node.take(ROUTER, session, number, message)
        if event is None:
            return
        if event.message is message:
            self.note(self.taken, "down", session, message)
        else:
            assert event.message == SayHello()
            assert self.node.stamp(ROUTER, Bye()) is None, "the session goes on after a gap"

    @invariant()
    def each_end_has_taken_a_prefix_of_what_was_said_in_each_session(self) -> None:
        for key, messages in self.taken.items():
            assert messages == self.said[key][: len(messages)]


TestBadNetwork = BadNetwork.TestCase
TestBadNetwork.settings = settings(stateful_step_count=40)


def test_a_doubled_message_is_taken_once() -> None:
    node, router = opened()
    stamp = node.stamp(ROUTER, Bye())
    assert stamp == (1, 1)
    assert take(router, *stamp, Bye()) == MessageReceived(NODE, Bye())
    assert take(router, *stamp, Bye()) is None


def test_a_message_after_a_lost_one_ends_the_session_until_the_next_hello() -> None:
    node, router = opened()
    node.stamp(ROUTER, Bye("lost"))
    stamp = node.stamp(ROUTER, Bye("after it"))
    assert stamp is not None
    assert take(router, *stamp, Bye("after it")) == SayHello()
    assert router.stamp(NODE) is None
    stamp = node.stamp(ROUTER, HELLO)
    assert stamp == (2, OUTSIDE)
    assert take(router, *stamp, HELLO) == MessageReceived(NODE, HELLO)


def test_a_message_lost_on_the_way_to_the_node_is_seen_there_and_ends_the_session() -> None:
    node, router = opened()
    router.stamp(NODE)
    stamp = router.stamp(NODE)
    assert stamp is not None
    assert node.take(ROUTER, *stamp, Recall(1)) == MessageReceived(ROUTER, SayHello())
    assert node.stamp(ROUTER, Bye()) is None


def test_a_late_hello_of_an_earlier_session_opens_nothing() -> None:
    node, router = NodeLinks(), RouterLinks("r1")
    early, late = node.stamp(ROUTER, HELLO), node.stamp(ROUTER, HELLO)
    assert early is not None and late is not None
    assert take(router, *late, HELLO) == MessageReceived(NODE, HELLO)
    assert take(router, *early, HELLO) is None


def test_what_overtakes_the_welcome_ends_the_session() -> None:
    node, router = NodeLinks(), RouterLinks("r1")
    stamp = node.stamp(ROUTER, HELLO)
    assert stamp is not None
    take(router, *stamp, HELLO)
    router.stamp(NODE)  # of WELCOME, which is slow
    stamp = router.stamp(NODE)
    assert stamp is not None
    assert node.take(ROUTER, *stamp, Recall(1)) == MessageReceived(ROUTER, SayHello())


def test_a_refusal_may_stand_outside_the_count_and_work_may_not() -> None:
    node, _ = opened()
    refusal = Refuse("role", "no")
    assert node.take(ROUTER, 1, OUTSIDE, refusal) == MessageReceived(ROUTER, refusal)
    assert node.take(ROUTER, 1, OUTSIDE, Recall(1)) is None
    assert node.take(ROUTER, 7, OUTSIDE, refusal) is None, "of a session we do not have"


def test_a_node_without_a_session_can_neither_speak_nor_be_spoken_to() -> None:
    node, router = NodeLinks(), RouterLinks("r1")
    assert node.stamp(ROUTER, Bye()) is None
    assert router.stamp(NODE) is None
    assert node.take(ROUTER, 1, 1, Recall(1)) is None
    assert take(router, 1, 1, Bye()) == SayHello()


def test_the_event_carries_what_the_transport_knows_of_the_sender() -> None:
    event = RouterLinks("r1").take(NODE, 1, OUTSIDE, HELLO, b"raw", Role.ADMIN)
    assert event == MessageReceived(NODE, HELLO, b"raw", Role.ADMIN)
