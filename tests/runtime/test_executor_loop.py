"""The executor's loop in a thread of this process, at the other end of a socket pair."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from mesh import Mesh
from mesh.model import Blob, Buffer, Delivery, Ending, Settlement
from mesh.runtime.executor_frames import (
    Chunk,
    Code,
    Done,
    FrameReader,
    FromAgent,
    FromExecutor,
    Ready,
    Reclaim,
    Reclaimed,
    Stop,
    blobs_of,
    decode_from_executor,
    encode_frame,
    send_blocking,
    split_buffers,
)
from mesh.runtime.executor_loop import ExecutorLoop
from mesh.runtime.registry import definitions
from mesh.wire.functions import pack_function
from mesh.wire.payload import decode, encode_call
from tests.runtime.task_functions import INLINE_MAX, TOTAL_MAX, Named, call, named, runner_of

DEADLINE_S = 10.0


class Agent:
    """The other end: sends frames, collects what comes back."""

    def __init__(self, *functions: Callable[..., object]) -> None:
        self.connection, theirs = socket.socketpair()
        self.gone = threading.Event()
        self.settlements: list[Settlement] = []
        self.frames: list[FromExecutor] = []
        self.blobs: dict[str, list[Buffer]] = {}
        self._reader = FrameReader(self.connection)
        self._executor = ExecutorLoop(theirs, runner_of(*functions), self.gone.set)
        self.thread = threading.Thread(target=self._executor.run, daemon=True)
        self.thread.start()

    def send(self, message: FromAgent, *parts: Buffer) -> None:
        send_blocking(self.connection, encode_frame(message, parts))

    def run(self, *deliveries: Delivery, names: list[str]) -> None:
        self.send(Chunk({i: named(name) for i, name in enumerate(names)}, list(deliveries)))

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, (self.frames, self.settlements)
            select.select([self.connection], [], [], 0.05)
            for envelope, raw in self._reader.read():
                frame = decode_from_executor(envelope)
                self.frames.append(frame)
                if isinstance(frame, Done):
                    self.settlements += frame.settlements
                    blobs = list(blobs_of(frame.settlements))
                    self.blobs.update(zip([b.key for b in blobs], split_buffers(raw, blobs)))

    def wait_settled(self, count: int) -> list[Settlement]:
        self.wait_for(lambda: len(self.settlements) >= count)
        return self.settlements

    def wait_reclaimed(self) -> list[str]:
        self.wait_for(lambda: any(isinstance(f, Reclaimed) for f in self.frames))
        return next(f.ids for f in self.frames if isinstance(f, Reclaimed))


def add(x: int, y: int) -> int:
    return x + y


@pytest.fixture
def hold() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_it_says_what_it_can_run_when_it_is_ready() -> None:
    agent = Agent(add)
    agent.wait_for(lambda: bool(agent.frames))
    assert agent.frames == [Ready(["add"])]


def test_it_says_how_its_tasks_are_defined() -> None:
    app = Mesh("defined")
    app.task(name="plain")(add)
    app.task(name="limited", time_limit=5)(add)
    app.task(name="once", acks_late=False)(add)
    assert definitions({**app.tasks, "not ours": Named("not ours", add)}) == ({"limited": 5.0}, ["once"])
    app.conf.update(task_time_limit=60, task_acks_late=False)
    assert definitions(app.tasks) == ({"plain": 60.0, "limited": 5.0, "once": 60.0}, ["limited", "once", "plain"])


def test_a_chunk_is_settled_in_its_order_by_one_frame() -> None:
    agent = Agent(add)
    agent.run(*[call(f"t{i}", i, 1) for i in range(200)], names=["add"])

    settled = agent.wait_settled(200)

    assert [s.id for s in settled] == [f"t{i}" for i in range(200)]
    assert [decode(s.payload) for s in settled] == [i + 1 for i in range(200)]
    assert len([f for f in agent.frames if isinstance(f, Done)]) < 20


def test_what_is_finished_does_not_wait_behind_a_long_task(hold: threading.Event) -> None:
    agent = Agent(add, hold.wait)
    agent.run(call("tiny", 1, 2), call("long", 30.0, option=1), names=["add", "wait"])

    assert [s.id for s in agent.wait_settled(1)] == ["tiny"]
    hold.set()
    assert [s.id for s in agent.wait_settled(2)] == ["tiny", "long"]


def test_a_reclaim_gives_back_what_was_not_started_in_its_order(hold: threading.Event) -> None:
    started = threading.Event()

    def block() -> None:
        started.set()
        hold.wait(30)

    agent = Agent(add, block)
    agent.run(call("long", option=1), *[call(f"t{i}", i, i) for i in range(5)], names=["add", "block"])
    assert started.wait(DEADLINE_S)
    agent.send(Reclaim())

    assert agent.wait_reclaimed() == ["t0", "t1", "t2", "t3", "t4"]
    hold.set()
    assert [s.id for s in agent.wait_settled(1)] == ["long"]
    agent.run(call("next", 1, 1), names=["add"])
    assert [s.id for s in agent.wait_settled(2)] == ["long", "next"], "what was given back is not run"


def test_an_idle_executor_answers_a_reclaim_with_nothing() -> None:
    agent = Agent(add)
    agent.send(Reclaim())
    assert agent.wait_reclaimed() == []


def test_each_task_is_either_settled_or_given_back_when_a_reclaim_races_with_the_end() -> None:
    agent = Agent(add)
    for round_number in range(50):
        agent.frames.clear()
        agent.settlements.clear()
        ids = [f"r{round_number}.{i}" for i in range(40)]
        agent.run(*[call(task_id, 1, 1) for task_id in ids], names=["add"])
        agent.send(Reclaim())
        back = agent.wait_reclaimed()
        agent.wait_settled(len(ids) - len(back))
        assert [s.id for s in agent.settlements] + back == ids


def test_what_is_finished_is_told_before_a_reclaim_is_answered(hold: threading.Event) -> None:
    """The answer may come while ``ask`` still runs, before ``block`` has begun, or while that runs."""

    def finish() -> None:
        time.sleep(0.01)  # long enough for the courier to stand in

    def ask() -> None:
        agent.send(Reclaim())

    def block() -> None:
        hold.wait(30)

    agent = Agent(finish, ask, block, add)
    for number in range(10):
        hold.clear()
        agent.frames.clear()
        agent.settlements.clear()
        ids = ["finish", "ask", "block", "t"]
        tasks = [call("finish"), call("ask", option=1), call("block", option=2), call("t", 1, 1, option=3)]
        agent.run(*tasks, names=["finish", "ask", "block", "add"])

        back = agent.wait_reclaimed()
        answered_at = agent.frames.index(Reclaimed(back))
        before = [s.id for f in agent.frames[:answered_at] if isinstance(f, Done) for s in f.settlements]
        running = [i for i in ids if i not in before and i not in back]
        assert [*before, *running, *back] == ids, number
        assert len(running) <= 1 and before[:1] == ["finish"] and back[-1:] == ["t"], (number, before, back)
        hold.set()
        agent.wait_settled(len(ids) - len(back))
        assert [s.id for s in agent.settlements] + back == ids, number


def test_stop_lets_it_finish_what_it_has(hold: threading.Event) -> None:
    agent = Agent(add, hold.wait)
    agent.run(call("long", 30.0, option=1), call("t", 1, 2), names=["add", "wait"])
    agent.send(Stop())
    hold.set()

    assert [s.id for s in agent.wait_settled(2)] == ["long", "t"]
    agent.thread.join(DEADLINE_S)
    assert not agent.thread.is_alive()


def test_it_notices_that_its_agent_is_gone_even_while_a_task_runs(hold: threading.Event) -> None:
    agent = Agent(hold.wait)
    agent.run(call("long", 30.0), names=["wait"])
    agent.connection.close()

    assert agent.gone.wait(DEADLINE_S)


def test_large_arguments_and_results_travel_in_parts() -> None:
    def twice(data: bytes) -> bytes:
        return data * 2

    agent = Agent(twice)
    data = bytes(range(256)) * 2_000
    payload, parts = encode_call((data,), {}, key="t", inline_max=INLINE_MAX, total_max=TOTAL_MAX)
    agent.send(Chunk({0: named("twice")}, [Delivery("t", 0, 1, payload), call("u", b"ab")]), *parts)

    large, small = agent.wait_settled(2)

    assert isinstance(large.payload, Blob)
    assert decode(large.payload, agent.blobs[large.payload.key]) == data * 2
    assert decode(small.payload) == b"abab"


def test_shipped_code_comes_before_the_chunk_that_needs_it() -> None:
    agent = Agent()
    code = pack_function(lambda n: n + 1)
    agent.send(Code(code))
    agent.send(Chunk({0: named("f", function=code.digest)}, [call("t", 1)]))

    assert [(s.ending, decode(s.payload)) for s in agent.wait_settled(1)] == [(Ending.SUCCEEDED, 2)]
