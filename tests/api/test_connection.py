"""What a connection does when there is no router, one that is full, one that goes away; at limits, forks and exits."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from importlib.metadata import version
from types import SimpleNamespace

import numpy
import pytest

from mesh import AsyncResult, ConfigError, Mesh, Overloaded, TimeoutError, Unavailable, UnknownTask
from mesh.core.events import TasksSubmitted
from mesh.errors import MeshError, Refused
from mesh.messages import Accepted, Bye, Heartbeat, Hello, Outcomes, Rejected, Reply, Unknown, Watch
from mesh.model import Outcome, TaskState
from mesh.runtime.depot import show_depot
from mesh.runtime.questions import STORY_S
from nodes.cli.invocation import Invocation
from nodes.cli.outcome import show_outcome
from tests.api.scripted_router import ScriptedRouter, accept, finish, ignore, overload
from tests.api.waiting import MeshWithMachine, wait_until

pytestmark = pytest.mark.usefixtures("short_polls")


def noop():
    return None


def read_only(size):
    """An array that is sent from where it lies, and so is held for as long as it may have to be sent again."""
    array = numpy.zeros(size, dtype=numpy.uint8)
    array.flags.writeable = False
    return array


def joined(router: ScriptedRouter, *, found: bool = True, **settings) -> Mesh:
    settings = {"exit_flush_s": 0.05, "heartbeat_s": 0.2, **settings}
    app = Mesh("c", **settings)
    router.join(app, found=found)
    return app


@pytest.fixture
def router():
    return ScriptedRouter()


# no router


def test_a_wait_without_a_router_says_what_was_tried(router):
    app = joined(router, found=False, connect_timeout_s=0.02)
    task = app.task(noop)
    result = task.delay()

    for wait in (
        result.get,
        app.flush,
        app.status,
        lambda: asyncio.run(_await(result)),
        lambda: next(app.as_completed([result])),
    ):
        with pytest.raises(Unavailable, match="the script and nothing else"):
            wait()
    with pytest.raises(TimeoutError, match="the script and nothing else"):
        task.delay().get(timeout=0.01)
    app.close()


async def _await(result):
    await result


def test_submits_wait_for_a_router_that_starts_later(router):
    app = joined(router, found=False, connect_timeout_s=0.05)
    results = [app.task(noop).delay() for _ in range(10)]
    with pytest.raises(Unavailable):
        results[0].get()
    router.is_found = True
    wait_until(lambda: app.connection.situation() == "connected to 1 router")

    assert app.gather(results, timeout=5) == [None] * 10
    app.close()


def test_a_refusal_is_told_to_whoever_waits(router):
    router.refusal = "you speak version 0"
    app = joined(router)

    with pytest.raises(Refused, match="version 0"):
        app.task(noop).delay().get(timeout=5)
    app.close()


def test_a_missing_key_is_told_to_whoever_waits(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("MESH_KEY", raising=False)
    app = Mesh("c", router="127.0.0.1:1", connect_timeout_s=0.2, exit_flush_s=0.01)
    with app:
        result = app.task(noop).delay()

        def is_told():
            with pytest.raises((TimeoutError, Unavailable)) as told:
                result.get(timeout=0.05)
            return "mesh join" in str(told.value)

        wait_until(is_told)  # before the first attempt to connect it is only said what was looked for


def test_a_client_has_the_version_that_is_installed(router):
    app = joined(router)
    app.task(noop).delay().get(timeout=5)
    assert router.messages[0].version == version("taskmesh")
    app.close()


# waits that run out


def _get_now(result):
    with pytest.raises(TimeoutError):
        result.get(timeout=0)


def test_a_router_that_says_nothing_of_a_task_does_not_hold_up_a_wait_that_ran_out(router):
    router.on_submit = accept
    app = joined(router)
    task = app.task(noop)
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="connected to 1 router") as caught:
        task.delay().get(timeout=0.01)
    assert time.monotonic() - began < STORY_S + 2
    assert caught.value.why == ""

    router.on_query = lambda query: [Reply(query.request, b'{"error": "unknown query \'story\'"}')]  # an older one
    with pytest.raises(TimeoutError, match="connected to 1 router"):
        task.delay().get(timeout=0.01)
    app.close()


def test_a_result_that_comes_while_it_is_asked_why_there_is_none_is_taken(router):
    router.on_submit = accept
    app = joined(router)
    result = app.task(noop).delay()
    router.on_query = lambda query: [
        Outcomes([Outcome(result.id, TaskState.SUCCEEDED)]),
        Reply(query.request, b'{"stories": {}}'),
    ]

    assert result.get(timeout=0.05) is None
    app.close()


@pytest.mark.parametrize(
    "story", ["it runs on worker w1 (attempt 1)", "it waits for a free worker (1 can run it); 1 task is before it", ""]
)
def test_a_wait_without_a_timeout_says_nothing_of_a_task_that_will_end(router, monkeypatch, caplog, story):
    monkeypatch.setattr("mesh.api.result.SILENT_WAIT_S", 0.01)
    asked = []

    def answer(query):
        asked.append(query.what)
        outcomes = [Outcomes([Outcome(result.id, TaskState.SUCCEEDED)])] if len(asked) == 3 else []
        return [Reply(query.request, json.dumps({"stories": {result.id: story}}).encode()), *outcomes]

    router.on_submit = accept
    router.on_query = answer
    app = joined(router)
    result = app.task(noop).delay()

    assert result.get() is None
    assert asked == ["story"] * 3 and not caplog.records
    app.close()


def test_without_a_router_nobody_is_asked_why_there_is_no_result(router, monkeypatch):
    app = joined(router, found=False)
    monkeypatch.setattr(app.connection.questions, "query", lambda *args: pytest.fail("there is nobody to ask"))

    with pytest.raises(TimeoutError, match="the script and nothing else"):
        app.task(noop).delay().get(timeout=0.01)
    app.close()


@pytest.mark.parametrize("look", [AsyncResult.ready, lambda result: result.state, _get_now])
def test_a_look_at_a_task_waits_for_one_router_at_the_most_once(router, monkeypatch, look):
    """The time it may take is over with the first answer, and the second never comes."""
    limit_s = 1_000.0
    late_s = [0.0]
    monkeypatch.setattr("mesh.api.app.time", SimpleNamespace(monotonic=lambda: time.monotonic() + late_s[0]))

    def answer_late(query):
        late_s[0] = limit_s
        return [Reply(query.request, b"{}")]

    router.on_query = answer_late
    app = joined(router, connect_timeout_s=limit_s)
    looking = threading.Thread(target=look, args=[app.AsyncResult("another's")], daemon=True)
    looking.start()
    wait_until(lambda: not looking.is_alive())
    app.close()


def test_a_command_asks_once_for_an_id_that_nobody_knows(router):
    asked = []

    def answer(query):
        asked.append(query.what)
        return [Reply(query.request, b"{}"), Unknown(["nobody's"])]

    router.on_query = answer
    app = joined(router)
    with pytest.raises(UnknownTask, match="nobody's"):
        show_outcome(Invocation(), app, "nobody's", 0.0, as_json=False, with_traceback=False)
    assert asked == ["states"]
    app.close()


# limits


@pytest.mark.parametrize("limit", [{"submit_tasks_max": 100}, {"submit_bytes_max": 400}])
def test_submit_blocks_at_its_limit_and_then_fails(router, limit):
    router.on_submit = ignore
    app = joined(router, submit_timeout_s=0.1, **limit)
    task = app.task(lambda text: None)
    wait_until(lambda: app.connection.situation() == "connected to 1 router")

    began = time.monotonic()
    with pytest.raises(Overloaded, match="wait to be accepted"):
        for _ in range(102):
            task.delay("four")
    assert time.monotonic() - began >= 0.1
    app.close()


@pytest.mark.parametrize("second", [200_000, 300_000])
def test_a_chosen_id_may_be_submitted_again_with_a_large_payload(router, second):
    router.on_submit = ignore
    app = joined(router)
    task = app.task(lambda data: None)
    sent = []
    for size in (200_000, second):
        array = read_only(size)
        sent.append(weakref.ref(array))
        task.apply_async([array], task_id="mine")
        count = len(router.submits) + 1
        wait_until(lambda count=count: len(router.submits) >= count)
    del array
    one, two = (submit.tasks[0].payload for submit in router.submits)
    router.say(Accepted([1]))
    router.on_submit = finish
    router.lose()
    router.come_back()  # the second is sent again, with its parts

    app.flush(5)
    assert one.key != two.key
    wait_until(lambda: not any(array() for array in sent))
    app.close()


def test_what_was_left_in_a_depot_and_not_spoken_of_is_taken_back_at_the_end(tmp_path):
    depot = tmp_path / "depot"
    depot.mkdir()
    router = ScriptedRouter(endpoint=f"ipc://{tmp_path}/router.ipc")
    show_depot(router.endpoint, depot)
    [marker] = depot.iterdir()
    app = joined(router)
    task = app.task(lambda data: None)
    task.delay(b"").get(5)
    held_up, closing = threading.Event(), threading.Event()
    left = []

    def hold_up(_router, _submit):
        held_up.set()
        assert closing.wait(5)
        left.extend(depot.iterdir())
        return []

    router.on_submit = hold_up
    task.delay(b"")
    assert held_up.wait(5)
    router.wake = closing.set
    task.delay(bytes(200_000))
    app.connection.close(flush_s=0.0)
    assert (len(left), list(depot.iterdir())) == (2, [marker])
    with pytest.raises(Unavailable):
        task.delay(bytes(200_000))
    assert list(depot.iterdir()) == [marker]


def test_an_answer_that_comes_when_nobody_waits_any_more_is_dropped(router):
    app = joined(router)
    app.task(noop).delay().get(5)

    class GivenUpMeanwhile(dict):
        """The loop looks for the query just before the one who waits gives it up."""

        def get(self, *arguments):
            found = super().get(*arguments)
            self.clear()
            return found

        def __contains__(self, request):
            return self.pop(request, self) is not self

    app.connection.questions._replies = replies = GivenUpMeanwhile({1: []})
    router.say(Reply(1, b"{}"))
    app.task(noop).delay().get(5)
    assert not replies
    app.close()


def test_a_rejected_batch_leaves_no_large_payload_behind(router):
    router.on_submit = lambda _, submit: [Rejected(submit.batch, "invalid", "no")]
    app = joined(router)
    array = read_only(200_000)
    sent = weakref.ref(array)
    result = app.task(lambda data: None).delay(array)
    del array

    with pytest.raises(MeshError, match="not accepted: no"):
        result.get(timeout=5)
    wait_until(lambda: sent() is None)
    app.close()


def test_submit_without_a_router_fails_at_its_limit_with_what_was_tried(router):
    app = joined(router, found=False, submit_timeout_s=0.05, submit_tasks_max=3)
    task = app.task(noop)

    with pytest.raises(Unavailable, match="the script and nothing else"):
        for _ in range(4):
            task.delay()
    app.close()


def test_a_blocked_submit_goes_on_when_there_is_room_again(router):
    app = joined(router, submit_tasks_max=50)
    task = app.task(noop)

    for _ in range(2_000):
        task.delay()
    app.flush(5)
    assert sum(len(submit.tasks) for submit in router.submits) == 2_000
    app.close()


def test_flush_tells_once_what_was_rejected(router, caplog):
    router.on_submit = overload
    app = joined(router, submit_timeout_s=0.1)
    results = [app.task(noop).delay() for _ in range(3)]

    with pytest.raises(Overloaded, match=r"3 tasks.*queue is full"):
        app.flush(5)
    app.flush(5)
    with pytest.raises(Overloaded, match="queue is full"):
        results[0].get(timeout=5)
    assert results[1].state == "REJECTED" and results[1].ready()
    assert "3 tasks were not accepted" in caplog.text
    app.close()


def test_flush_waits_for_what_was_submitted_before_it_only(router):
    router.on_submit = ignore
    app = joined(router)
    task = app.task(noop)
    task.delay()
    with pytest.raises(Unavailable, match="1 task is not accepted"):
        app.flush(0.05)

    stop = threading.Event()

    def submit_on_and_on():
        while not stop.is_set():
            task.delay()
            time.sleep(0.001)

    router.on_submit = accept
    router.lose()
    router.come_back()
    submitting = threading.Thread(target=submit_on_and_on)
    submitting.start()
    try:
        app.flush(5)
    finally:
        stop.set()
        submitting.join()
    app.close()


# loss


def test_what_was_not_accepted_is_sent_again_after_a_loss(router):
    router.on_submit = ignore
    app = joined(router)
    result = app.task(noop).delay()
    wait_until(lambda: len(router.submits) == 1)
    router.on_submit = finish
    router.lose()
    router.come_back()

    assert result.get(timeout=5) is None
    assert [s.repeated for s in router.submits] == [False, True]
    app.close()


def test_results_that_are_waited_for_are_asked_for_again_after_a_loss(router):
    router.on_submit = accept
    app = joined(router)
    kept, dropped = app.task(noop).delay(), app.task(noop).delay()
    app.flush(5)
    del dropped
    router.lose()
    router.come_back()
    wait_until(lambda: any(isinstance(m, Watch) for m in router.messages))
    router.say(Outcomes([Outcome(kept.id, TaskState.SUCCEEDED)]))

    assert kept.get(timeout=5) is None
    assert [m.ids for m in router.messages if isinstance(m, Watch)] == [[kept.id]]
    assert sum(isinstance(m, Hello) for m in router.messages) == 2
    app.close()


def test_a_lost_message_is_noticed_and_made_good(router):
    router.on_submit = accept
    app = joined(router)
    result = app.task(noop).delay()
    app.flush(5)
    router.lose_a_message()
    router.on_submit = finish
    router.say(Outcomes([]))
    wait_until(lambda: sum(isinstance(m, Hello) for m in router.messages) == 2)
    router.say(Outcomes([Outcome(result.id, TaskState.SUCCEEDED)]))

    assert result.get(timeout=5) is None
    app.close()


# clocks


def test_a_clock_that_differs_from_the_routers_is_said_once(router, caplog):
    app = joined(router)
    app.task(noop).delay().get(timeout=5)
    now = time.time()
    for ahead in (60.0, 0.0, 60.0, 60.0, 60.0, 0.0, 60.0, 60.0):
        router.say(Heartbeat(now + ahead, load=1))
    wait_until(lambda: "clock is" in caplog.text)
    app.task(noop).delay().get(timeout=5)
    app.close()
    said = [record.getMessage() for record in caplog.records if "clock is" in record.getMessage()]
    assert len(said) == 1 and "clock is 60 s behind its router's" in said[0]


def test_heartbeats_that_waited_behind_a_long_message_say_nothing_of_a_clock(router, caplog):
    app = joined(router)
    app.task(noop).delay().get(timeout=5)
    now = time.time()
    for waited in (9.0, 7.2, 5.4, 3.6, 1.8):
        router.say(Heartbeat(now - waited, load=1))
    app.task(noop).delay().get(timeout=5)
    app.close()
    assert "clock is" not in caplog.text


# the end


def test_closing_hands_over_what_is_submitted_and_says_goodbye(router):
    router.on_submit = accept
    app = joined(router, exit_flush_s=5.0)
    for _ in range(5_000):
        app.task(noop).delay()
    app.close()
    app.close()

    assert sum(len(submit.tasks) for submit in router.submits) == 5_000
    assert isinstance(router.messages[-1], Bye)
    with pytest.raises(ConfigError, match="closed"):
        app.task(noop).delay()


class ClosedMeanwhile(Mesh):
    """An app that another thread closes as soon as somebody has looked at its connection."""

    is_looked_at = False

    @property
    def open_connection(self):
        connection = self.held
        if self.is_looked_at and connection is not None:
            self.close()
        return connection

    @open_connection.setter
    def open_connection(self, connection):
        self.held = connection

    def close(self):
        self.is_looked_at = False
        super().close()


@pytest.mark.parametrize(
    "use", [Mesh.flush, Mesh.status, lambda app: app.send_task("any"), lambda app: app.AsyncResult("any").get()]
)
def test_who_uses_an_app_while_it_is_closed_is_told_so(router, use):
    app = ClosedMeanwhile("c")
    router.join(app)
    app.connection.flush(5)
    app.is_looked_at = True
    with pytest.raises((ConfigError, Unavailable), match="this app is closed"):
        use(app)


def test_closing_says_loudly_what_could_not_be_handed_over(router, caplog):
    router.on_submit = ignore
    app = joined(router)
    result = app.task(noop).delay()
    with caplog.at_level(logging.ERROR):
        app.close()

    assert "1 task was not accepted" in caplog.text and f"LOST ({noop.__module__}.noop {result.id})" in caplog.text
    with pytest.raises(Unavailable, match="closed"):
        result.get(timeout=5)


def test_closing_counts_also_what_is_just_handed_to_the_machine(router, caplog):
    router.on_submit = ignore
    app = MeshWithMachine("c", exit_flush_s=0.05)
    router.join(app)
    app.connection.flush(5)
    handle, entered, gate = app.machine.handle, threading.Event(), threading.Event()

    def handle_late(events, now):
        if any(isinstance(event, TasksSubmitted) for event in events):
            entered.set()
            gate.wait(10)
        return handle(events, now)

    app.machine.handle = handle_late
    app.task(noop).delay()
    assert entered.wait(5)
    closing = threading.Thread(target=app.close)
    closing.start()
    try:
        wait_until(lambda: "1 task was not accepted" in caplog.text)
    finally:
        gate.set()
        closing.join(5)


def test_closing_says_what_it_waits_for_when_it_takes_long(router, caplog, monkeypatch):
    monkeypatch.setattr("mesh.runtime.connection.SILENT_END_S", 0.01)
    router.on_submit = ignore
    app = joined(router, exit_flush_s=0.05)
    app.task(noop).delay()
    app.close()

    said = [record.getMessage() for record in caplog.records]
    assert said[0] == "waiting up to 0.05 s for a router to accept 1 task; Ctrl-C gives up"
    assert "LOST" in said[1]


def test_a_program_that_met_no_router_does_not_wait_for_one_beyond_the_time_to_connect(router, caplog, monkeypatch):
    monkeypatch.setattr("mesh.runtime.connection.SILENT_END_S", 0.01)
    app = joined(router, found=False, connect_timeout_s=0.1, exit_flush_s=600.0)
    for _ in range(20):
        app.task(noop).delay()
    app.close()  # ends long before the test's time is over

    last = caplog.records[-1].getMessage()
    assert "20 tasks were not accepted" in last and "no router answered" in last
    assert last.count(".noop ") == 10 and ", ...);" in last


def test_no_longer_wait_is_promised_at_the_end_than_there_is_hope_of_a_router(router, caplog, monkeypatch):
    monkeypatch.setattr("mesh.runtime.connection.SILENT_END_S", 0.01)
    app = joined(router, found=False, connect_timeout_s=0.01, exit_flush_s=600.0)
    app.task(noop).delay()
    with pytest.raises(Unavailable):
        app.status()  # by now nobody is to be expected
    app.close()
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("1 task was not accepted") and " and is LOST (" in said


def test_a_forked_child_has_a_connection_of_its_own(router):
    app = joined(router)
    app.task(noop).delay().get(timeout=5)
    parents = app.connection
    child = os.fork()
    if child == 0:
        parents.close()  # the parent's, not the child's: nothing happens
        os._exit(0 if app.open_connection is None else 1)
    _, status = os.waitpid(child, 0)

    assert status == 0
    assert app.connection is parents
    assert app.task(noop).delay().get(timeout=5) is None
    app.close()


SCRIPT = """
import os, sys
sys.path.insert(0, {root!r})
from mesh import Mesh
from tests.api.scripted_router import ScriptedRouter, accept
router = ScriptedRouter(accept)
app = Mesh("script")
router.join(app)

@app.task
def noop(): pass

def report():
    print(sum(len(s.tasks) for s in router.submits), flush=True)

import atexit
atexit.register(report)
{then}
"""


@pytest.mark.processes
@pytest.mark.parametrize(
    "then",
    [
        "for _ in range(3000): noop.delay()",
        "for _ in range(3000): noop.delay()\nraise SystemExit(0)",
        "import threading\nthreading.Thread(target=lambda: [noop.delay() for _ in range(3000)]).start()",
    ],
)
def test_an_interpreter_that_ends_hands_over_first(then):
    root = os.getcwd()
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(root=root, then=then)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (ended.stdout.strip(), ended.stderr, ended.returncode) == ("3000", "", 0)


UNANSWERED = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what runs in the background without it
router.on_submit = lambda *_: []
noop.delay()
"""


@pytest.mark.processes
def test_ctrl_c_during_the_wait_at_the_end_says_what_is_lost_and_nothing_else():
    environ = os.environ | {"MESH_EXIT_FLUSH_S": "60", "PYTHONUNBUFFERED": "1"}
    script = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(root=os.getcwd(), then=UNANSWERED)],
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with script:
        assert script.stderr is not None
        said = script.stderr.readline()
        script.send_signal(signal.SIGINT)
        rest = script.stderr.read()

    assert "waiting up to 60 s for a router to accept 1 task; Ctrl-C gives up" in said
    assert "1 task was not accepted" in rest and "LOST" in rest and rest.count("\n") == 1
    assert script.returncode == 0


def test_a_connection_whose_thread_fails_says_so(router, caplog):
    def explode(_router, _submit):
        raise RuntimeError("bug")

    router.on_submit = explode
    app = joined(router)
    result = app.task(noop).delay()

    with pytest.raises(Unavailable, match="bug"):
        result.get(timeout=5)
    with pytest.raises(Unavailable, match="bug"):
        app.task(noop).delay()
    assert "RuntimeError: bug" in caplog.text
    app.close()


def test_what_is_submitted_one_by_one_leaves_together(router, monkeypatch):
    router.on_submit = ignore
    app = joined(router, heartbeat_s=60.0)
    task = app.task(noop)

    def sleep(seconds):
        for _ in range(4):
            task.delay()

    with app:
        wait_until(lambda: app.connection._machine.home is not None)
        monkeypatch.setattr("mesh.runtime.connection.time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
        task.delay()
        wait_until(lambda: len(router.submits) == 1)
        task.delay()
        wait_until(lambda: len(router.submits) == 2)

    assert [len(submit.tasks) for submit in router.submits] == [1, 5]
