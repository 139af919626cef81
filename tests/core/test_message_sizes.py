"""Whatever is asked for at once, each message is one that a peer will take."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mesh.core.client import ClientMachine
from mesh.core.commands import Command, Send
from mesh.core.events import ResultsWatched, RouterFound, TasksCancelled, TasksSubmitted
from mesh.core.packing import MESSAGE_BYTES_MAX
from mesh.messages import Cancel, Deliver, Outcomes, Query, Reply, Settled, Submit, Watch
from mesh.model import Ending, ErrorInfo, TaskExtra, TaskOptions, TaskSpec
from mesh.settings import Settings
from tests.core.make import C1, C2, W1, WELCOME, WORK, Driven, at, got, hello_client, hello_worker, sent, settlement

encode = msgspec.msgpack.Encoder().encode
IDS = [f"{i:05d}" + "錯" * 50 for i in range(5_000)]
HEADERS = TaskExtra({"trace": "x" * 1_700})


def fit(commands: Sequence[Command]) -> bool:
    return all(len(encode(c.message)) <= MESSAGE_BYTES_MAX for c in commands if isinstance(c, Send))


def client() -> ClientMachine:
    machine = ClientMachine("node", "client", Settings())
    machine.handle([RouterFound(C1)], at(0.0))
    machine.handle([got(C1, WELCOME)], at(0.0))
    return machine


def test_many_cancels_and_watched_ids_are_several_messages() -> None:
    commands = client().handle([TasksCancelled(IDS, True), ResultsWatched(IDS)], at(1.0))
    assert fit(commands)
    for verb in (Cancel, Watch):
        parts = [message.ids for message in sent(commands) if isinstance(message, verb)]
        assert [task_id for part in parts for task_id in part] == IDS and len(parts) > 1


def test_tasks_with_headers_or_options_of_their_own_are_several_batches() -> None:
    options = [TaskOptions("n" * 200, f"{i}" + "錯" * 190) for i in range(2_000)]
    tasks = [TaskSpec(task_id, i, b"", extra=HEADERS) for i, task_id in enumerate(IDS[:2_000])]
    commands = client().handle([TasksSubmitted(options, tasks)], at(1.0))
    assert fit(commands)
    batches = [message for message in sent(commands) if isinstance(message, Submit)]
    queues = [batch.options[task.option].queue for batch in batches for task in batch.tasks]
    assert queues == [one.queue for one in options]


def test_deliveries_with_headers_are_several_messages() -> None:
    mesh = Driven()
    mesh.hear(C1, hello_client())
    mesh.hear(W1, hello_worker(window=10_000))
    commands: list[Command] = []
    for batch in range(6):
        ids = IDS[batch * 500 : (batch + 1) * 500]
        tasks = [TaskSpec(task_id, 0, b"", extra=HEADERS) for task_id in ids]
        commands += mesh.hear(C1, Submit(batch, [WORK], tasks))
    assert fit(commands)
    parts = [message.tasks for message in sent(commands, W1) if isinstance(message, Deliver)]
    assert [task.id for part in parts for task in part] == IDS[:3_000]


def test_errors_are_told_to_those_who_watch_in_messages_that_fit() -> None:
    mesh = Driven()
    mesh.hear(C1, hello_client())
    mesh.hear(C2, hello_client("other"))
    mesh.hear(W1, hello_worker(window=1_000))
    mesh.hear(C1, Submit(1, [WORK], [TaskSpec(task_id, 0, b"") for task_id in IDS[:300]]))
    mesh.hear(C2, Watch(IDS[:300]))
    error = ErrorInfo("ValueError", "錯" * 4_096, "錯" * 30_000, None, "錯" * 1_024)
    words = [settlement(task_id, ending=Ending.FAILED, error=error) for task_id in IDS[:300]]
    commands = mesh.hear(W1, *(Settled(i, words[i * 10 : i * 10 + 10]) for i in range(30)))
    assert fit(commands)
    told = [
        outcome.id for message in sent(commands, C2) if isinstance(message, Outcomes) for outcome in message.outcomes
    ]
    assert told == IDS[:300]


def test_a_status_of_very_many_queues_names_the_fullest_and_says_that_it_is_cut() -> None:
    mesh = Driven()
    mesh.hear(
        C1,
        hello_client(),
    )
    for batch in range(4):
        options = [TaskOptions("work", f"{batch}-{i}-" + "錯" * 190) for i in range(1_000)]
        mesh.hear(C1, Submit(batch, options, [TaskSpec(f"{batch}-{i}", i, b"") for i in range(1_000)]))
    mesh.hear(C1, Submit(9, [TaskOptions("work", "fullest")], [TaskSpec("a", 0, b""), TaskSpec("b", 0, b"")]))
    [reply] = [m for m in sent(mesh.hear(C1, Query(1, "status"))) if isinstance(m, Reply)]
    assert fit([Send(C1, reply)])
    answer = msgspec.json.decode(reply.body)
    assert "fullest" in {queue["name"] for queue in answer["queues"]}
    assert answer["left_out"] == {"queues": 4_001 - len(answer["queues"]), "workers": 0}
