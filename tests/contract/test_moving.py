"""A store that is read, checked, copied and moved has the same in it afterwards, whatever kind it is."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from mesh.clock import Now
from mesh.core.commands import (
    AppendBatch,
    DropBatches,
    DropBlobs,
    DropEntry,
    DropOutcomes,
    RecordOutcomes,
    SaveApp,
    SaveEntry,
    SaveFunction,
    SaveMarks,
    SaveNode,
    SavePositions,
)
from mesh.core.router import RouterMachine
from mesh.entries import Entry, Position
from mesh.errors import ConfigError, StoreDamaged, StoreError, StoreFull, StoreLocked, StoreMoved
from mesh.messages import Submit
from mesh.model import Blob, FunctionCode, NodeInfo, Outcome, TaskMark, TaskOptions, TaskSpec
from mesh.schedules import Every
from mesh.settings import Settings
from mesh.store.backup import backup
from mesh.store.base import Recovered, Store
from mesh.store.blob_file import file_name
from mesh.store.check import check
from mesh.store.migrate import Ends, migrate
from mesh.store.open import hold, open_reader, open_store, open_target
from mesh.store.sqlite import SqliteStore
from tests.contract.stores import BLOB, ERROR, PARTS, outcome_of
from tests.redis_server import KEYS, own_url, redis_server

ROUTERS = Settings(mesh="m", free_bytes_min=0, store_lock_s=60.0)
SETTINGS = replace(ROUTERS, store_lock_s=1.0)  # so long a lock that is held is waited for
ARGS = Blob("t5:args", [70_000])
NEW_ARGS = Blob("t4:args:2", [3, 66_000])
CODE = Blob("f2:code", [80_000])
OUTCOMES = ["a", "x", "y", "z", "big"]
IDS = [*OUTCOMES, "b", "c", "d", "e", *(f"bulk{n}" for n in range(450))]


@dataclass
class Place:
    """Where a store of one kind is, and others like it."""

    new: Callable[[], str]
    kind: str

    def open(self, url: str, **options: Any) -> Store:
        return open_store(url, settings=ROUTERS, keys=lambda: KEYS, **options)


@pytest.fixture
def files(tmp_path: Path) -> Place:
    numbers = iter(range(99))
    return Place(lambda: f"sqlite://{tmp_path}/s{next(numbers)}.db", "sqlite")


@pytest.fixture
def servers() -> Place:
    url = redis_server().url
    return Place(lambda: own_url(url), "redis")


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.processes)])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue("files" if request.param == "sqlite" else "servers")
    return found


def bytes_of(blob: Blob) -> list[bytes]:
    return [bytes([65 + n % 26]) * size for n, size in enumerate(blob.sizes)]


def fill(store: Store) -> None:
    """What a router leaves that was killed at a bad moment, and started twice before."""
    store.recover()
    store.recover()
    options = [TaskOptions("tasks.add", function="f1")]
    specs = {1: ["a", "b"], 2: ["x", "y"], 3: ["c", "d"], 4: ["e"]}
    for seq, ids in specs.items():
        payload = ARGS if seq == 4 else b"args"
        if seq == 4:
            store.put_blob(ARGS, bytes_of(ARGS))
        raw = msgspec.msgpack.encode(Submit(seq, options, [TaskSpec(i, 0, payload) for i in ids]))
        store.commit([AppendBatch(seq, Submit(0, [], []), raw, 1000.0 + seq)])
    store.put_blob(BLOB, PARTS)
    store.commit([RecordOutcomes([outcome_of("big", batch=2, payload=BLOB), outcome_of("x", batch=2)])])
    failed = outcome_of("y", batch=2, state="failed", payload=b"", error=ERROR)
    store.commit([RecordOutcomes([msgspec.convert(msgspec.to_builtins(failed), Outcome)]), DropBatches([2])])
    store.commit([RecordOutcomes([outcome_of("a", batch=1), outcome_of("c", batch=3), outcome_of("z", batch=9)])])
    store.commit([DropOutcomes(["c"])])
    store.commit([RecordOutcomes([outcome_of(f"bulk{n}", batch=2) for n in range(450)])])
    store.put_blob(NEW_ARGS, bytes_of(NEW_ARGS))
    store.commit(
        [
            SaveMarks([TaskMark("b", 1, 3, 2, 1, 5000.5, b"new args", False, 1, ("SIGKILL",))]),
            SaveMarks([TaskMark("d", 3, 2, 1, 0, None, NEW_ARGS, True)]),
            SaveNode(NodeInfo("n1", "worker@host")),
            SaveFunction(FunctionCode("f1", "3.11", b"code"), 77.5),
        ]
    )
    store.put_blob(CODE, bytes_of(CODE))
    store.commit([SaveFunction(FunctionCode("f2", "3.12", CODE), 66.5)])
    entry = Entry("nightly", Every(60.0), TaskOptions("tasks.add"), b"entry args", "tasks", revised_at=9.0)
    store.commit(
        [SaveApp("tasks", 8.0), SaveEntry(entry), SavePositions([Position("nightly", 60_000_000, "b", "", 3)])]
    )
    for seq in (10, 11):
        store.commit([AppendBatch(seq, Submit(0, [], []), b"", 1.0), DropBatches([seq])])


@dataclass
class Found:
    """All that a router can have of a store."""

    recovered: Recovered
    outcomes: dict[str, Outcome]
    functions: list[FunctionCode | None]
    payloads: dict[str, bytes]


def all_of(store: Store) -> Found:
    found = store.recover()
    found.batches.sort(key=lambda batch: batch.seq)
    found.marks.sort(key=lambda mark: mark.id)
    outcomes = {outcome.id: outcome for outcome in store.outcomes(IDS)}
    payloads = {blob.key: b"".join(store.read_blob(blob) or ()) for blob in (BLOB, ARGS, NEW_ARGS, CODE)}
    return Found(found, outcomes, [store.function(digest) for digest in found.functions], payloads)


def filled(place: Place) -> str:
    url = place.new()
    with closing(place.open(url)) as store:
        fill(store)
    return url


def read(place: Place, url: str) -> Any:
    return open_reader(url, settings=SETTINGS, keys=lambda: KEYS)


@contextmanager
def ends(place: Place, source: str, target: str) -> Iterator[Ends]:
    keys = {"settings": SETTINGS, "keys": lambda: KEYS}
    with (
        closing(open_reader(source, **keys)) as reader,
        closing(hold(source, **keys)) as held,
        closing(open_target(target, reader.facts().router_id, **keys)) as to,
        closing(open_reader(target, **keys)) as to_reader,
    ):
        yield Ends(reader, held, to, to_reader)


def move(place: Place, source: str, target: str, **options: Any) -> Any:
    with ends(place, source, target) as both:
        return migrate(both, lambda kind, count: None, **options)


def found_in(place: Place, url: str, **options: Any) -> Found:
    with closing(place.open(url, **options)) as store:
        return all_of(store)


# reading beside a router


def test_facts_are_told_while_a_router_has_the_store(place):
    url = filled(place)
    with closing(place.open(url)), closing(read(place, url)) as reader:
        facts = reader.facts()

    assert (facts.boot, facts.last_seq, facts.batches, facts.functions, facts.entries) == (2, 11, 3, 2, 1)
    assert (facts.marks, facts.outcomes, facts.move) == (2, 455, None)
    assert f"pid {os.getpid()} on" in facts.holder
    assert facts.size > 0


def test_reading_takes_no_lock_and_leaves_the_store_as_it_was(place):
    url = filled(place)
    with closing(read(place, url)) as reader:
        before = reader.facts()
        check(reader)
        with closing(place.open(url)):
            pass
        after = reader.facts()

    assert before.holder is None
    assert (before.boot, before.commits) == (after.boot, after.commits)


def test_a_whole_store_is_found_whole_with_every_row_and_payload_counted(place):
    url = filled(place)
    with closing(place.open(url)), closing(read(place, url)) as reader:
        checked = check(reader)

    assert checked.is_whole
    counts = {"batches": 3, "marks": 2, "nodes": 1, "apps": 1, "entries": 1, "positions": 1, "functions": 2}
    assert checked.counts() == counts | {"outcomes": 455, "payloads": 4}


def test_a_missing_store_is_said_to_be_missing_and_is_not_made(tmp_path, files):
    with pytest.raises(StoreError, match="there is no store"):
        read(files, f"sqlite://{tmp_path}/none.db")
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_store_is_refused(tmp_path, files):
    (tmp_path / "text.db").write_text("no database, whatever its name says" * 100)
    with pytest.raises(StoreError, match="this is no store"):
        read(files, f"sqlite://{tmp_path}/text.db")
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE things (id)")
    with pytest.raises(StoreError, match="another program"):
        read(files, f"sqlite://{tmp_path}/other.db")


def test_a_store_of_a_newer_version_is_refused(tmp_path, files):
    url = filled(files)
    with closing(sqlite3.connect(tmp_path / "s0.db")) as connection:
        connection.execute("INSERT INTO _sqlite_migrations (migration_set, name) VALUES ('taskmesh', 'teleport')")
        connection.commit()
    with pytest.raises(StoreError, match=r"newer version \(it has teleport\)"):
        read(files, url)


@pytest.mark.processes
def test_redis_without_a_store_and_with_another_key_is_refused(servers):
    with pytest.raises(StoreError, match="there is no store"):
        read(servers, servers.new())
    url = filled(servers)
    with pytest.raises(ConfigError, match="another key of the mesh"):
        open_reader(url, settings=SETTINGS, keys=lambda: [("k2", b"another secret")])


@pytest.mark.processes
def test_a_router_without_a_journal_in_redis_is_not_taken_for_one_with_an_empty_journal(servers):
    url = filled(servers)
    with closing(servers.open(f"{url}&router=other")) as other:
        with pytest.raises(StoreError, match=r"no journal of router nix there; there are: ") as refused:
            read(servers, f"{url}&router=nix")
        assert f"other {other.router_id} (of pid {os.getpid()} on " in str(refused.value)
        assert str(refused.value).partition("there are: ")[2].count(",") == 1
        with pytest.raises(StoreLocked, match="stop that one") as locked:
            hold(f"{url}&router=other", settings=replace(SETTINGS, store_lock_s=0.2), keys=lambda: KEYS)
        assert "router=NAME" not in str(locked.value)
    read(servers, f"{url}&router=other").close()
    nothing_of_this_machine = servers.new()
    servers.open(f"{nothing_of_this_machine}&router=other").close()
    with pytest.raises(StoreError, match=r"no journal of this machine's router [0-9a-f]{12} there; there are: "):
        read(servers, nothing_of_this_machine)


@pytest.mark.processes
def test_a_journal_in_redis_of_another_format_is_refused(servers):
    url = filled(servers)
    admin = redis.Redis.from_url(redis_server().url)
    (meta,) = admin.keys(f"{url.partition('prefix=')[2]}:*:meta")
    admin.hset(meta, "format", "3")
    with pytest.raises(ConfigError, match="has format 3, and this version knows 2"):
        read(servers, url)


# damage


def test_damaged_rows_and_payloads_of_a_file_are_named(tmp_path, files):
    url = filled(files)
    with closing(sqlite3.connect(tmp_path / "s0.db")) as connection:
        connection.execute("UPDATE journal SET raw = x'00' WHERE seq = 3")
        connection.execute("UPDATE marks SET raw = x'00' WHERE id = 'b'")
        connection.execute("UPDATE results SET result = x'00' WHERE id = 'x'")
        connection.execute("UPDATE functions SET payload = x'00' WHERE digest = 'f1'")
        connection.commit()
    (tmp_path / "s0.db.blobs" / file_name(BLOB.key)).unlink()
    with closing(read(files, url)) as reader:
        checked = check(reader)

    damaged = {name: kind.keys for name, kind in checked.kinds.items() if kind.damaged}
    expected = {"batches": ["3"], "marks": ["b"], "outcomes": ["x"], "functions": ["f1"], "payloads": [BLOB.key]}
    assert damaged == expected
    assert checked.damaged == 5
    assert not checked.is_whole


@pytest.mark.processes
def test_damaged_rows_and_payloads_in_redis_are_named(servers):
    url = filled(servers)
    admin = redis.Redis.from_url(redis_server().url)
    base = f"{url.partition('prefix=')[2]}:{{m}}:"
    (mine,) = {key.rpartition(b":")[0].decode() for key in admin.keys(f"{base}r:*:meta")}
    for key, field in ((f"{mine}:marks", "b"), (f"{mine}:journal", "3"), (f"{base}outcomes", "x")):
        row = admin.hget(key, field)
        admin.hset(key, field, row[:-1] + bytes([row[-1] ^ 1]))
    admin.delete(f"{mine}:b:{BLOB.key}")
    with closing(read(servers, url)) as reader:
        checked = check(reader)

    damaged = {name: kind.keys for name, kind in checked.kinds.items() if kind.damaged}
    assert damaged == {"batches": ["3"], "marks": ["b"], "outcomes": ["x"], "payloads": [BLOB.key]}


def test_a_position_without_its_entry_is_a_fault_until_the_router_starts(place):
    url = filled(place)
    with closing(place.open(url)) as store:
        store.recover()
        store.commit([SavePositions([Position("nobody's", 5)])])
    with closing(read(place, url)) as reader:
        checked = check(reader)
        assert "positions without an entry: nobody's (1 in all)" in " ".join(checked.faults)
        assert checked.whole > 0 and not checked.damaged
    with closing(place.open(url)) as store:
        found = store.recover()
        machine = RouterMachine("r", "router", ROUTERS)
        machine.restore([], [], [], apps=found.apps, entries=found.entries, positions=found.positions)
        store.commit([record for record in machine.handle([], Now(1e9, 1.0)) if isinstance(record, DropEntry)])
    with closing(read(place, url)) as reader:
        assert check(reader).is_whole


def test_an_entry_without_its_position_is_a_fault_until_the_router_starts(place):
    url = filled(place)
    lost, gone = (Entry(name, Every(5.0), TaskOptions("work"), gone=name == "gone") for name in ("lost", "gone"))
    with closing(place.open(url)) as store:
        store.recover()
        store.commit([SaveEntry(lost), SaveEntry(gone)])
    with closing(read(place, url)) as reader:
        checked = check(reader)
        assert "entries without a position: lost (1 in all)" in " ".join(checked.faults)
    with closing(place.open(url)) as store:
        found = store.recover()
        machine = RouterMachine("r", "router", ROUTERS)
        machine.restore([], [], [], apps=found.apps, entries=found.entries, positions=found.positions)
        store.commit([record for record in machine.handle([], Now(1e9, 1.0)) if isinstance(record, SavePositions)])
    with closing(read(place, url)) as reader:
        assert check(reader).is_whole


@pytest.mark.processes
def test_rows_in_redis_that_nothing_names_and_names_of_nothing_are_faults(servers):
    url = filled(servers)
    admin = redis.Redis.from_url(redis_server().url)
    base = f"{url.partition('prefix=')[2]}:{{m}}:"
    with closing(read(servers, url)) as reader:
        assert check(reader).is_whole
        admin.zrem(f"{base}expiries", "x")
        admin.zadd(f"{base}expiries", {"nobody's": 5.0})
        (used,) = {name.decode() for key in admin.keys(f"{base}r:*:functions") for name in admin.zrange(key, 0, 0)}
        admin.hdel(f"{base}functions", used)
        admin.delete(f"{base}routers")
        faults = check(reader).faults
    assert [fault.partition(":")[0] for fault in faults] == [
        "outcomes without an expiry, which never go",
        "expiries of outcomes that are not there",
        "functions without their code",
        "the journal is not in the list of routers",
    ]
    assert [name in fault for name, fault in zip(["x (1", "nobody's (1", f"{used} (1"], faults)] == [True] * 3


def test_a_journal_that_lost_its_tail_is_a_fault(tmp_path, files):
    url = filled(files)
    shutil.copy(tmp_path / "s0.db", tmp_path / "older.db")
    with closing(files.open(url)) as store:
        store.commit([SaveNode(NodeInfo("n2", "other"))])
    shutil.copy(tmp_path / "older.db", tmp_path / "s0.db")
    with closing(read(files, url)) as reader:
        assert "not there any more" in " ".join(check(reader).faults)


# backup


def test_a_backup_made_while_a_router_runs_is_a_store_with_the_same_in_it(place, files, tmp_path):
    url = filled(place)
    with closing(place.open(url)) as store, closing(read(place, url)) as reader:
        made = backup(reader, tmp_path / "copy.db", lambda kind, count: None)
        expected = all_of(store)

    assert made.is_whole
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(("copy", "."))) == [
        "copy.db",
        "copy.db.blobs",
    ]
    assert found_in(files, f"sqlite://{tmp_path}/copy.db") == expected


def test_a_backup_has_one_moment_of_a_file_that_is_written_to_meanwhile(files, tmp_path):
    """Each commit drops one payload and brings the next: there is always exactly one that counts."""
    url = files.new()
    blobs = [Blob(f"t{n}:args", [70_000 + n]) for n in range(30)]
    with closing(files.open(url)) as store, closing(read(files, url)) as reader:
        store.recover()

        def turn(n: int) -> None:
            store.put_blob(blobs[n], bytes_of(blobs[n]))
            seqs = [AppendBatch(n + 1, Submit(0, [], []), raw_of(blobs[n]), 1.0)]
            store.commit([*seqs, DropBatches([n])])
            store.commit(
                [RecordOutcomes([outcome_of(f"t{n}", payload=blobs[n], batch=n + 1)]), DropOutcomes([f"t{n - 1}"])]
            )

        turn(0)
        steps = iter(range(1, 30))
        made = backup(reader, tmp_path / "copy.db", lambda kind, count: turn(next(steps)))

    assert made.is_whole
    assert made.checked.counts()["batches"] == 1


@pytest.mark.parametrize("another_disk", [False, True])
def test_copies_made_while_payloads_come_and_go_have_all_that_they_name(files, tmp_path, another_disk):
    with tempfile.TemporaryDirectory(dir=None if another_disk else tmp_path) as directory:
        _copy_while_payloads_come_and_go(files, Path(directory))


def _copy_while_payloads_come_and_go(files: Place, directory: Path) -> None:
    url = files.new()
    started, stopping = threading.Event(), threading.Event()

    def churn() -> None:
        with closing(files.open(url)) as store:
            store.recover()
            n = 0
            while not stopping.is_set():
                n += 1
                blob = Blob(f"t{n}:args", [70_000])
                store.put_blob(blob, bytes_of(blob))
                gone = [DropBatches([n - 5]), DropBlobs([Blob(f"t{n - 5}:args", [70_000])])] if n > 5 else []
                store.commit([AppendBatch(n, Submit(0, [], []), raw_of(blob), 1.0), *gone])
                if n == 10:
                    started.set()

    router = threading.Thread(target=churn)
    router.start()
    try:
        assert started.wait(30.0)
        with closing(read(files, url)) as reader:
            made = [backup(reader, directory / f"copy{n}.db", lambda kind, count: None) for n in range(10)]
    finally:
        stopping.set()
        router.join()

    assert [copied.is_whole for copied in made] == [True] * 10
    assert all(copied.checked.counts()["payloads"] == 5 for copied in made)


def raw_of(blob: Blob) -> bytes:
    return msgspec.msgpack.encode(Submit(1, [TaskOptions("tasks.add")], [TaskSpec(blob.key[:-5], 0, blob)]))


@pytest.mark.processes
def test_what_finishes_while_redis_is_copied_is_finished_in_the_copy(servers, files, tmp_path):
    url = filled(servers)
    done: list[str] = []
    with closing(servers.open(url)) as store, closing(read(servers, url)) as reader:
        store.recover()

        def meanwhile(kind: str, count: int) -> None:
            if kind == "outcomes" and not done:  # the journal was read, and outcomes are
                done.append("e")
                store.commit([RecordOutcomes([outcome_of("e", batch=4)]), DropBatches([4])])
                store.commit([RecordOutcomes([outcome_of("b", batch=1)], ["b"]), DropOutcomes(["b"])])

        made = backup(reader, tmp_path / "copy.db", meanwhile)

    found = found_in(files, f"sqlite://{tmp_path}/copy.db").recovered
    assert made.is_whole
    assert {batch.seq: batch.settled for batch in found.batches} == {1: {"a", "b"}, 3: {"c"}}


class Late:
    """A reader before which something happens when a payload is read."""

    def __init__(self, reader: Any, before: Callable[[Blob], None]) -> None:
        self._reader = reader
        self._before = before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def read_blob(self, blob: Blob) -> Any:
        self._before(blob)
        return self._reader.read_blob(blob)


@pytest.mark.processes
@pytest.mark.parametrize("whole_batch", [True, False])
def test_a_task_that_ends_while_its_arguments_are_about_to_be_copied_is_finished_in_the_copy(
    servers, files, tmp_path, whole_batch
):
    url = filled(servers)
    ended: list[str] = []
    with closing(servers.open(url)) as store, closing(read(servers, url)) as reader:
        store.recover()
        store.put_blob(ARGS, bytes_of(ARGS))

        def end(blob: Blob) -> None:
            if blob != ARGS or ended:
                return
            ended.append(blob.key)
            drop = [DropBatches([4])] if whole_batch else []
            store.commit([RecordOutcomes([outcome_of("e", batch=4)]), DropBlobs([ARGS]), *drop])

        made = backup(Late(reader, end), tmp_path / "copy.db", lambda kind, count: None)

    assert (ended, made.left_out) == ([ARGS.key], {})
    assert made.is_whole
    found = found_in(files, f"sqlite://{tmp_path}/copy.db")
    open_batches = {batch.seq: batch.settled for batch in found.recovered.batches}
    assert open_batches == {1: {"a"}, 3: {"c"}} | ({} if whole_batch else {4: {"e"}})
    assert found.outcomes["e"] == outcome_of("e", batch=4)


@pytest.mark.processes
def test_arguments_that_are_replaced_while_they_are_about_to_be_copied_are_there_in_the_copy(servers, files, tmp_path):
    url = filled(servers)
    newer = Blob("e:args:2", [70_000])
    with closing(servers.open(url)) as store, closing(read(servers, url)) as reader:
        store.recover()

        def retry(blob: Blob) -> None:
            if blob == ARGS:
                store.put_blob(newer, bytes_of(newer))
                store.commit([SaveMarks([TaskMark("e", 4, 2, 1, 0, None, newer, True)]), DropBlobs([ARGS])])

        made = backup(Late(reader, retry), tmp_path / "copy.db", lambda kind, count: None)

    assert (made.is_whole, made.left_out) == (True, {})
    with closing(files.open(f"sqlite://{tmp_path}/copy.db")) as copied:
        assert b"".join(copied.read_blob(newer) or ()) == b"".join(bytes_of(newer))


@pytest.mark.processes
def test_a_copy_without_some_payloads_is_not_started_on_without_salvage(servers, tmp_path, files):
    url = filled(servers)
    with closing(servers.open(url)) as store, closing(read(servers, url)) as reader:
        store.recover()
        store.commit([DropBlobs([ARGS])])
        made = backup(reader, tmp_path / "copy.db", lambda kind, count: None)
    assert made.left_out == {"payloads": 1}
    copy = f"sqlite://{tmp_path}/copy.db"
    with closing(read(files, copy)) as reader:
        assert reader.faults() == ["large payloads that were left out when this copy was made: 1"]
    with pytest.raises(StoreDamaged, match=r"left out when this copy was made: 1.*start once with salvage"):
        files.open(copy)
    with closing(files.open(copy, salvage=True)) as salvaged:
        assert any("left out" in line for line in salvaged.salvaged)
    assert found_in(files, copy).recovered.batches


def test_a_backup_replaces_nothing_unless_it_is_forced(files, tmp_path):
    url = filled(files)
    with closing(read(files, url)) as reader:
        backup(reader, tmp_path / "copy.db", lambda kind, count: None)
        with pytest.raises(ConfigError, match="is there already; --force"):
            backup(reader, tmp_path / "copy.db", lambda kind, count: None)
        with closing(files.open(f"sqlite://{tmp_path}/copy.db")) as used:
            used.recover()
            with pytest.raises(StoreLocked):
                backup(reader, tmp_path / "copy.db", lambda kind, count: None, force=True)
        backup(reader, tmp_path / "copy.db", lambda kind, count: None, force=True)

    assert found_in(files, f"sqlite://{tmp_path}/copy.db").recovered.boot == 3


def test_a_backup_that_finds_no_room_leaves_nothing(files, tmp_path, monkeypatch):
    url = filled(files)

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mesh.store.backup.os.fdatasync", full)
    before = sorted(tmp_path.iterdir())
    with closing(read(files, url)) as reader, pytest.raises(StoreFull, match="the disk is full; nothing was left"):
        backup(reader, tmp_path / "copy.db", lambda kind, count: None)
    assert [path for path in sorted(tmp_path.iterdir()) if path not in before and "s0" not in path.name] == []


def test_a_damaged_store_can_be_copied_and_the_copy_says_so(files, tmp_path):
    url = filled(files)
    with closing(sqlite3.connect(tmp_path / "s0.db")) as connection:
        connection.execute("UPDATE results SET result = x'00' WHERE id = 'x'")
        connection.commit()
    with closing(read(files, url)) as reader:
        made = backup(reader, tmp_path / "copy.db", lambda kind, count: None)
    assert not made.is_whole
    assert made.checked.kinds["outcomes"].keys == ["x"]


# migrating


@pytest.mark.processes
def test_from_a_file_to_redis_and_back_all_stays_the_same(files, servers):
    first, second, third = filled(files), servers.new(), files.new()
    with closing(read(files, first)) as reader:
        facts = reader.facts()
    expected = found_in(files, first)  # counts a start
    assert facts.boot + 1 == expected.recovered.boot
    assert set(expected.outcomes) == {*OUTCOMES, *(f"bulk{n}" for n in range(450))}
    assert [batch.settled for batch in expected.recovered.batches] == [{"a"}, {"c"}, set()]
    assert all(expected.payloads.values())

    move(servers, first, second)
    move(servers, second, third)
    found = found_in(files, third)

    expected.recovered.boot += 1
    assert found == expected


@pytest.mark.processes
def test_a_router_stays_who_it_is_wherever_its_store_moves(files, servers):
    first, second, third = filled(files), servers.new(), files.new()
    with closing(files.open(first)) as store:
        router_id = store.router_id
    move(servers, first, second)
    with closing(servers.open(second)) as store:
        assert store.router_id == router_id
    move(servers, second, third)
    with closing(files.open(third)) as store:
        assert store.router_id == router_id
    with closing(files.open(files.new())) as store:
        assert store.router_id != router_id


@pytest.mark.processes
def test_a_router_has_one_journal_in_redis_under_one_name(files, servers):
    source, target = filled(files), servers.new()
    move(servers, source, f"{target}&router=one")
    with closing(read(servers, f"{target}&router=one")) as reader:
        router_id = reader.facts().router_id
        assert reader.facts().router_name == "one"
    with pytest.raises(ConfigError, match=r"has a journal there already, under another name: give TO \?router=one,"):
        move(servers, source, f"{target}&router=two", force=True)
    with pytest.raises(StoreError, match=rf"no journal of router two there; there are: one {router_id};"):
        read(servers, f"{target}&router=two")


@pytest.mark.processes
def test_a_move_that_is_refused_leaves_no_journal_behind(files, servers):
    source, target = filled(files), servers.new()
    move(files, source, files.new())
    with pytest.raises(StoreMoved, match="give --force"):
        move(servers, source, f"{target}&router=new")
    with pytest.raises(StoreError, match="no journal of router new there; there are: none;"):
        read(servers, f"{target}&router=new")


@pytest.mark.processes
def test_a_journal_comes_back_to_the_redis_that_it_was_moved_from(files, servers):
    shared, file = servers.new(), files.new()
    with closing(servers.open(f"{shared}&router=one")) as store:
        fill(store)
    with closing(servers.open(f"{shared}&router=two")) as other:
        other.recover()
        other.commit([RecordOutcomes([outcome_of("of two", batch=1)])])
    move(servers, f"{shared}&router=one", file)
    with closing(files.open(file)) as store:
        store.recover()
        store.commit([DropBatches([4]), DropBlobs([ARGS]), RecordOutcomes([outcome_of("e", batch=4)])])
        store.commit([DropEntry("nightly")])
        expected = all_of(store)
    move(servers, file, f"{shared}&router=one")
    expected.recovered.boot += 1
    with closing(servers.open(f"{shared}&router=one")) as store:
        store.prune(5.0, 1_000)
        found = all_of(store)
        assert [outcome.id for outcome in store.outcomes(["of two"])] == ["of two"]
    assert found == expected
    assert found.payloads[ARGS.key] == b""
    with closing(read(servers, f"{shared}&router=one")) as reader:
        assert check(reader).is_whole
    move(servers, f"{shared}&router=one", files.new())


@pytest.mark.processes
@pytest.mark.parametrize("what", ["parts of what was left there", "nodes", "outcomes"])
def test_a_move_back_that_was_stopped_goes_on(files, servers, what):
    shared, file = servers.new(), files.new()
    with closing(servers.open(shared)) as store:
        fill(store)
    move(servers, shared, file)
    expected = found_in(files, file)

    def stop(kind: str, count: int) -> None:
        if kind == what:
            raise KeyboardInterrupt

    with ends(servers, file, shared) as both, pytest.raises(KeyboardInterrupt):
        migrate(both, stop)
    with pytest.raises(StoreMoved):
        servers.open(shared)
    move(servers, file, shared)
    expected.recovered.boot += 1
    assert found_in(servers, shared) == expected


@pytest.mark.processes
def test_a_journal_that_moved_to_one_place_is_not_emptied_for_another(files, servers):
    source, first = servers.new(), files.new()
    with closing(servers.open(source)) as store:
        fill(store)
    move(servers, source, first)
    with pytest.raises(ConfigError, match=f"is not empty \\(it was moved to {first} on"):
        move(servers, filled(files), source)
    assert len(found_in(servers, source, force=True).recovered.batches) == 3


def test_a_file_that_was_moved_away_is_to_be_removed_before_it_comes_back(files):
    source, target = filled(files), files.new()
    move(files, source, target)
    with pytest.raises(ConfigError, match="remove this file first"):
        move(files, target, source)


@pytest.mark.processes
def test_a_journal_is_named_by_its_name_and_by_its_id(servers):
    shared = servers.new()
    with closing(servers.open(f"{shared}&router=one")) as store:
        fill(store)
        router_id = store.router_id
    for name in ("one", router_id):
        with closing(read(servers, f"{shared}&router={name}")) as reader:
            assert (reader.facts().router_id, reader.facts().router_name) == (router_id, "one")
        with closing(servers.open(f"{shared}&router={name}")) as store:
            assert store.router_id == router_id


@pytest.mark.processes
def test_results_of_other_routers_come_along_where_nobody_else_would_tell_them(files, servers):
    shared, left, taken = servers.new(), files.new(), files.new()
    with closing(servers.open(f"{shared}&router=one")) as store:
        fill(store)
    with closing(servers.open(f"{shared}&router=two")) as other:
        other.recover()
        other.commit([RecordOutcomes([outcome_of("of two", batch=1)])])
        move(servers, f"{shared}&router=one", left)
    move(servers, f"{shared}&router=one", taken, force=True)

    def found(url: str) -> list[str]:
        with closing(files.open(url)) as store:
            assert [batch.settled for batch in store.recover().batches] == [{"a"}, {"c"}, set()]
            return [outcome.id for outcome in store.outcomes(["a", "of two"])]

    assert (found(left), sorted(found(taken))) == (["a"], ["a", "of two"])


@pytest.mark.processes
def test_what_was_moved_to_redis_is_what_a_router_gets(files, servers):
    source, target = filled(files), servers.new()
    counts = move(servers, source, target).counts
    expected = found_in(files, source, force=True)

    assert found_in(servers, target) == expected
    assert counts["payloads"] == 4
    assert counts["outcomes"] == 455


def test_a_router_starts_on_the_target_only_once_it_was_moved(place, files):
    source, target = filled(place), files.new()
    move(place, source, target)

    with pytest.raises(StoreMoved, match=f"was moved to {target} on .* --force"):
        place.open(source)
    files.open(target).close()
    place.open(source, force=True).close()
    place.open(source).close()


def test_a_move_that_was_stopped_goes_on_and_no_router_starts_meanwhile(place, files):
    source, target = filled(place), files.new()

    class Stopped(Exception):
        pass

    def stop_at(kind: str, count: int) -> None:
        if kind == "outcomes" and count >= 200:
            raise Stopped

    with ends(place, source, target) as both, pytest.raises(Stopped):
        migrate(both, stop_at)
    with pytest.raises(StoreMoved, match="an unfinished copy of"):
        files.open(target)
    with pytest.raises(StoreMoved, match="an unfinished copy of"):
        files.open(target, force=True)
    move(place, source, target)

    expected = found_in(place, source, force=True)
    assert found_in(files, target) == expected


def test_a_move_does_not_go_on_with_another_source_nor_with_one_that_was_used_since(files):
    source, target = filled(files), files.new()

    def stop(kind: str, count: int) -> None:
        raise KeyboardInterrupt

    with ends(files, source, target) as both, pytest.raises(KeyboardInterrupt):
        migrate(both, stop)
    with pytest.raises(ConfigError, match="is not empty"):
        move(files, filled(files), target)
    with closing(files.open(source)) as store:
        store.recover()
    with pytest.raises(StoreMoved, match="before a router ran"):
        move(files, source, target)


def test_a_move_that_was_killed_between_its_last_two_notes_goes_on(place, files):
    source, target = filled(place), files.new()
    with ends(place, source, target) as both:
        write = both.target.note_move

        def killed(move: Any) -> None:
            if move is None:
                raise KeyboardInterrupt
            write(move)

        both.target.note_move = killed
        with pytest.raises(KeyboardInterrupt):
            migrate(both, lambda kind, count: None)
    for where, url in ((place, source), (files, target)):
        with pytest.raises(StoreMoved):
            where.open(url)
    move(place, source, target)
    assert found_in(files, target).recovered.boot == 3


def test_an_unfinished_copy_is_no_source_of_anything(files, tmp_path):
    source, target = filled(files), files.new()

    def stop(kind: str, count: int) -> None:
        raise KeyboardInterrupt

    with ends(files, source, target) as both, pytest.raises(KeyboardInterrupt):
        migrate(both, stop)
    with pytest.raises(StoreMoved, match="not all there"):
        move(files, target, files.new())
    with closing(read(files, target)) as reader, pytest.raises(StoreMoved, match="not all there"):
        backup(reader, tmp_path / "copy.db", lambda kind, count: None)


def test_a_store_that_lost_commits_is_not_moved(files, tmp_path):
    source = filled(files)
    shutil.copy(tmp_path / "s0.db", tmp_path / "older.db")
    with closing(files.open(source)) as store:
        store.commit([SaveNode(NodeInfo("n2", "other"))])
    shutil.copy(tmp_path / "older.db", tmp_path / "s0.db")
    with pytest.raises(StoreDamaged, match="not there any more"):
        move(files, source, files.new())


def test_a_store_whose_router_was_killed_is_read_with_its_newest_commits(files):
    url = files.new()
    if os.fork() == 0:
        try:
            fill(files.open(url))
        finally:
            os._exit(0)
    os.wait()
    with closing(read(files, url)) as reader:
        assert check(reader).is_whole
        assert reader.facts().holder is None
    target = files.new()
    move(files, url, target)
    assert found_in(files, target) == found_in(files, url, force=True)


@pytest.mark.processes
def test_two_journals_with_their_results_in_one_place_are_refused(servers):
    source = filled(servers)
    with pytest.raises(ConfigError, match=r"in one place|prefix= of its own"):
        move(servers, source, f"{source}&router=other")


def test_a_target_that_was_used_and_the_source_itself_are_refused(place):
    source = filled(place)
    with pytest.raises(ConfigError, match="is not empty"):
        move(place, source, filled(place))
    with pytest.raises((ConfigError, StoreLocked)):
        move(place, source, source)


def test_neither_store_may_be_in_use(place, files):
    source, target = filled(place), files.new()
    with closing(place.open(source)), pytest.raises(StoreLocked):
        move(place, source, target)
    with closing(files.open(target)), pytest.raises(StoreLocked):
        move(place, source, target)


def test_a_damaged_journal_is_not_moved_and_a_damaged_outcome_left_out(files, tmp_path):
    source = filled(files)
    with closing(sqlite3.connect(tmp_path / "s0.db")) as connection:
        connection.execute("UPDATE results SET result = x'00' WHERE id IN ('x', 'a')")
        connection.commit()
    (tmp_path / "s0.db.blobs" / file_name(ARGS.key)).unlink()
    target = files.new()
    copied = move(files, source, target)
    found = found_in(files, target)
    assert copied.left_out == {"outcomes": 2, "payloads": 1}
    assert {"x", "a"}.isdisjoint(found.outcomes)
    assert found.recovered.batches[0].settled == {"a"}, "it is finished all the same"

    with closing(sqlite3.connect(tmp_path / "s0.db")) as connection:
        connection.execute("UPDATE journal SET raw = x'00' WHERE seq = 3")
        connection.commit()
    with pytest.raises(StoreDamaged, match="batches: 3"):
        move(files, source, files.new(), force=True)


@pytest.mark.processes
def test_a_server_without_room_ends_it_with_a_sentence_and_it_goes_on_later(files, servers):
    source, target = filled(files), servers.new()
    admin = redis.Redis.from_url(redis_server().url)
    room = int(admin.info("memory")["used_memory"])
    seen: list[str] = []

    def fill_up(kind: str, count: int) -> None:
        if kind == "outcomes" and count and not seen:
            seen.append(kind)
            admin.config_set("maxmemory", max(1, room // 2))

    try:
        with ends(servers, source, target) as both, pytest.raises(StoreFull):
            migrate(both, fill_up)
    finally:
        admin.config_set("maxmemory", 0)
    move(servers, source, target)
    assert found_in(servers, target) == found_in(files, source, force=True)


def test_a_target_on_a_full_disk_ends_it_with_a_sentence(files, monkeypatch):
    source, target = filled(files), files.new()
    with ends(files, source, target) as both:

        def full(*args: object) -> None:
            raise StoreFull("the disk is full")

        monkeypatch.setattr(both.target, "commit", full)
        with pytest.raises(StoreFull):
            migrate(both, lambda kind, count: None)
    monkeypatch.undo()
    move(files, source, target)
    assert found_in(files, target) == found_in(files, source, force=True)


def test_the_lock_of_a_store_file_is_seen_without_being_taken(files, tmp_path):
    url = filled(files)
    with closing(read(files, url)) as reader:
        assert reader.facts().holder is None
        with closing(SqliteStore(tmp_path / "s0.db", ballast_bytes=0)):
            assert reader.facts().holder is not None
        assert reader.facts().holder is None
