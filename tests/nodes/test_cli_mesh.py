"""The ``mesh`` command against real nodes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from mesh.errors import StoreDamaged
from mesh.net.keys import new_key
from nodes.cli.main import main
from tests.cluster import APP, REPOSITORY, Cluster, Node, send, wait_until

pytestmark = pytest.mark.processes

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs ``mesh ARGUMENTS`` in this process, as a client of the cluster: exit code, output, errors."""
    for name in [name for name in os.environ if name.startswith("MESH_") and name not in cluster.environ]:
        monkeypatch.delenv(name)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(list(arguments))
        captured = capfd.readouterr()
        return code, captured.out.strip(), captured.err.strip()

    return run


def status(run: Run) -> dict[str, Any]:
    code, out, err = run("status", "--json")
    assert (code, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found


def queue(run: Run, name: str) -> dict[str, Any]:
    rows = {row["name"]: row for row in status(run)["queues"]}
    found: dict[str, Any] = rows.get(name, {})
    return found


def fails(*arguments: str, cluster: Cluster) -> tuple[int, str]:
    """Run ``mesh ARGUMENTS`` as a process of its own that is to end by itself: exit code, errors."""
    done = subprocess.run(
        [sys.executable, "-m", "nodes", *arguments],
        cwd=REPOSITORY,
        env=cluster.environ,
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.returncode, done.stderr


def test_call_prints_the_id_and_result_the_result(cluster: Cluster, run: Run) -> None:
    cluster.router()
    cluster.worker("w")
    code, task_id, _ = run("call", f"{APP}.echo", "-a", '["hello"]')
    assert code == 0
    assert run("result", task_id) == (0, "hello", "")
    answer = json.loads(run("result", task_id, "--json")[1])
    assert (answer["state"], answer["result"], answer["error"]) == ("SUCCESS", "hello", None)
    assert answer["worker"].startswith("w@")


def test_a_wrong_key_is_one_line_and_exit_code_2(cluster: Cluster, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    router = cluster.router()
    wait_until(lambda: "; store" in router.text(), 10.0, "its line is whole")
    endpoint = next(word.strip(",;") for word in router.text().split() if word.startswith("tcp://"))
    monkeypatch.setenv("MESH_KEY", new_key().text)

    code, _, err = run("status", "--router", endpoint)

    errors = [line for line in err.splitlines() if line.startswith("mesh: error")]  # a log may be there beside it
    assert (code, len(errors)) == (2, 1), err
    assert "key" in errors[0]


def test_call_can_wait_for_the_result(cluster: Cluster, run: Run) -> None:
    cluster.router()
    cluster.worker("w")
    assert run("call", f"{APP}.echo", "-k", '{"value": [1, 2]}', "--wait") == (0, "[1, 2]", "")
    assert json.loads(run("call", f"{APP}.echo", "-a", "[7]", "--wait", "--json")[1])["result"] == 7


def test_a_task_that_failed_is_one_line_and_exit_code_1(cluster: Cluster, run: Run) -> None:
    cluster.router()
    cluster.worker("w")
    code, out, err = run("call", f"{APP}.fail", "-a", '["value"]', "--wait")
    assert (code, out) == (1, "")
    assert err.startswith("mesh: error: task ") and err.count("\n") == 0
    assert "ValueError" in err and "no such value" in err
    task_id = run("call", f"{APP}.fail", "-a", '["value"]')[1]
    code, _, err = run("result", task_id, "--traceback")
    assert code == 1
    assert err.startswith("Traceback") and "cluster_tasks.py" in err
    code, out, err = run("result", task_id, "--json")
    assert (code, err) == (1, "")
    assert json.loads(out)["error"]["type"] == "ValueError"


@pytest.mark.parametrize("size", [100_000, 5_000_000])
def test_a_result_whose_file_was_changed_is_no_success(cluster: Cluster, run: Run, size: int) -> None:
    cluster.router()
    cluster.worker("w")
    result = send(cluster.client(), "echo", "x" * size)
    assert len(result.get(10.0)) == size
    for file in Path(f"{cluster.store}.blobs").iterdir():
        if not file.stat().st_size:  # the mark by which the router's depot is known
            continue
        with file.open("r+b") as content:
            content.seek(-1, os.SEEK_END)
            content.write(b"?")
    code, out, err = run("result", result.id)
    assert (code, out) == (1, "")
    assert err.startswith("mesh: error: ") and result.id in err and err.count("\n") == 0
    assert "is not what was written" in err
    code, out, err = run("result", result.id, "--json")
    answer = json.loads(out)
    assert (code, err, answer["result"]) == (1, "", None)
    assert (
        answer["error"]["type"] == "mesh.errors.StoreDamaged"
        and "is not what was written" in answer["error"]["message"]
    )


def test_an_error_that_a_task_returns_is_its_result(cluster: Cluster, run: Run) -> None:
    cluster.router()
    cluster.worker("w")
    result = send(cluster.client(), "echo", StoreDamaged("returned"))
    assert run("result", result.id) == (0, "StoreDamaged('returned')", "")


@pytest.mark.parametrize(("grace_s", "patience_s"), [(0.1, 3.0), (600.0, 3.0), (600.0, 0.1)])
def test_an_unknown_id_is_one_line_and_exit_code_1(
    cluster: Cluster, run: Run, monkeypatch: pytest.MonkeyPatch, grace_s: float, patience_s: float
) -> None:
    cluster.router()
    monkeypatch.setenv("MESH_UNKNOWN_GRACE_S", str(grace_s))
    monkeypatch.setattr("nodes.cli.outcome.PATIENCE_S", patience_s)
    for timeout in ([], ["--timeout", "0.2"], ["--timeout", "0"])[grace_s > 1.0 :]:
        code, out, err = run("result", "nobody-knows", *timeout)
        assert (code, out) == (1, ""), timeout
        assert err.startswith("mesh: error: ") and "nobody-knows" in err and err.count("\n") == 0


def test_cancel_tells_apart_what_becomes_of_each_id(
    cluster: Cluster, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodes.cli.cancel.CONFIRM_S", 0.5)  # each waits that long for the one that runs
    cluster.router()
    app = cluster.client()
    waits, over = send(app, "work", 1, queue="later"), send(app, "nothing", queue="later", expires=0.05)
    cluster.worker("w")
    done, failed, runs = send(app, "echo", 1), send(app, "fail", "key"), send(app, "work", 2, 600.0)
    wait_until(lambda: {done.state, failed.state, over.state} == {"SUCCESS", "FAILURE", "REVOKED"}, 10.0, "they end")
    wait_until(cluster.runs, 10.0, "one runs")
    words = {
        "nobody": "is known to nobody: it was never accepted, or its result is kept no longer",
        done.id: "is finished already: SUCCESS",
        failed.id: "is finished already: FAILURE",
        runs.id: "runs already: it is left alone without --terminate",
        "nobody-else": "is known to nobody: it was never accepted, or its result is kept no longer",
    }
    good = {waits.id: "cancelled", over.id: "was not started in time: it has expired"}
    for _ in range(2):  # to ask again changes nothing
        code, out, err = run("cancel", *words, *good)
        assert code == 1
        assert err.splitlines() == [f"{task_id} {text}" for task_id, text in words.items()]
        assert out.splitlines() == [f"{task_id} {text}" for task_id, text in good.items()]
    code, out, _ = run("cancel", "--json", *words, *good)
    assert code == 1
    assert [*json.loads(out).values()] == ["UNKNOWN", "SUCCESS", "FAILURE", "RECEIVED", "UNKNOWN", "REVOKED", "REVOKED"]
    assert run("cancel", *good)[0] == 0
    assert run("cancel", "nobody")[0] == run("cancel", done.id)[0] == run("cancel", runs.id)[0] == 1


def test_a_result_that_is_not_there_in_time_is_exit_code_3(cluster: Cluster, run: Run) -> None:
    cluster.router()
    task_id = run("call", f"{APP}.nothing")[1]
    code, out, err = run("result", task_id, "--timeout", "0.2")
    assert (code, out) == (3, "")
    assert err == f"mesh: error: no result of task {task_id} after 0.2 s: it waits: no worker is connected (start one)"


def test_a_wait_that_is_interrupted_leaves_the_task_and_says_its_id(cluster: Cluster, run: Run) -> None:
    cluster.router()
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); from nodes.cli.main import main"
    )
    call = subprocess.Popen(
        [sys.executable, "-c", f"{code}; sys.exit(main(['call', '{APP}.nothing', '--task-id', 'left', '--wait']))"],
        cwd=REPOSITORY,
        env=cluster.environ,
        stderr=subprocess.PIPE,
        text=True,
    )
    with call:
        wait_until(lambda: queue(run, "default").get("parked"), 10.0, "the task is accepted")
        call.send_signal(signal.SIGINT)
        assert call.stderr is not None
        said = call.stderr.read()
    said = said.strip()
    assert said == "mesh: note: task left is not cancelled: `mesh --mesh t result left`, `mesh --mesh t cancel left`"
    assert call.returncode == 130


def test_a_wait_that_gets_long_is_explained_once_and_again_at_its_end(
    cluster: Cluster, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.router()
    monkeypatch.setattr("nodes.cli.outcome.PATIENCE_S", 0.1)
    code, out, err = run("call", "no.such", "--queue", "nowhere", "--wait", "--timeout", "0.3")
    assert (code, out) == (3, "")
    note, error = err.splitlines()
    why = "it waits: no worker is connected (start one)"
    assert note.startswith("mesh: note: task ") and note.endswith(f" is not finished yet: {why}")
    assert error.startswith("mesh: error: task ") and error.endswith(f" is not finished after 0.3 s: {why}")


def test_a_call_that_a_full_router_refuses_says_why(
    cluster: Cluster, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.router(queued_tasks_max=1)
    monkeypatch.setenv("MESH_SUBMIT_TIMEOUT_S", "0.2")
    monkeypatch.setattr("nodes.cli.call.LAST_ANSWER_S", 60.0)  # it is not waited for: the reason is there before
    assert run("call", f"{APP}.nothing")[0] == 0
    code, out, err = run("call", f"{APP}.nothing", "--task-id", "mine")
    assert (code, out, err.count("\n")) == (3, "", 0)
    assert err.startswith("mesh: error: task mine: ") and "queued; the limit is 1" in err
    assert err.endswith("; it will not run")


def test_a_look_at_a_result_does_not_wait(cluster: Cluster, run: Run) -> None:
    cluster.router()
    task_id = run("call", f"{APP}.echo", "-a", "[5]")[1]
    code, out, err = run("result", task_id, "--timeout", "0")
    assert (code, out, err) == (
        3,
        "",
        f"mesh: error: task {task_id} is not finished: it waits: no worker is connected (start one)",
    )
    cluster.worker("w")
    assert run("result", task_id) == (0, "5", "")
    assert run("result", task_id, "--timeout", "0") == (0, "5", "")
    code, out, err = run("result", "nobody-knows", "--timeout", "0")
    assert (code, out) == (1, "")
    assert "no router knows task nobody-knows" in err


def test_a_call_with_wrong_arguments_is_one_line_where_the_app_is_known(cluster: Cluster, run: Run) -> None:
    cluster.router()
    code, _, err = run("-A", APP, "call", f"{APP}.echo", "-a", "[1, 2, 3]")
    assert code == 2
    assert err.startswith("mesh: error: ") and err.count("\n") == 0


def test_a_call_may_have_a_time_to_come_and_a_queue(cluster: Cluster, run: Run) -> None:
    cluster.router()
    run("call", f"{APP}.nothing", "--countdown", "1000", "--queue", "later")
    assert wait_until(lambda: queue(run, "later"), 5.0)["scheduled"] == 1
    run("call", f"{APP}.nothing", "--eta", "2099-01-01T00:00:00+00:00", "--queue", "later")
    assert wait_until(lambda: queue(run, "later")["scheduled"] == 2, 5.0)
    task_id = run("call", f"{APP}.nothing", "--queue", "later", "--expires", "0.1")[1]
    assert wait_until(lambda: json.loads(run("result", task_id, "--json")[1])["state"] == "REVOKED", 5.0)


def second_router(cluster: Cluster) -> Node:
    """Another router of the mesh, with a store of its own and an address that can be typed."""
    node = cluster.start("second", "router", "--listen", "127.0.0.1:*", store=f"sqlite://{cluster.place / 'second.db'}")
    cluster.wait_up(node)
    return node


def record_of(cluster: Cluster, node: Node) -> dict[str, Any]:
    """What a router says of itself in the runtime directory."""
    records: list[dict[str, Any]] = [json.loads(path.read_text()) for path in (cluster.place / "r").glob("*.json")]
    return next(record for record in records if record["pid"] == node.pid)


def test_status_has_a_line_for_each_router_of_the_mesh_and_what_they_have_in_all(
    cluster: Cluster, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESH_KEY", new_key().text)
    cluster.environ["MESH_KEY"] = os.environ["MESH_KEY"]
    first, second = cluster.router(), second_router(cluster)
    records = [record_of(cluster, node) for node in (first, second)]
    for record, count in zip(records, (3, 4), strict=True):
        app = cluster.client()
        app.routers = [record["ipc"]]
        for n in range(count):
            send(app, "echo", n, countdown=600)
        app.flush(timeout=10.0)
    wait_until(lambda: status(run)["totals"]["tasks"] == 7, 20.0, "each router has its tasks")
    cluster.worker("w")
    wait_until(lambda: [row["workers"] for row in status(run)["routers"]] == [1, 1], 20.0, "both have the worker")
    found = status(run)
    assert {(row["id"], row["tasks"]) for row in found["routers"]} == {
        (record["router_id"], count) for record, count in zip(records, (3, 4), strict=True)
    }
    assert all(row["answers"] and row["durability"] and row["version"] for row in found["routers"])
    assert found["totals"] == {"routers": 2, "answering": 2, "tasks": 7, "workers": 1}
    _, text, _ = run("status")
    assert "all 2 routers: 7 unfinished, 1 worker\n" in text
    lines = [line for record in records for line in text.splitlines() if record["router_id"][:8] in line]
    assert len(lines) == 2
    code, out, _ = run("status", "--json", "--router", records[1]["tcp"].removeprefix("tcp://"))
    named = json.loads(out)
    assert (code, named["router"]["id"], named["totals"]["routers"]) == (0, records[1]["router_id"], 1)


@pytest.mark.chaos
def test_status_says_which_router_does_not_answer_and_shows_the_others(cluster: Cluster, run: Run) -> None:
    second = second_router(cluster)
    first = cluster.router()
    records = {node: record_of(cluster, node) for node in (first, second)}
    second.stop()
    found = status(run)
    assert found["router"]["id"] == records[first]["router_id"]
    assert {(row["id"], row["answers"], row["tasks"]) for row in found["routers"]} == {
        (records[first]["router_id"], True, 0),
        (records[second]["router_id"], False, None),
    }
    assert found["totals"] == {"routers": 2, "answering": 1, "tasks": 0, "workers": 0}
    _, text, _ = run("status")
    assert "1 of them does not answer" in text
    [line] = [line for line in text.splitlines() if records[second]["router_id"][:8] in line]
    assert line.endswith("does not answer")


def test_status_shows_workers_queues_and_why_tasks_are_parked(cluster: Cluster, run: Run) -> None:
    cluster.router()
    cluster.worker("w", slots=2)
    run("call", "no.such.task")
    run("call", f"{APP}.nothing", "--queue", "empty")
    found = status(run)
    assert found["mesh"] == "t"
    assert found["rates"].keys() == {"accepted_per_s", "finished_per_s"}
    assert [(row["name"].split("@")[0], row["slots"]) for row in found["workers"]] == [("w", 2)]
    assert queue(run, "default")["parked"] == 1
    code, text, _ = run("status")
    assert code == 0
    assert "knows task 'no.such.task'" in text
    assert "no worker serves queue 'empty'" in text


def test_purge_cancels_what_waits_in_the_queues_named(cluster: Cluster, run: Run) -> None:
    cluster.router()
    kept = run("call", f"{APP}.nothing", "--queue", "kept")[1]
    for _ in range(3):
        run("call", f"{APP}.nothing", "--queue", "gone")
    assert run("purge", "-Q", "gone", "-f") == (0, "3 tasks cancelled", "")
    assert run("purge", "-Q", "gone", "--json")[1] == '{"purged": 0}'
    assert queue(run, "kept")["parked"] == 1
    assert run("cancel", kept) == (0, f"{kept} cancelled", "")


def test_purge_asks_first(cluster: Cluster, run: Run) -> None:
    def purge(answer: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "nodes", "purge"],
            input=answer,
            cwd=REPOSITORY,
            env=cluster.environ,
            capture_output=True,
            text=True,
            timeout=30,
        )

    cluster.router()
    run("call", f"{APP}.nothing")
    for answer, code in (("n\n", 130), ("\n", 130), ("", 2)):
        refused = purge(answer)
        assert "Cancel 1 task waiting in all queues?" in refused.stderr
        assert (refused.returncode, refused.stdout) == (code, "")
        assert queue(run, "default")["parked"] == 1
    assert refused.stderr.splitlines()[1:] == [
        "mesh: error: nobody answers on standard input: use --force, which does not ask; see `mesh purge --help`"
    ]
    assert purge("y\n").stdout == "1 task cancelled\n"


def test_cancel_leaves_a_running_task_alone_unless_told_to_terminate(cluster: Cluster, run: Run) -> None:
    cluster.router()
    cluster.worker("w")
    result = send(cluster.client(), "work", 1, 600.0)
    wait_until(cluster.runs, 10.0, "the task starts")
    code, _, err = run("cancel", result.id)
    assert code == 1
    assert "without --terminate" in err
    assert run("cancel", "--terminate", result.id) == (0, f"{result.id} cancelled", "")
    assert run("cancel", "--json", result.id) == (0, json.dumps({result.id: "REVOKED"}), "")


def test_a_worker_whose_app_cannot_be_loaded_ends_with_one_line(cluster: Cluster) -> None:
    cluster.router()
    code, err = fails("worker", "-A", "no_such_module", "-c", "1", "-l", "error", cluster=cluster)
    assert code == 2
    last = err.strip().splitlines()[-1]
    assert last.startswith("mesh: error: ") and "no_such_module" in last
    assert "Traceback" not in err


def test_a_second_router_on_a_store_says_who_holds_it(cluster: Cluster) -> None:
    first = cluster.router()
    code, err = fails("router", cluster=cluster)
    assert code == 2
    assert err.startswith("mesh: error: ") and err.count("\n") == 1
    assert f"pid {first.pid}" in err


def test_a_name_and_a_log_file_may_stand_for_the_host(cluster: Cluster) -> None:
    cluster.router()
    log, pid = cluster.place / "w1.log", cluster.place / "w1.pid"
    node = cluster.start(
        "quiet", "worker", "-n", "w1@%n", "-c", "1", "-f", f"{cluster.place}/%n.log", "--pidfile", str(pid)
    )
    wait_until(lambda: log.exists() and "welcomed" in log.read_text(), 10.0, "the worker logs into its file")
    assert int(pid.read_text()) == node.pid
    node.terminate()
    assert node.wait(10.0) == 0
    assert not pid.exists()
    assert node.text() == ""


# mesh up


def up(cluster: Cluster, *flags: str, wait: bool = True) -> Node:
    """Start ``mesh up`` and wait for its friendly words."""
    node = cluster.start(f"up{len(cluster.nodes)}", "up", "-A", APP, "-c", "1", *flags)
    if wait:
        wait_until(lambda: "submit from any script" in node.text(), 20.0, "mesh up says how to use it")
    return node


def child(node: Node, role: str) -> psutil.Process | None:
    try:
        children = psutil.Process(node.pid).children()
    except psutil.NoSuchProcess:
        return None
    return next((c for c in children if c.status() != psutil.STATUS_ZOMBIE and role in c.cmdline()), None)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def test_up_starts_a_mesh_and_tells_how_to_use_it(cluster: Cluster, run: Run) -> None:
    node = up(cluster)
    text = node.text()
    assert "mesh 't' is up" in text
    assert str(cluster.store) in text
    assert "power cuts" in text
    assert run("call", f"{APP}.echo", "-a", "[5]", "--wait") == (0, "5", "")


def test_up_ends_all_it_started_in_order(cluster: Cluster) -> None:
    node = up(cluster, "-l", "info")
    family = psutil.Process(node.pid).children(recursive=True)
    assert len(family) == 3  # router, worker, one executor
    node.terminate()
    assert node.wait(20.0) == 0
    assert not alive(family)
    text = node.text()
    assert text.index("leaves") < text.index("router stops")
    left = [path.name for path in Path(os.environ["MESH_RUNTIME_DIR"]).iterdir()]
    assert not left, "nothing of it is found any more"


def test_up_lets_running_tasks_finish_before_it_ends(cluster: Cluster) -> None:
    node = up(cluster)
    result = send(cluster.client(), "work", 42, 1.0)
    wait_until(cluster.runs, 10.0, "the task starts")
    node.process.send_signal(signal.SIGINT)
    assert node.wait(20.0) == 0
    assert [run.what for run in cluster.runs()] == ["start", "end"]
    assert (result.id, "succeeded") in cluster.outcomes()


def test_a_second_signal_ends_up_at_once(cluster: Cluster) -> None:
    node = up(cluster, "-l", "info")
    send(cluster.client(), "work", 1, 600.0)
    wait_until(cluster.runs, 10.0, "the task starts")
    family = psutil.Process(node.pid).children(recursive=True)
    node.terminate()
    wait_until(lambda: "asked to stop" in node.text(), 5.0, "the worker drains")
    node.terminate()
    node.wait(15.0)
    assert not alive(family)


@pytest.mark.chaos
@pytest.mark.parametrize("role", ["router", "worker"])
def test_up_starts_a_killed_child_again(cluster: Cluster, run: Run, role: str) -> None:
    node = up(cluster)
    victim = child(node, role)
    assert victim is not None
    victim.kill()
    wait_until(lambda: f"{role} was killed by SIGKILL" in node.text(), 5.0)
    again = wait_until(lambda: child(node, role), 10.0, f"another {role} is started")
    assert again.pid != victim.pid
    assert run("call", f"{APP}.echo", "-a", "[6]", "--wait", "--timeout", "20") == (0, "6", "")


@pytest.mark.chaos
def test_nothing_outlives_a_supervisor_that_is_killed(cluster: Cluster) -> None:
    node = up(cluster)
    family = psutil.Process(node.pid).children(recursive=True)
    node.process.kill()
    node.process.wait()
    wait_until(lambda: not alive(family), 15.0, "router, worker and executor end with their supervisor")


def test_up_beside_a_router_that_runs_starts_only_a_worker(cluster: Cluster, run: Run) -> None:
    first = up(cluster)
    second = up(cluster)
    assert f"uses the router ipc://{cluster.place}" in second.text()
    assert child(second, "router") is None
    assert len(status(run)["workers"]) == 2
    second.terminate()
    assert second.wait(20.0) == 0
    assert child(first, "router") is not None
    assert len(status(run)["workers"]) == 1


def test_up_ends_with_the_line_of_the_child_that_cannot_work(cluster: Cluster) -> None:
    code, err = fails("up", "-A", "no_such_module", "-c", "1", cluster=cluster)
    assert code == 2
    lines = err.strip().splitlines()
    assert [line for line in lines if line.startswith("mesh: error: ")] == [lines[-1]]
    assert "no_such_module" in lines[-1]


def test_the_demo_loses_nothing(cluster: Cluster, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nodes", "demo"],
        cwd=tmp_path,
        env=cluster.environ | {"TMPDIR": str(cluster.place)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert done.stdout.count("kill -9") == 2
    assert "Nothing was lost" in done.stdout
    assert not [path for path in cluster.place.glob("mesh-demo-*") if path.exists()]
    assert not os.path.exists(cluster.store), "the demo touches nothing of the user's"


@pytest.mark.parametrize("verb", ["status", "call", "join"])
def test_a_name_that_nobody_has_is_an_error_at_once(cluster: Cluster, verb: str) -> None:
    cluster.environ["MESH_KEY"] = new_key().text
    more = {"call": ["tasks.add"], "join": [cluster.environ["MESH_KEY"]]}.get(verb, [])
    code, errors = fails(verb, *more, "--router", "no..such.host:6374", cluster=cluster)
    assert code == 2
    assert "name not known: tcp://no..such.host:6374" in errors


def test_an_address_where_nothing_listens_is_named(cluster: Cluster) -> None:
    cluster.environ["MESH_KEY"] = new_key().text
    code, errors = fails("status", "--router", "127.0.0.1:1", cluster=cluster)
    assert code == 3
    assert "nothing listens at tcp://127.0.0.1:1" in errors
