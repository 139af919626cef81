"""Real executor processes, driven through the pool as an agent does it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mesh.core.commands import GiveFunction, KillExecutor, ReclaimChunk, RunChunk, StartExecutor, StopExecutor
from mesh.core.events import (
    Event,
    ExecutorEnded,
    ExecutorFailed,
    ExecutorReclaimed,
    ExecutorSettled,
    ExecutorStarted,
)
from mesh.model import Blob, Delivery, Ending, Settlement
from mesh.runtime.pool import ExecutorPool
from mesh.settings import Settings
from mesh.wire.exceptions import rebuild_exception
from mesh.wire.functions import pack_function
from mesh.wire.payload import decode, encode_call
from tests.runtime.task_functions import call, named
from tests.runtime.watched import Watched

pytestmark = pytest.mark.processes

DEADLINE_S = 30.0

APP = """
import ctypes, logging, multiprocessing, os, signal, subprocess, sys, threading, time


class Function:
    def __init__(self, function):
        self.name = function.__name__
        self.function = function

    def execute(self, request, args, kwargs):
        return self.function(*args, **kwargs)


class App:
    main = "demo"

    def __init__(self):
        self.tasks = {}

    def task(self, function):
        self.tasks[function.__name__] = Function(function)
        return function


app = App()


@app.task
def noop():
    return None


@app.task
def echo(value):
    return value


@app.task
def fail():
    raise KeyError("missing")


@app.task
def generator():
    return (n for n in range(3))


@app.task
def sleep(seconds, path=None):
    if path:
        open(path, "w").close()
    time.sleep(seconds)
    return os.getpid()


@app.task
def die(number):
    os.kill(os.getpid(), number)
    time.sleep(30)


@app.task
def leave(code):
    os._exit(code)


@app.task
def talk():
    print("from print")
    sys.stderr.write("from stderr\\n")
    logging.getLogger("mine").info("from logging")
    os.write(1, b"from C\\n")
    sys.stdout.write("no newline")


@app.task
def hold_gil(seconds, path=None):
    if path:
        open(path, "w").close()
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))


@app.task
def start_child(path):
    child = subprocess.Popen(["sleep", "1000"])
    with open(path, "w") as file:
        file.write(str(child.pid))
    time.sleep(1000)


@app.task
def terminate_own_child():
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
    child.start()
    child.terminate()
    child.join(10)
    return child.exitcode


@app.task
def inherited_signals():
    code = "import signal; print(signal.getsignal(15) is signal.SIG_DFL, signal.getsignal(2) is signal.SIG_IGN)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()


@app.task
def write_nonsense():
    for fd in range(3, 50):
        try:
            if os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"):
                os.write(fd, b"\\x03\\0\\0\\0" + bytes(8) + b"???")
        except OSError:
            pass
    time.sleep(30)


@app.task
def leave_thread():
    threading.Thread(target=time.sleep, args=(1000,)).start()


@app.task
def loaded(names):
    return [name for name in names if name in sys.modules]
"""


class Node:
    """A pool and what it has told."""

    def __init__(self, directory: Path, app: str | None = "demo", **settings: Any) -> None:
        self.watched = Watched()
        self.pool = ExecutorPool(
            self.watched,
            app=app,
            worker_name="w1",
            settings=Settings().with_overrides(**settings),
            directory=str(directory),
        )
        self.events: list[Event] = []

    def start(self, number: int = 1) -> None:
        self.pool.apply(StartExecutor(number))
        self.wait_for(ExecutorStarted)

    def run(self, *deliveries: Delivery, names: list[str], number: int = 1) -> None:
        self.pool.apply(RunChunk(number, {i: named(name) for i, name in enumerate(names)}, list(deliveries)))

    def poll(self, timeout_s: float = 0.05) -> None:
        self.events += self.pool.events(self.watched.ready(timeout_s))

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, self.events
            self.poll()

    def wait_for(self, kind: type[Event]) -> Any:
        self.wait_until(lambda: any(isinstance(event, kind) for event in self.events))
        return next(event for event in self.events if isinstance(event, kind))

    @property
    def settlements(self) -> list[Settlement]:
        return [s for event in self.events if isinstance(event, ExecutorSettled) for s in event.settlements]

    def wait_settled(self, count: int) -> list[Settlement]:
        self.wait_until(lambda: len(self.settlements) >= count)
        return self.settlements

    def result(self, name: str, *args: Any) -> Any:
        before = len(self.settlements)
        self.run(call(f"result{before}", *args), names=[name])
        settlement = self.wait_settled(before + 1)[before]
        assert settlement.ending is Ending.SUCCEEDED, settlement
        return decode(settlement.payload)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "demo.py").write_text(APP)
    return tmp_path


@pytest.fixture
def node(directory: Path) -> Iterator[Node]:
    node = Node(directory)
    node.start()
    yield node
    node.pool.close(kill=True)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_executor_says_which_tasks_its_modules_define(node: Node) -> None:
    started = node.wait_for(ExecutorStarted)
    assert started.executor == 1
    assert {"noop", "echo"} <= set(started.tasks)


def test_an_executor_loads_nothing_it_does_not_need(node: Node) -> None:
    heavy = ["zmq", "zeroconf", "sqlite3", "sqlite_utils", "click", "rich", "asyncio", "mesh.api", "mesh.net"]
    assert node.result("loaded", heavy) == []


def test_many_small_tasks_pass_in_order(node: Node) -> None:
    for chunk in range(20):
        node.run(*[call(f"{chunk}.{i}", i) for i in range(200)], names=["echo"])
        node.wait_settled((chunk + 1) * 200)

    assert [s.id for s in node.settlements] == [f"{chunk}.{i}" for chunk in range(20) for i in range(200)]
    assert [decode(s.payload) for s in node.settlements] == list(range(200)) * 20


def test_exceptions_and_results_that_cannot_be_sent_are_failures(node: Node) -> None:
    node.run(call("a"), call("b", option=1), call("c", option=2), names=["fail", "generator", "noop"])

    failed, unsendable, fine = node.wait_settled(3)

    assert failed.error is not None
    assert isinstance(rebuild_exception(failed.error), KeyError)
    assert "in fail" in failed.error.traceback
    assert unsendable.error is not None
    assert "generator" in unsendable.error.message
    assert fine.ending is Ending.SUCCEEDED


@pytest.mark.parametrize(
    ("name", "argument", "cause"), [("die", 9, "SIGKILL"), ("die", 11, "SIGSEGV"), ("leave", 3, "exit code 3")]
)
def test_a_death_is_told_with_its_cause_after_what_was_finished_before(
    node: Node, name: str, argument: int, cause: str
) -> None:
    node.run(call("a", 1), call("b", 2), call("c", argument, option=1), call("d", 3), names=["echo", name])

    ended = node.wait_for(ExecutorEnded)

    assert ended == ExecutorEnded(1, cause)
    assert node.events[-1] is ended
    assert set(s.id for s in node.settlements) <= {"a", "b"}
    assert node.watched.fds == set()


def test_what_was_finished_long_before_a_death_is_told(node: Node) -> None:
    node.run(call("a", 1), call("b", 0.05, option=1), call("c", 9, option=2), names=["echo", "sleep", "die"])

    node.wait_for(ExecutorEnded)

    assert [s.id for s in node.settlements] == ["a", "b"]


def test_a_death_is_noticed_at_once(node: Node) -> None:
    pid = node.pool.pids()[1]
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    node.wait_for(ExecutorEnded)

    assert time.monotonic() - began < 0.5


def test_a_reclaim_is_answered_during_a_long_task(node: Node, tmp_path: Path) -> None:
    flag = tmp_path / "started"
    node.run(call("long", 1.0, str(flag), option=1), *[call(f"t{i}") for i in range(3)], names=["noop", "sleep"])
    node.wait_until(flag.exists)
    node.pool.apply(ReclaimChunk(1))

    assert node.wait_for(ExecutorReclaimed) == ExecutorReclaimed(1, ["t0", "t1", "t2"])
    assert not node.settlements, "the long task is still running"


def test_the_agent_is_not_held_up_by_a_task_that_holds_the_gil(node: Node, tmp_path: Path) -> None:
    flag = tmp_path / "started"
    node.run(call("gil", 0.3, str(flag)), names=["hold_gil"])
    node.wait_until(flag.exists)
    node.pool.apply(ReclaimChunk(1))
    longest = 0.0
    while len(node.settlements) < 1:
        began = time.monotonic()
        node.poll(timeout_s=0.01)
        longest = max(longest, time.monotonic() - began)

    assert longest < 0.25
    node.wait_for(ExecutorReclaimed)


def test_an_executor_is_killed_by_command_with_what_its_task_started(node: Node, tmp_path: Path) -> None:
    path = tmp_path / "child"
    node.run(call("t", str(path)), names=["start_child"])
    node.wait_until(lambda: path.exists() and path.read_text() != "")
    child = int(path.read_text())
    node.pool.apply(KillExecutor(1))

    assert node.wait_for(ExecutorEnded) == ExecutorEnded(1, "SIGKILL")
    wait_until(lambda: not is_alive(child))


def test_signals_meant_for_the_agent_leave_a_running_task_alone(node: Node, tmp_path: Path) -> None:
    flag = tmp_path / "started"
    node.run(call("long", 0.5, str(flag)), names=["sleep"])
    node.wait_until(flag.exists)
    pid = node.pool.pids()[1]
    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGINT)

    assert decode(node.wait_settled(1)[0].payload) == pid


def test_a_kill_by_a_signal_that_is_not_heeded_ends_after_a_grace(directory: Path, tmp_path: Path) -> None:
    node = Node(directory, kill_grace_s=0.2)
    node.start()
    flag = tmp_path / "started"
    node.run(call("long", 1000, str(flag)), names=["sleep"])
    node.wait_until(flag.exists)
    node.pool.apply(KillExecutor(1, "SIGTERM"))

    assert node.pool.next_deadline() is not None
    assert node.wait_for(ExecutorEnded) == ExecutorEnded(1, "SIGKILL")


def test_child_processes_of_tasks_heed_signals_as_usual(node: Node) -> None:
    assert node.result("terminate_own_child") == -signal.SIGTERM
    assert node.result("inherited_signals") == "True False"


def test_an_executor_stops_when_it_has_finished_what_it_has(node: Node) -> None:
    node.run(call("a", 0.1, option=1), call("b", 7), names=["echo", "sleep"])
    node.pool.apply(StopExecutor(1))

    assert node.wait_for(ExecutorEnded) == ExecutorEnded(1, "stopped")
    assert [s.id for s in node.settlements] == ["a", "b"]


def test_an_executor_that_sends_nonsense_ends_alone(node: Node) -> None:
    node.run(call("a"), call("b", 0.05, option=1), call("c", option=2), names=["noop", "sleep", "write_nonsense"])

    ended = node.wait_for(ExecutorEnded)

    assert ended.cause.startswith("unreadable frame: ")
    assert [s.id for s in node.settlements] == ["a", "b"], "what it said before counts"
    node.start(2)


def test_a_thread_that_a_task_left_behind_does_not_keep_a_stopped_executor(directory: Path) -> None:
    node = Node(directory, kill_grace_s=0.2)
    node.start()
    node.run(call("a"), call("b", 0.5, option=1), names=["leave_thread", "sleep"])
    node.pool.apply(StopExecutor(1))

    assert node.wait_for(ExecutorEnded) == ExecutorEnded(1, "stopped")
    assert [s.id for s in node.settlements] == ["a", "b"], "what it has is finished however long it takes"


def test_commands_for_an_executor_that_has_just_ended_are_nothing(node: Node) -> None:
    os.kill(node.pool.pids()[1], signal.SIGKILL)
    node.run(call("a"), names=["noop"])
    node.pool.apply(KillExecutor(1))
    node.wait_for(ExecutorEnded)

    node.run(call("b"), names=["noop"])
    node.pool.apply(ReclaimChunk(1))
    assert node.settlements == []


def test_executors_run_at_the_same_time_and_end_one_by_one(node: Node) -> None:
    node.pool.apply(StartExecutor(2))
    node.wait_until(lambda: len([e for e in node.events if isinstance(e, ExecutorStarted)]) == 2)
    pids = node.pool.pids()
    node.run(call("a", 0.2), names=["sleep"], number=1)
    node.run(call("b", 0.2), names=["sleep"], number=2)
    assert {decode(s.payload) for s in node.wait_settled(2)} == set(pids.values())

    os.kill(pids[1], signal.SIGKILL)
    assert node.wait_for(ExecutorEnded).executor == 1
    assert list(node.pool.pids()) == [2]


def test_large_payloads_go_both_ways(node: Node) -> None:
    data = os.urandom(20 << 20)
    settings = Settings()
    payload, parts = encode_call(
        (data,), {}, key="large", inline_max=settings.inline_bytes_max, total_max=settings.payload_bytes_max
    )
    node.pool.blobs_in["large"] = parts
    node.run(Delivery("t", 0, 1, payload), call("u", 1), names=["echo"])

    large, small = node.wait_settled(2)

    assert isinstance(large.payload, Blob)
    parts = node.pool.blobs_out[large.payload.key]
    assert decode(large.payload, parts) == data
    assert max(map(len, parts)) == 1 << 20, "they are as large as a frame on the wire may be"
    assert decode(small.payload) == 1


def test_a_lambda_is_shipped(directory: Path) -> None:
    node = Node(directory, app=None)
    node.start()
    code = pack_function(lambda n: n * n)
    node.pool.apply(GiveFunction(1, code))
    node.pool.apply(RunChunk(1, {0: named("lambda", function=code.digest)}, [call("t", 12)]))

    assert decode(node.wait_settled(1)[0].payload) == 144
    node.pool.close()


def test_what_tasks_print_and_log_is_in_the_nodes_log_with_their_names(
    directory: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    node = Node(directory)
    node.start()
    pid = node.pool.pids()[1]
    node.run(call("t1"), names=["talk"])
    node.wait_settled(1)
    node.pool.close()

    out, err = capfd.readouterr()
    assert f"WARNING executor[{pid}] talk[t1]: from print\n" in err
    assert f"WARNING executor[{pid}] talk[t1]: from stderr\n" in err
    assert f"INFO executor[{pid}] from logging\n" in err
    assert f"WARNING executor[{pid}] talk[t1]: no newline\n" in err
    assert out == "from C\n"


def test_a_module_that_cannot_be_imported_is_told_in_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import os\n\nimport no_such_library\n")
    node = Node(tmp_path, app="broken")
    node.pool.apply(StartExecutor(1))

    failed = node.wait_for(ExecutorFailed)
    node.wait_until(lambda: node.pool.pids() == {})

    assert "broken.py:3" in failed.reason
    assert "no_such_library" in failed.reason
    assert "\n" not in failed.reason
    assert node.events == [failed], "it is told once"


def test_an_executor_that_dies_while_it_loads_has_ended(tmp_path: Path) -> None:
    (tmp_path / "deadly.py").write_text("import os\nos.kill(os.getpid(), 11)\n")
    node = Node(tmp_path, app="deadly")
    node.pool.apply(StartExecutor(1))
    node.wait_for(ExecutorEnded)

    assert node.events == [ExecutorEnded(1, "SIGSEGV")]


def test_an_executor_that_is_not_ready_in_time_is_killed(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(1000)\n")
    node = Node(tmp_path, app="slow", executor_start_s=0.5)
    node.pool.apply(StartExecutor(1))

    assert "executor_start_s" in node.wait_for(ExecutorEnded).cause


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """Let this process open no more than so many files."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + count, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("left", [0, 2], ids=["no socket", "no process"])
def test_an_executor_that_cannot_be_started_has_ended(node: Node, left: int) -> None:
    with descriptors_left(left):
        node.pool.apply(StartExecutor(2))
    assert node.pool.next_deadline() == 0.0, "it is told at once"
    ended = node.wait_for(ExecutorEnded)
    assert ended.executor == 2 and ended.cause.startswith("cannot be started: ")
    node.pool.apply(RunChunk(2, {0: named("noop")}, [call("too late")]))
    assert list(node.pool.pids()) == [1]

    node.pool.apply(StartExecutor(2))
    node.wait_until(lambda: [type(event) for event in node.events].count(ExecutorStarted) == 2)


def test_a_directory_full_of_names_like_ours_does_no_harm(directory: Path) -> None:
    (directory / "nodes.py").write_text("raise RuntimeError('not this one')")
    (directory / "logging.py").write_text("raise RuntimeError('not this one')")
    node = Node(directory, app=None)
    node.start()
    node.pool.close()


@pytest.mark.chaos
@pytest.mark.parametrize("task", ["sleep", "hold_gil"])
def test_executors_are_gone_when_their_agent_is(directory: Path, task: str) -> None:
    agent = textwrap.dedent(
        f"""
        import select, sys, time
        from mesh.core.commands import RunChunk, StartExecutor
        from mesh.core.events import ExecutorStarted
        from mesh.runtime.pool import ExecutorPool
        from mesh.settings import Settings
        from tests.runtime.task_functions import call, named
        from tests.runtime.watched import Watched

        watched = Watched()
        pool = ExecutorPool(watched, app="demo", worker_name="w", settings=Settings(), directory={str(directory)!r})
        pool.apply(StartExecutor(1))
        while not any(isinstance(event, ExecutorStarted) for event in pool.events(watched.ready(1.0))):
            pass
        pool.apply(RunChunk(1, {{0: named({task!r})}}, [call("t", 1000)]))
        print(pool.pids()[1], flush=True)
        time.sleep(1000)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", agent], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    executor = int(process.stdout.readline())
    assert is_alive(executor)
    process.kill()
    process.wait()
    process.stdout.close()

    wait_until(lambda: not is_alive(executor))
