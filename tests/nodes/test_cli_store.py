"""``mesh store``: what it prints, what it leaves alone, and its exit codes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from mesh.core.commands import AppendBatch, RecordOutcomes
from mesh.messages import Submit
from mesh.model import Blob, ErrorInfo, Outcome, TaskOptions, TaskSpec, TaskState
from mesh.store.sqlite import SqliteStore
from mesh.wire.payload import encode
from tests.nodes.test_cli import own_logs as own_logs
from tests.nodes.test_cli import run as run

Run = Callable[..., tuple[int, str, str]]

AT = 1_795_000_000.25


def payload(value: object) -> bytes:
    found = encode(value, key="k", inline_max=1 << 20, total_max=1 << 20).payload
    assert isinstance(found, bytes)
    return found


class Own:
    """A class of a user: what is pickled is not read."""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "my.db"
    with closing(SqliteStore(path, ballast_bytes=0)) as store:
        store.recover()
        raw = msgspec.msgpack.encode(Submit(1, [TaskOptions("tasks.add")], [TaskSpec(i, 0, b"args") for i in "abc"]))
        store.commit([AppendBatch(1, Submit(0, [], []), raw, AT)])
        large = payload("y" * 200_000)
        blob = Blob("large:result", [len(large)])
        store.put_blob(blob, [large])
        error = ErrorInfo("ValueError", "bad", "Traceback ...")
        results: dict[str, dict[str, object]] = {
            "a": {"payload": payload({"sum": [1, 2.5, None]})},
            "pickled": {"payload": payload(Own())},
            "nan": {"payload": payload(float("nan"))},
            "large": {"payload": blob},
            "failed": {"state": TaskState.FAILED, "error": error, "name": "tasks.div"},
        }
        outcomes = []
        for n, (task_id, changes) in enumerate(results.items()):
            values = {"state": TaskState.SUCCEEDED, "name": "tasks.add", "queue": "q", "batch": 1} | changes
            outcomes.append(Outcome(task_id, finished_at=AT + n, expires_at=AT + 9e6, **values))  # type: ignore[arg-type]
        store.commit([RecordOutcomes(outcomes)])
    return path


def test_info_tells_people_and_programs_what_is_there(run: Run, store: Path) -> None:
    code, out, _ = run("store", "info", f"sqlite://{store}")
    assert code == 0
    assert "unfinished tasks   2\n" in out
    data = json.loads(run("store", "info", "--store", f"sqlite://{store}", "--json")[1])
    expected = {"level": "disk", "unfinished_tasks": 2, "unfinished_batches": 1, "outcomes": 5, "boot": 1}
    assert expected.items() <= data.items()
    assert data["held_by"] is None
    assert run("store", "info", str(store), "--json")[1] == run("store", "info", "--store", "my.db", "--json")[1]


def test_a_store_that_is_not_there_is_said_to_be_missing(run: Run, tmp_path: Path) -> None:
    for verb in ("info", "check"):
        code, _, err = run("store", verb)
        assert code == 2
        assert "there is no store" in err
    assert not (tmp_path / "state").exists()
    assert run("store", "info", "memory://")[0] == 2


def test_check_ends_with_1_where_something_is_damaged_and_says_the_way_out(run: Run, store: Path) -> None:
    assert run("store", "check", f"sqlite://{store}")[0] == 0
    with closing(sqlite3.connect(store)) as connection:
        connection.execute("UPDATE results SET result = x'00' WHERE id = 'a'")
        connection.commit()

    code, out, err = run("store", "check", f"sqlite://{store}")
    assert code == 1
    assert "1 damaged: a\n" in out
    assert f"mesh router --salvage --mesh t --store sqlite://{store}" in err
    data = json.loads(run("store", "check", f"sqlite://{store}", "--json")[1])
    assert (data["whole"], data["damaged"], data["kinds"]["outcomes"]["keys"]) == (False, 1, ["a"])


def test_export_writes_each_outcome_as_a_line_and_unpickles_nothing(run: Run, store: Path) -> None:
    code, out, _ = run("store", "export", "-", "--store", f"sqlite://{store}")
    lines = {line["id"]: line for line in map(json.loads, out.splitlines())}

    assert code == 0
    assert [*lines] == ["a", "pickled", "nan", "large", "failed"]
    assert lines["a"]["result"] == {"sum": [1, 2.5, None]}
    assert lines["a"]["finished_at"].endswith("+00:00")
    assert "result" not in lines["pickled"]
    assert lines["pickled"]["result_bytes"] > 0
    assert "result" not in lines["nan"]
    assert lines["large"]["result"] == "y" * 200_000
    assert lines["failed"]["error"] == {"type": "ValueError", "message": "bad", "traceback": "Traceback ..."}


def test_export_takes_filters_and_a_file_that_it_does_not_replace(run: Run, store: Path, tmp_path: Path) -> None:
    where = ("--store", f"sqlite://{store}")

    def ids(*flags: str) -> list[str]:
        return [json.loads(line)["id"] for line in run("store", "export", "-", *where, *flags)[1].splitlines()]

    assert ids("--state", "failed") == ["failed"]
    assert ids("--state", "FAILURE") == ids("--state", "failure") == ["failed"]
    assert ids("--state", "SUCCESS") == ids("--state", "succeeded") == ["a", "pickled", "nan", "large"]
    assert ids("--name", "tasks.div", "--name", "tasks.mul") == ["failed"]
    assert ids("--since", "2026-11-18T11:06:43+00:00") == ["large", "failed"]
    assert run("store", "export", "-", *where, "--since", "yesterday")[0] == 2
    assert run("store", "export", "out.jsonl", *where)[:2] == (0, "out.jsonl: 5 outcomes\n")
    assert run("store", "export", "out.jsonl", *where)[0] == 2
    assert run("store", "export", "out.jsonl", *where, "--force", "--state", "failed")[0] == 0
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 1
    assert not list(tmp_path.glob(".*draft"))


def test_an_export_that_finds_no_room_leaves_nothing(run: Run, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mesh.store.draft_file.os.fsync", full)
    code, _, err = run("store", "export", "out.jsonl", "--store", f"sqlite://{store}")
    assert code == 3
    assert "the disk is full; nothing was left there" in err
    assert [path.name for path in store.parent.iterdir() if "out.jsonl" in path.name] == []


def test_backup_and_migrate_say_what_was_copied_and_where_to_go_on(run: Run, store: Path, tmp_path: Path) -> None:
    code, out, _ = run("store", "backup", "copy.db", "--store", f"sqlite://{store}")
    assert (code, out) == (0, "copy.db: 1 batches, 5 outcomes, 1 payloads\n")
    assert run("store", "backup", "copy.db", "--store", f"sqlite://{store}")[0] == 2
    target = f"sqlite://{tmp_path}/new.db"
    code, out, err = run("store", "migrate", f"sqlite://{tmp_path}/copy.db", target)
    assert (code, out) == (0, f"{target}: 5 outcomes, 1 payloads, 1 batches\n")
    assert f"start the router with --store {target}" in err
    assert f"moved to {target}" in run("store", "info", f"sqlite://{tmp_path}/copy.db")[1]
    code, _, err = run("store", "migrate", "copy.db", "new.db")
    assert code == 2
    assert "all of it is there already" in err
    with closing(SqliteStore(tmp_path / "new.db", ballast_bytes=0)):
        code, _, err = run("store", "migrate", "new.db", "third.db")
    assert code == 2
    assert "a router runs on it, or it is being moved: stop that first" in err
    assert "--store" not in err
