"""When a node says HELLO, when it says that it lives, when it gives a session up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.sessions import Due, RouterSession
from mesh.model import Peer
from mesh.settings import Settings

SETTINGS = Settings(heartbeat_s=2.0, liveness=3, hello_retry_s=1.0)


def session() -> RouterSession:
    return RouterSession(Peer(b"r"), SETTINGS, 100.0)


def opened() -> RouterSession:
    one = session()
    one.due(100.0)
    one.welcome(100.0)
    return one


def test_hello_is_said_at_once_and_again_until_there_is_a_welcome() -> None:
    one = session()
    said = [at for at in (100.0, 100.5, 100.9, 101.0, 101.5, 102.0) if one.due(at) is Due.HELLO]
    assert said == [100.0, 101.0, 102.0]
    one.welcome(102.1)
    assert one.open
    assert one.due(103.1) is None


def test_an_open_session_is_given_a_heartbeat_in_time() -> None:
    one = opened()
    one.heard = 101.0
    assert one.deadline() == pytest.approx(101.8)
    assert one.due(101.7) is None
    assert one.due(101.8) is Due.HEARTBEAT
    assert one.due(101.9) is None


def test_a_router_silent_for_three_heartbeats_is_gone() -> None:
    one = opened()
    assert one.due(105.9) is Due.HEARTBEAT
    assert one.open
    assert one.due(106.0) is Due.HELLO
    assert not one.open


def test_a_refused_node_asks_again_much_later() -> None:
    one = session()
    one.due(100.0)
    one.refuse("no such role", 100.1)
    assert one.refused == "no such role"
    assert one.due(109.9) is None
    assert one.due(110.1) is Due.HELLO
    one.welcome(110.2)
    assert one.refused is None


steps = st.lists(
    st.tuples(st.floats(0, 5), st.sampled_from(["due", "welcome", "lose", "refuse", "heard"])), min_size=1, max_size=40
)


@given(steps)
def test_the_deadline_is_never_later_than_the_next_thing_to_do(story: list[tuple[float, str]]) -> None:
    one, now = session(), 100.0
    for pause, what in story:
        now += pause
        if what == "welcome":
            one.welcome(now)
        elif what == "lose":
            one.lose(now)
        elif what == "refuse":
            one.refuse("why", now)
        elif what == "heard":
            one.heard = now
        if one.due(now) is not None:
            assert one.due(now) is None, "said twice at once"
        deadline = one.deadline()
        assert deadline > now
        just_before = now + (deadline - now) * 0.99
        assert one.due(just_before) is None
        assert one.due(deadline) is not None
        now = deadline
